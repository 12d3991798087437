"""What each of SGLang's speculative algorithms lets an adapter control.

Read from the source of SGLang 0.5.23 (`srt/speculative`) and, where the status says so, tried with it. One
length applies to the whole batch: SGLang verifies every draft that it proposes, in the same step.
"""

from __future__ import annotations

from dataclasses import dataclass

from turbospec.adapters.support import Status


@dataclass(frozen=True, slots=True)
class MethodSupport:
    """One row of the table. `note` says why it is refused, or what is special about it."""

    method: str
    status: Status
    note: str = ""


_RUN, _EXPECTED, _REFUSED = Status.RUN, Status.EXPECTED, Status.REFUSED
_ONE_BLOCK = "drafts blocks of one size, and SGLang builds no other at run time"

METHODS: dict[str, MethodSupport] = {
    support.method: support
    for support in (
        MethodSupport("STANDALONE", _RUN),
        MethodSupport("EAGLE", _RUN, "also as NEXTN, so with a model's own MTP layer"),
        MethodSupport("EAGLE3", _EXPECTED),
        MethodSupport("NGRAM", _REFUSED, "drafts trees of one size, and SGLang builds no other at run time"),
        MethodSupport("DFLASH", _REFUSED, _ONE_BLOCK),
        MethodSupport("DSPARK", _REFUSED, "chooses verification lengths by its drafter's confidence"),
        MethodSupport("UNO", _REFUSED, _ONE_BLOCK),
        MethodSupport("FROZEN_KV_MTP", _REFUSED, "its worker has no runtime states to switch between"),
    )
}

# Other names for the same, as SGLang itself resolves them.
ALIASES = {"NEXTN": "EAGLE"}
