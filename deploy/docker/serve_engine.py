"""Becomes an engine under control, from the variables that .env.example explains.

    serve_engine.py vllm|sglang [arguments of the engine]
    serve_engine.py --healthy      exit status 0 where the engine in this container answers

One set of variables serves every engine, so that swapping the engine changes nothing else. Arguments given
here (an image's own defaults) and after them those in ENGINE_ARGS come last, in the engine's own words.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import urllib.request
from collections.abc import Mapping

PORT = "8000"
HEALTH_SECONDS = 4.0  # below the health check's own limit

# SGLang's names for the draft methods, which are named here as by vLLM. Its n-gram drafts are not controlled.
SGLANG_ALGORITHMS = {
    "draft_model": "STANDALONE",
    "eagle": "EAGLE",
    "eagle3": "EAGLE3",
    "mtp": "NEXTN",
}

# Methods that have no draft model, whatever DRAFT_MODEL says, and those whose draft the target may hold.
WITHOUT_DRAFT = ("ngram", "ngram_gpu", "suffix")
OWN_DRAFT = ("mtp", "dspark")


class VariableError(Exception):
    """A variable that is missing or bad; the message names it."""


def command(engine: str, environ: Mapping[str, str], more: list[str]) -> list[str]:
    """The command line that runs the engine. Raises `VariableError`."""
    builders = {"vllm": _vllm, "sglang": _sglang}
    if engine not in builders:
        raise VariableError(f"unknown engine {engine!r}: choose from {', '.join(builders)}")
    where = ["--host", "0.0.0.0", "--port", PORT]
    own = [*more, *_split(environ)]
    return ["turbospec", "engine", engine, "--", *builders[engine](environ), *where, *own]


def _vllm(environ: Mapping[str, str]) -> list[str]:
    method = _method(environ)
    config: dict[str, object] = {"method": method, "num_speculative_tokens": _length(environ)}
    if draft := _draft(environ, method):
        config["model"] = draft
    return [_model(environ), "--speculative-config", json.dumps(config)]


def _sglang(environ: Mapping[str, str]) -> list[str]:
    model, method, length = _model(environ), _method(environ), _length(environ)
    if method not in SGLANG_ALGORITHMS:
        raise VariableError(f"METHOD {method!r} with SGLang: choose from {', '.join(SGLANG_ALGORITHMS)}")
    arguments = ["--model-path", model, "--speculative-algorithm", SGLANG_ALGORITHMS[method]]
    if draft := _draft(environ, method):
        arguments += ["--speculative-draft-model-path", draft]
    # A chain, not a tree: that many steps, and the target's own token counts as a draft token.
    arguments += ["--speculative-num-steps", str(length), "--speculative-eagle-topk", "1"]
    return [*arguments, "--speculative-num-draft-tokens", str(length + 1)]


def _model(environ: Mapping[str, str]) -> str:
    if not environ.get("MODEL"):
        raise VariableError("MODEL is not set: a path or a name on the Hugging Face hub")
    return environ["MODEL"]


def _method(environ: Mapping[str, str]) -> str:
    return environ.get("METHOD") or "ngram"


def _draft(environ: Mapping[str, str], method: str) -> str:
    """Empty where the method drafts without a model of its own."""
    draft = environ.get("DRAFT_MODEL", "")
    if method in WITHOUT_DRAFT:
        return ""
    if not draft and method not in OWN_DRAFT:
        raise VariableError(f"METHOD {method!r} needs DRAFT_MODEL")
    return draft


def _length(environ: Mapping[str, str]) -> int:
    text = environ.get("LENGTH") or "5"
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise VariableError(f"LENGTH must be from 1 to 64, not {text!r}")
    return int(text)


def _split(environ: Mapping[str, str]) -> list[str]:
    try:
        return shlex.split(environ.get("ENGINE_ARGS", ""))
    except ValueError as error:
        raise VariableError(f"ENGINE_ARGS: {error}") from error


def healthy() -> bool:
    """Whether the engine answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=HEALTH_SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    if sys.argv[1:] == ["--healthy"]:
        sys.exit(0 if healthy() else 1)
    try:
        argv = command(sys.argv[1] if sys.argv[1:] else "", os.environ, sys.argv[2:])
    except VariableError as error:
        sys.exit(f"serve_engine: {error}")
    os.execvp(argv[0], argv)
