"""`turbospec engine vllm`: the user's command under control, or an error that says what to change."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from turbospec.adapters.address import AddressError
from turbospec.cli.main import main
from turbospec.engines.launching import ArgumentError
from turbospec.engines.vllm import SCHEDULER_CLASS, controlled_command, plain_argv
from turbospec.engines.vllm_arguments import speculative_config

GPU = ("vllm", "serve")
CPU = ("python", "-m", "vllm.entrypoints.openai.api_server")
NGRAM = '{"method": "ngram", "num_speculative_tokens": 4}'
SPECULATIVE = ["--speculative-config", NGRAM]


def test_user_arguments_are_kept_in_order_and_the_scheduler_added() -> None:
    """Nothing that the user wrote is changed, dropped or moved."""
    arguments = ["org/model", "--port", "9000", *SPECULATIVE, "--enforce-eager"]
    command = controlled_command(GPU, arguments, environ={})
    assert command.argv == (*GPU, *arguments, "--scheduler-cls", SCHEDULER_CLASS)


def test_cpu_builds_take_the_model_as_a_flag() -> None:
    """The module that CPU builds are started by knows no positional model."""
    assert plain_argv(CPU, ["org/model", "--port", "1"]) == (*CPU, "--model", "org/model", "--port", "1")
    assert plain_argv(CPU, ["--model", "org/model"]) == (*CPU, "--model", "org/model")
    assert plain_argv(GPU, ["org/model"]) == (*GPU, "org/model")


def test_our_own_scheduler_class_is_not_given_twice() -> None:
    """A manifest that already has the flag works with the launcher too."""
    arguments = ["m", *SPECULATIVE, f"--scheduler-cls={SCHEDULER_CLASS}"]
    assert controlled_command(GPU, arguments, environ={}).argv == (*GPU, *arguments)


def test_environment_flag_over_variable_over_default() -> None:
    """The control address and the engine's name come from where the user said it closest."""
    variables = {"TURBOSPEC_CONTROL_ADDRESS": "127.0.0.1:1", "TURBOSPEC_ENGINE_ID": "from-variable"}
    arguments = ["m", *SPECULATIVE, "--port=9000"]
    default = controlled_command(GPU, arguments, environ={"XDG_RUNTIME_DIR": "/run/user/7"}).environment
    assert default["TURBOSPEC_CONTROL_ADDRESS"] == "unix:/run/user/7/turbospec/control.sock"
    assert default["TURBOSPEC_ENGINE_ID"].startswith("vllm-")
    assert default["TURBOSPEC_ENGINE_ID"].endswith("-9000")
    assert controlled_command(GPU, arguments, environ=variables).environment == variables
    flags = controlled_command(
        GPU, arguments, control="unix:/x.sock", engine_id="from-flag", environ=variables
    )
    assert flags.environment == {
        "TURBOSPEC_CONTROL_ADDRESS": "unix:/x.sock",
        "TURBOSPEC_ENGINE_ID": "from-flag",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["--speculative-config", NGRAM],
        ["--speculative_config=" + NGRAM],
        ["-sc", NGRAM],
        ["--speculative-config.method", "ngram", "--speculative-config.num_speculative_tokens", "4"],
        ["--speculative-config.method=ngram", "-sc.num-speculative-tokens=4"],
        ["--spec-method", "ngram", "--spec-tokens", "4"],
    ],
)
def test_every_spelling_of_speculation_is_understood(arguments: list[str]) -> None:
    """What vLLM reads as a speculative configuration is read as the same here."""
    assert speculative_config(arguments) == {"method": "ngram", "num_speculative_tokens": 4}


def test_speculation_in_a_config_file_counts(tmp_path: Path) -> None:
    """vLLM's own `--config` file is looked into, and so are conflicts in it."""
    file = tmp_path / "vllm.yaml"
    file.write_text(f"port: 9001\nspeculative-config: {NGRAM}\n")
    command = controlled_command(GPU, ["m", "--config", str(file)], environ={})
    assert command.environment["TURBOSPEC_ENGINE_ID"].endswith("-9001")
    file.write_text("scheduler-cls: a.B\n")
    with pytest.raises(ArgumentError, match=r"--scheduler-cls a\.B"):
        controlled_command(GPU, ["m", "--config", str(file)], environ={})


