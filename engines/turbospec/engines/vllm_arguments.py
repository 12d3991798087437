"""Reads the arguments that a user gives to `vllm serve`, as far as a launcher must understand them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from turbospec.engines.launching import ArgumentError, flag_values

NO_SPECULATION_HELP = """\
no speculative decoding is configured, so there is nothing to control: add it to vLLM's arguments, such as
  --speculative-config '{"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4}'
or, with a draft model,
  --speculative-config '{"method": "draft_model", "model": "DRAFT", "num_speculative_tokens": 4}'"""

# vLLM derives the length of other methods from the draft when it is not given.
_METHODS_WITHOUT_A_DEFAULT_LENGTH = frozenset({"ngram", "ngram_gpu", "draft_model"})


def speculative_config(arguments: Sequence[str]) -> dict[str, Any] | None:
    """What `--speculative-config`, its dotted form and `--spec-…` say together. None: no speculation.

    Raises ArgumentError where vLLM would fail, after its long start, for the same reason.
    """
    config: dict[str, Any] = {}
    documents = flag_values(arguments, "--speculative-config", "-sc")
    if documents:
        config |= _parse_document(documents[-1])
    config |= _dotted(arguments)
    for flag, key in (("--spec-method", "method"), ("--spec-model", "model")):
        if values := flag_values(arguments, flag):
            config[key] = values[-1]
    if values := flag_values(arguments, "--spec-tokens"):
        config["num_speculative_tokens"] = _json_or_text(values[-1])
    if not config:
        return None
    _check_length(config)
    return config


def _parse_document(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ArgumentError(
            f"--speculative-config: not valid JSON ({error}): {text}\n"
            "quote it for the shell in single quotes: --speculative-config '{\"method\": …}'"
        ) from error
    if not isinstance(document, dict):
        raise ArgumentError(f"--speculative-config: expected a JSON object, got {text}")
    return {key.replace("-", "_"): value for key, value in document.items()}


def _dotted(arguments: Sequence[str]) -> dict[str, Any]:
    found = {}
    for prefix in ("--speculative-config.", "-sc."):
        for argument in arguments:
            name = argument.partition("=")[0].replace("_", "-")
            if name.startswith(prefix):
                key = name.removeprefix(prefix).replace("-", "_")
                found[key] = _json_or_text(flag_values(arguments, name)[-1])
    return found


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _check_length(config: dict[str, Any]) -> None:
    length = config.get("num_speculative_tokens")
    if length is None:
        method = config.get("method")
        if method in _METHODS_WITHOUT_A_DEFAULT_LENGTH:
            raise ArgumentError(
                f"--speculative-config: num_speculative_tokens is missing; method {method!r} needs it "
                "(it is the longest proposal, and the length that applies without a controller), such as 4"
            )
    elif isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= 64:
        raise ArgumentError(
            f"--speculative-config: num_speculative_tokens is {length!r}; expected an integer from 1 to 64"
        )
