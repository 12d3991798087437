"""What starting any engine under control takes: the user's arguments read, and one command made of them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shlex
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from turbospec.adapters.address import CONTROL_ADDRESS_VARIABLE, control_address, parse_address
from turbospec.adapters.support import ENGINE_ID_VARIABLE


class NotInstalledError(Exception):
    """The engine is not in this environment."""


class ArgumentError(ValueError):
    """An engine's arguments cannot be launched under control; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments, and the variables it needs beside those already set."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]

    def as_shell(self) -> str:
        """The command as a person would type it, quoted, variables first."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " \\\n".join([*variables, *_one_flag_per_line(self.argv)])

    def replace_process(self) -> NoReturn:
        """Becomes the command, so that signals and the exit status are the engine's."""
        os.execvpe(self.argv[0], self.argv, {**os.environ, **self.environment})


def control_environment(
    engine: str, port: str, control: str | None, engine_id: str | None, environ: Mapping[str, str]
) -> dict[str, str]:
    """The variables that put an engine under control.

    `control` and `engine_id` win over their variables in `environ`, those over the defaults: the controller's
    default socket, and a name from `engine`, host and `port`. Raises AddressError for an address that is
    none.
    """
    address = parse_address(control or control_address(environ)).target
    name = engine_id or environ.get(ENGINE_ID_VARIABLE) or f"{engine}-{socket.gethostname()}-{port}"
    return {CONTROL_ADDRESS_VARIABLE: address, ENGINE_ID_VARIABLE: name}


def flag_values(arguments: Sequence[str], *flags: str) -> list[str]:
    """Every value given to any of `flags` (dashed spelling), as `--flag value` or `--flag=value`.

    Underscores are accepted for dashes, as vLLM does. Raises ArgumentError for a flag without a value.
    """
    values = []
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") not in flags:
            continue
        if not equals:
            if index + 1 == len(arguments):
                raise ArgumentError(f"{name}: a value is missing")
            value = arguments[index + 1]
        values.append(value)
    return values


def with_config_file(arguments: Sequence[str]) -> list[str]:
    """The arguments with those of `--config FILE` before them, to check: the engine reads it itself."""
    files = flag_values(arguments, "--config")
    if not files:
        return list(arguments)
    if importlib.util.find_spec("yaml") is None:
        raise ArgumentError("--config: reading the file needs PyYAML, which comes with the engine")
    yaml = importlib.import_module("yaml")

    try:
        content = yaml.safe_load(Path(files[-1]).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ArgumentError(f"--config: cannot read {files[-1]}: {error}") from error
    if not isinstance(content, dict):
        raise ArgumentError(f"--config: {files[-1]} is not a mapping of flags to values")
    inserted = [
        f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in content.items()
    ]
    return inserted + list(arguments)


def version_of(distribution: str) -> str | None:
    """The installed version, None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _one_flag_per_line(argv: Sequence[str]) -> list[str]:
    lines: list[list[str]] = [[]]
    for argument in argv:
        if argument.startswith("--"):
            lines.append([])
        lines[-1].append(argument)
    return [shlex.join(line) for line in lines]
