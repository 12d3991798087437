"""Starts SGLang under control: the user's own command, with variables that switch TurboSpec's plug-in on."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from turbospec.adapters.sglang.methods import ALIASES, METHODS
from turbospec.adapters.support import MAX_LENGTH, Status
from turbospec.engines.launching import (
    ArgumentError,
    Command,
    NotInstalledError,
    control_environment,
    flag_values,
    version_of,
    with_config_file,
)

# Where it is set, SGLang loads these plug-ins and no others.
PLUGINS_VARIABLE = "SGLANG_PLUGINS"
PLUGIN = "turbospec"  # the entry point's name
_DEFAULT_PORT = "30000"  # SGLang's

NO_SPECULATION_HELP = """\
no speculative decoding is configured, so there is nothing to control: add it to SGLang's arguments, such as
  --speculative-algorithm EAGLE3 --speculative-draft-model-path HEAD \\
  --speculative-num-steps 5 --speculative-eagle-topk 1 --speculative-num-draft-tokens 6
or, with a draft model,
  --speculative-algorithm STANDALONE --speculative-draft-model-path DRAFT \\
  --speculative-num-steps 4 --speculative-eagle-topk 1 --speculative-num-draft-tokens 5"""


def installed_command() -> tuple[str, ...]:
    """How this environment's SGLang is started, up to its arguments.

    Raises NotInstalledError where there is none.
    """
    if version_of("sglang") is None:
        raise NotInstalledError(
            f"SGLang is not installed beside {sys.executable}: run turbospec in the engine's own "
            "environment, or install it with: pip install 'turbospec[sglang]'"
        )
    return (sys.executable, "-m", "sglang.launch_server")


def controlled_command(
    program: Sequence[str],
    arguments: Sequence[str],
    *,
    control: str | None = None,
    engine_id: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Command:
    """`program` with the user's SGLang `arguments`, and the variables that put it under control.

    `control` and `engine_id` win over their variables in `environ`, those over the defaults. Raises
    ArgumentError (AddressError for the address) where the arguments contradict being controlled.
    """
    seen = with_config_file(arguments)
    _check(seen)
    port = _last(seen, "--port") or _DEFAULT_PORT
    environment = control_environment("sglang", port, control, engine_id, environ)
    plugins = [name.strip() for name in environ.get(PLUGINS_VARIABLE, "").split(",") if name.strip()]
    if plugins and PLUGIN not in plugins:
        environment[PLUGINS_VARIABLE] = ",".join([*plugins, PLUGIN])
    return Command(argv=(*program, *arguments), environment=environment)


def _check(arguments: Sequence[str]) -> None:
    """What the adapter would refuse, said before the engine's long start."""
    if not arguments:
        raise ArgumentError(
            "SGLang's arguments are missing: turbospec engine sglang -- --model-path MODEL "
            "--speculative-algorithm …"
        )
    algorithm = _last(arguments, "--speculative-algorithm")
    if algorithm is None:
        raise ArgumentError(NO_SPECULATION_HELP)
    method = ALIASES.get(algorithm.upper(), algorithm.upper())
    support = METHODS.get(method)
    if support is None or support.status is Status.REFUSED:
        why = f": {support.note}" if support is not None else " is not known"
        valid = ", ".join(name for name, each in METHODS.items() if each.status is not Status.REFUSED)
        raise ArgumentError(
            f"--speculative-algorithm {algorithm}{why}; lengths can be set with {valid}. "
            "Start SGLang without turbospec to keep it"
        )
    _check_lengths(arguments, method)


def _check_lengths(arguments: Sequence[str], method: str) -> None:
    steps = _last(arguments, "--speculative-num-steps")
    branches = _last(arguments, "--speculative-eagle-topk")
    if steps is not None and not (steps.isascii() and steps.isdigit() and 1 <= int(steps) <= MAX_LENGTH):
        raise ArgumentError(f"--speculative-num-steps is {steps}; expected an integer from 1 to {MAX_LENGTH}")
    adaptive = any(a.replace("_", "-").startswith("--speculative-adaptive") for a in arguments)
    if branches is None:
        # With a draft model, or to its own adaptive lengths, SGLang gives one branch by itself.
        if method != "STANDALONE" and not adaptive:
            raise ArgumentError(
                "--speculative-eagle-topk is missing: left to itself SGLang may draft trees, which have no "
                "one length; add --speculative-num-steps K --speculative-eagle-topk 1 "
                "--speculative-num-draft-tokens K+1"
            )
    elif branches != "1":
        raise ArgumentError(
            f"--speculative-eagle-topk {branches}: drafts are then trees, which have no one length; set it "
            "to 1, or start SGLang without turbospec"
        )


def _last(arguments: Sequence[str], flag: str) -> str | None:
    values = flag_values(arguments, flag)
    return values[-1] if values else None
