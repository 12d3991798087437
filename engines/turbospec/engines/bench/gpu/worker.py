"""Parts that drive an engine in a process of its own: `python -m … SETTINGS`, JSON of `Settings`' fields."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from turbospec.engines.bench.gpu.device import in_process_environment
from turbospec.engines.bench.gpu.plan import FULL, SMALL, Scale
from turbospec.engines.processes import Children

_PACKAGE = "turbospec.engines.bench.gpu"


@dataclass(frozen=True, slots=True)
class Settings:
    """`module`: of this package, has `measure(settings)`; the rest is for that. `deadline`: monotonic."""

    module: str
    scale: str
    pair: str
    models: str
    deadline: float
    output: str
    options: dict[str, Any]

    @property
    def sizes(self) -> Scale:
        return SMALL if self.scale == SMALL.name else FULL


def run(children: Children, settings: Settings, environment: Mapping[str, str] | None = None) -> Any:
    """Runs one worker to its end; what it measured. Raises ProcessFailedError where it fails."""
    name = f"{settings.module}-{settings.pair}"
    argv = [sys.executable, "-m", f"{_PACKAGE}.worker", json.dumps(asdict(settings))]
    variables = {**in_process_environment(settings.sizes), **(environment or {})}
    children.start(name, argv, variables).wait_done()
    return json.loads(Path(settings.output).read_text())


def main(text: str) -> int:
    """Measures, and writes what it found to the output file."""
    settings = Settings(**json.loads(text))
    found = importlib.import_module(f"{_PACKAGE}.{settings.module}").measure(settings)
    Path(settings.output).write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
