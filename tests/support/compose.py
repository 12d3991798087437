"""The shipped compose file, its variables and its Dockerfiles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "docker"
COMPOSE = FOLDER / "compose.yaml"
ENV_EXAMPLE = FOLDER / ".env.example"

# ${NAME:-default}, and ${NAME-default} for what may be empty.
_VARIABLE = re.compile(r"\$\{([A-Z_]+)(:?)-([^}$]*)\}")


def defaults() -> dict[str, set[str]]:
    """Of every variable in the compose file, its defaults: one, unless the file contradicts itself."""
    found: dict[str, set[str]] = {}
    for name, _, default in _VARIABLE.findall(COMPOSE.read_text()):
        found.setdefault(name, set()).add(default)
    return found


def documented() -> dict[str, str]:
    """The variables of .env.example with their values."""
    lines = [line for line in ENV_EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)  # type: ignore[misc]


def services(variables: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The services with variables put in, as Compose does it."""

    def value(found: re.Match[str]) -> str:
        name, colon, default = found.groups()
        given = variables.get(name)
        return default if given is None or (colon and not given) else given

    text = _VARIABLE.sub(value, COMPOSE.read_text())
    assert "${" not in text, "a form of substitution that docker-compose 1.29 does not have"
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
    return loaded


class Dockerfile:
    """A Dockerfile's instructions, lines joined, comments left out."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.text = path.read_text()
        joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", self.text, flags=re.MULTILINE))
        self.instructions = [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]

    def of(self, keyword: str) -> list[str]:
        """The arguments of all instructions of that name."""
        return [rest for name, rest in self.instructions if name == keyword]

    def last_stage(self, keyword: str) -> list[str]:
        """Those of the image that comes out."""
        start = max(i for i, (name, _) in enumerate(self.instructions) if name == "FROM")
        return [rest for name, rest in self.instructions[start:] if name == keyword]


def dockerfiles() -> list[Dockerfile]:
    return [Dockerfile(path) for path in sorted(FOLDER.glob("*.Dockerfile"))]
