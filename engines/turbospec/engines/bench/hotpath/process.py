"""One stage in a process of its own: `python -m … ENGINE SETTINGS`, a JSON object of `Settings`' fields."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from turbospec.engines.bench.hotpath import engine as vllm
from turbospec.engines.bench.hotpath import sglang
from turbospec.engines.bench.hotpath.plan import SGLANG, STAGES, VLLM
from turbospec.engines.bench.hotpath.worker import Engine, Settings, Worker
from turbospec.engines.models import MadeModels, make_models

ENGINES: Mapping[str, Callable[[MadeModels, int, int], Engine]] = {
    VLLM: vllm.Engine,
    SGLANG: sglang.Engine,
}


def main(engine: str, text: str) -> int:
    """Measures, and writes the stage's times to the output file."""
    settings = Settings(**json.loads(text))
    stage = STAGES[engine][settings.stage]

    def make_engine() -> Engine:
        models = make_models(Path(settings.models), "high", size=stage.size)
        return ENGINES[engine](models, stage.requests, stage.context)

    times = Worker(settings, stage, make_engine).measure()
    Path(settings.output).write_text(json.dumps(asdict(times)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
