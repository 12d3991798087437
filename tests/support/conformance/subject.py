"""An engine with its adapter, as the suite sees it. A new engine implements `Subject`, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

# Of every subject: the longest proposal, and what its operator configured.
LENGTH = 4
MOST_REQUESTS = 8
ENGINE_ID = "conformance-0"


@dataclass(frozen=True, slots=True)
class Ask:
    """One greedy request, to its last token. Token ids of `prompt` are below 500.

    `max_draft` and `label` are what its caller says in the engine's own way. `abort_after`: it is taken back
    after so many steps of the run.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    max_draft: int | None = None
    label: str = ""
    abort_after: int | None = None

    @property
    def said(self) -> dict[str, Any] | None:
        """What its caller says, by the names that all adapters know; None where that is nothing."""
        said: dict[str, Any] = {}
        if self.max_draft is not None:
            said["turbospec_max_draft"] = self.max_draft
        if self.label:
            said["turbospec_label"] = self.label
        return said or None


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an ask. `request_id` is the engine's own name of it, `tokens` how many its caller got."""

    request_id: str
    prompt_tokens: int
    tokens: int


@dataclass(frozen=True, slots=True)
class SeenStep:
    """A step as the engine's own objects show it: nothing here comes from the adapter.

    `requests` counts all that were in it. `proposal_length` is what the drafter was told, None where it was
    told nothing. `verified` and `accepted` have those requests, by id, that decoded in it and were still
    there when its results came.
    """

    requests: int
    proposal_length: int | None
    verified: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """What `Subject.serve` did: its asks' ends in order, and every step in the order of their results."""

    done: list[Done]
    steps: list[SeenStep]


class Subject(Protocol):
    """One engine. The suite calls `start` once, `serve` any number of times, and `close` in the end.

    It must be configured for proposals of `LENGTH` and `MOST_REQUESTS` at a time, cache no prompts, and
    preempt nobody for want of memory.
    """

    def start(self, address: str) -> None:
        """Starts the engine under the name `ENGINE_ID`, with a controller at `address`, and returns when it
        can serve."""

    def serve(self, asks: Sequence[Ask]) -> Run:
        """Adds requests, all at once, and runs the engine until none is left."""

    def close(self) -> None:
        """Ends the engine."""
