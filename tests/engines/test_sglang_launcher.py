"""`turbospec engine sglang`: the user's command under control, or an error that says what to change."""

from __future__ import annotations

import pytest
from turbospec.adapters.address import AddressError
from turbospec.cli.main import main
from turbospec.engines.launching import ArgumentError
from turbospec.engines.sglang import controlled_command

PROGRAM = ("python", "-m", "sglang.launch_server")
EAGLE = ["--speculative-algorithm", "EAGLE", "--speculative-num-steps", "5", "--speculative-eagle-topk", "1"]
STANDALONE = ["--speculative-algorithm", "STANDALONE", "--speculative-draft-model-path", "d"]


def test_the_users_arguments_are_all_there_is() -> None:
    """Nothing is added, changed or moved: what is ours is in the environment."""
    arguments = ["--model-path", "org/model", *EAGLE, "--port", "9000", "--tp-size=2"]
    command = controlled_command(PROGRAM, arguments, environ={})
    assert command.argv == (*PROGRAM, *arguments)
    assert command.environment["TURBOSPEC_CONTROL_ADDRESS"].startswith("unix:/")
    assert command.environment["TURBOSPEC_ENGINE_ID"].endswith("-9000")
    assert set(command.environment) == {"TURBOSPEC_CONTROL_ADDRESS", "TURBOSPEC_ENGINE_ID"}


def test_flags_win_over_variables() -> None:
    """The address and the name that were asked for, else those of the environment."""
    environ = {"TURBOSPEC_CONTROL_ADDRESS": "unix:/a.sock", "TURBOSPEC_ENGINE_ID": "a"}
    assert controlled_command(PROGRAM, EAGLE, environ=environ).environment == environ
    command = controlled_command(PROGRAM, EAGLE, control="host:1", engine_id="b", environ=environ)
    assert command.environment == {"TURBOSPEC_CONTROL_ADDRESS": "host:1", "TURBOSPEC_ENGINE_ID": "b"}


@pytest.mark.parametrize(
    ("allowed", "set_to"),
    [("", None), ("turbospec", None), ("a, turbospec", None), ("a, b", "a,b,turbospec")],
)
def test_a_choice_of_plugins_does_not_leave_ours_out(allowed: str, set_to: str | None) -> None:
    """SGLang loads only the plug-ins that SGLANG_PLUGINS names, where it is set."""
    environment = controlled_command(PROGRAM, EAGLE, environ={"SGLANG_PLUGINS": allowed}).environment
    assert environment.get("SGLANG_PLUGINS") == set_to


@pytest.mark.parametrize(
    "arguments",
    [
        EAGLE,
        STANDALONE,
        [*STANDALONE, "--speculative-num-steps=4", "--speculative_eagle_topk=1"],
        ["--speculative-algorithm", "eagle3", "--speculative-adaptive"],
        ["--speculative-algorithm", "NEXTN", "--speculative-eagle-topk", "1"],
    ],
)
def test_what_can_be_controlled_is_started(arguments: list[str]) -> None:
    assert controlled_command(PROGRAM, arguments, environ={}).argv == (*PROGRAM, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments are missing"),
        (["--model-path", "m"], "no speculative decoding is configured"),
        (["--speculative-algorithm", "NGRAM"], "NGRAM: drafts trees of one size.*STANDALONE, EAGLE, EAGLE3"),
        (["--speculative-algorithm", "MINE"], "MINE is not known"),
        (["--speculative-algorithm"], "a value is missing"),
        (["--speculative-algorithm", "EAGLE3"], "--speculative-eagle-topk is missing"),
        ([*STANDALONE, "--speculative-eagle-topk", "4"], "--speculative-eagle-topk 4"),
        ([*EAGLE, "--speculative-num-steps", "65"], "--speculative-num-steps is 65"),
    ],
)
def test_what_cannot_be_controlled_is_said_before_the_start(arguments: list[str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        controlled_command(PROGRAM, arguments, environ={})


def test_a_wrong_address_is_an_error() -> None:
    with pytest.raises(AddressError, match=r"expected unix:"):
        controlled_command(PROGRAM, EAGLE, control="nowhere", environ={})


def test_a_config_file_counts(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """SGLang reads it itself; here only what is checked."""
    yaml = pytest.importorskip("yaml")
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"speculative-algorithm": "NGRAM", "port": 1234}))
    with pytest.raises(ArgumentError, match="NGRAM"):
        controlled_command(PROGRAM, ["--config", str(file)], environ={})


def test_print_needs_no_sglang(capsys: pytest.CaptureFixture[str]) -> None:
    """For a manifest, anywhere."""
    status = main(["engine", "sglang", "--print", "--engine-id", "e", "--", "--model-path", "m", *EAGLE])
    printed = capsys.readouterr().out
    assert status == 0
    assert "TURBOSPEC_ENGINE_ID=e" in printed
    assert "-m sglang.launch_server" in printed
    assert "--speculative-eagle-topk 1" in printed
