"""The command line as a whole: it explains itself, and an engine's environment is enough for it."""

from __future__ import annotations

import pytest
from support.base_install import with_base_install
from turbospec.adapters.version import __version__
from turbospec.cli.main import VERBS, main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` is the distribution's."""
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"turbospec {__version__}\n"


def test_help_teaches() -> None:
    """`--help` names every verb and the three commands with which to begin, in a base install too."""
    answer = with_base_install("--help")
    assert answer.returncode == 0, answer.stderr
    for verb in VERBS:
        assert f"\n    {verb.replace('_', '-')}" in answer.stdout
    start = answer.stdout.partition("quick start")[2]
    commands = [start.find(c) for c in ("turbospec serve\n", "turbospec engine vllm", "turbospec status\n")]
    assert commands == sorted(commands)
    assert commands[0] > 0


@pytest.mark.parametrize("verb", [verb.replace("_", "-") for verb in VERBS])
def test_every_verb_explains_itself_in_a_base_install(verb: str) -> None:
    """`turbospec VERB --help` works before any extra is installed."""
    answer = with_base_install(verb, "--help")
    assert answer.returncode == 0, answer.stderr
    assert f"usage: turbospec {verb}" in answer.stdout


def test_engine_works_with_a_base_install() -> None:
    """The launcher needs nothing that an engine's environment lacks."""
    speculative = '{"method": "ngram", "num_speculative_tokens": 4}'
    answer = with_base_install("engine", "vllm", "--print", "--", "m", "--speculative-config", speculative)
    assert answer.returncode == 0, answer.stderr
    assert "--scheduler-cls turbospec.adapters.vllm.scheduler.TurboSpecScheduler" in answer.stdout


@pytest.mark.parametrize(("verb", "extra"), [("serve", "sidecar"), ("demo", "demo"), ("bench e2e", "demo")])
def test_a_missing_extra_is_named(verb: str, extra: str) -> None:
    """A verb that needs an extra says which and how to get it, with exit status 2."""
    answer = with_base_install(*verb.split())
    assert answer.returncode == 2, answer.stderr
    assert f"turbospec {verb} needs the {extra!r} extra: pip install 'turbospec[{extra}]'" in answer.stderr


def test_make_models_names_what_is_missing() -> None:
    """Without torch the error says what is missing and where it would be found."""
    answer = with_base_install("engine", "make-models", "/nowhere")
    assert answer.returncode == 2
    assert "making models needs torch" in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--concurrency", "1,x"], "expected numbers with commas"),
        (["--concurrency", "0"], "each must be from 1 to 64"),
        (["--concurrency", "4,4"], "each only once"),
        (["--seconds", "0"], "must be from 1 to 600"),
        (["--agreement", "medium"], "choose from"),
    ],
)
def test_bad_demo_arguments_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad value is refused before anything starts."""
    with pytest.raises(SystemExit, match="2"):
        main(["demo", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs", "high,medium"], "expected some of high, low, each once"),
        (["--pairs", "low,low"], "expected some of high, low, each once"),
        (["--concurrency", "0"], "each must be from 1 to 64"),
        (["--repeats", "3"], "must be from 4 to 100"),
        (["--repeats", "x"], "must be from 4 to 100"),
        (["--seconds", "0"], "must be from 1 to 600"),
    ],
)
def test_bad_bench_arguments_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad value is refused before anything starts."""
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "e2e", *arguments])
    assert message in capsys.readouterr().err


def test_benchmarks_explain_themselves_in_a_base_install() -> None:
    """`turbospec bench e2e --help` says what is compared, and how long it takes."""
    answer = with_base_install("bench", "e2e", "--help")
    assert answer.returncode == 0, answer.stderr
    for told in ("static:1 to static:6", "vLLM's own table", "minutes on two cores", "--json FILE"):
        assert told in answer.stdout


def test_no_verb_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """`turbospec` alone says that a verb is missing."""
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "VERB" in capsys.readouterr().err