def _with(**settings: object) -> list[str]:
    return [
        "m",
        "--speculative-config",
        json.dumps({"method": "ngram", "num_speculative_tokens": 4} | settings),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments are missing"),
        (["serve", "m", *SPECULATIVE], "leave out 'serve'"),
        (["m"], "no speculative decoding is configured.*\n.*--speculative-config"),
        (["m", "--speculative-config"], "a value is missing"),
        (["m", "--speculative-config", "{method: ngram}"], "not valid JSON"),
        (["m", "--speculative-config", "[1]"], "expected a JSON object"),
        (["m", "--speculative-config", '{"method": "ngram"}'], "num_speculative_tokens is missing"),
        (_with(num_speculative_tokens=0), "is 0; expected an integer from 1 to 64"),
        (_with(num_speculative_tokens="4"), "is '4'; expected an integer"),
        (_with(num_speculative_tokens=65), "is 65; expected"),
        (_with(enable_adaptive_verification=True), "enable_adaptive_verification is True.*remove it"),
        (_with(rejection_sample_method="block"), "rejection_sample_method is 'block'.*remove it"),
        (["m", *SPECULATIVE, "--scheduler-cls", "a.B"], r"--scheduler-cls a\.B.*remove the flag"),
        (["m", *SPECULATIVE, "--scheduler_cls=a.B"], r"--scheduler-cls a\.B"),
        (["m", "--config", "/nowhere.yaml"], "--config: cannot read /nowhere.yaml"),
    ],
)
def test_a_conflict_says_what_to_change(arguments: list[str], message: str) -> None:
    """Nothing that cannot be controlled is started as if it were."""
    with pytest.raises(ArgumentError, match=message):
        controlled_command(GPU, arguments, environ={})


def test_methods_with_a_length_of_their_own_need_none() -> None:
    """vLLM derives the length of some methods from the draft: that is left to it."""
    assert speculative_config(["--speculative-config", '{"method": "mtp"}']) == {"method": "mtp"}


def test_a_bad_control_address_is_an_error() -> None:
    """A typing mistake is found at the start."""
    with pytest.raises(AddressError, match="localhost"):
        controlled_command(GPU, ["m", *SPECULATIVE], control="localhost", environ={})


def test_printed_command_means_the_same_to_a_shell() -> None:
    """What `--print` shows can be pasted: the shell gets every argument and variable unchanged."""
    tricky = json.dumps({"method": "ngram", "num_speculative_tokens": 4, "note": 'it\'s $HOME "x"'})
    command = controlled_command(
        (sys.executable, "-c", "import os, sys; print(sys.argv[1:], os.environ['TURBOSPEC_ENGINE_ID'])"),
        ["--model", "a b", "--speculative-config", tricky],
        engine_id="x y",
        environ={},
    )
    output = subprocess.run(["sh", "-c", command.as_shell()], capture_output=True, text=True, check=True)
    assert output.stdout == f"{list(command.argv[3:])} x y\n"


def test_print_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """`--print` works for a model that is nowhere, and is one shell command."""
    assert main(["engine", "vllm", "--print", "--engine-id", "e", "--", "no/such", *SPECULATIVE]) == 0
    words = shlex.split(capsys.readouterr().out.replace("\\\n", ""))
    assert "TURBOSPEC_ENGINE_ID=e" in words
    assert words[-2:] == ["--scheduler-cls", SCHEDULER_CLASS]


def test_an_error_reaches_the_user_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    """The command line answers a conflict with exit status 2 and no traceback."""
    assert main(["engine", "vllm", "--", "m", *SPECULATIVE, "--scheduler-cls", "a.B"]) == 2
    assert capsys.readouterr().err.startswith("turbospec engine: --scheduler-cls a.B")


def test_without_vllm_the_error_says_so() -> None:
    """In an environment without vLLM the launcher names what is missing, and where it looked."""
    root = Path(__file__).parents[2]

    roots = os.pathsep.join([*(str(root / name) for name in ("proto", "adapters", "engines"))])
    answer = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCH, "engine", "vllm", "--", "m", *SPECULATIVE],
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": roots},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 2, answer.stderr
    assert "vLLM is not installed" in answer.stderr
    assert "pip install 'turbospec[vllm]'" in answer.stderr


_LAUNCH = """
import argparse, sys
from turbospec.cli import engine
parser = argparse.ArgumentParser()
engine.add_parser(parser.add_subparsers())
args = parser.parse_args()
sys.exit(args.func(args))
"""
