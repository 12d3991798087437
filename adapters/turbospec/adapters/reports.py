"""What the engine's thread says about a step."""

from __future__ import annotations

from collections.abc import Collection

from turbospec.adapters.plans import AppliedPlan


class OpenedRequest:
    """A request that has entered the engine. `max_draft` None: no cap by the caller."""

    __slots__ = ("label", "max_draft", "prompt_tokens", "request_id")

    def __init__(self, request_id: str, label: str, max_draft: int | None, prompt_tokens: int) -> None:
        self.request_id = request_id
        self.label = label
        self.max_draft = max_draft
        self.prompt_tokens = prompt_tokens


class StepRecord:
    """One generation step, not touched by the engine's thread after `submit`.

    The engine's thread fills it, or leaves what costs time to `derive`.

    The fields are those of the protocol's StepReport. `request_ids`, `proposed`, `verified`, `accepted`,
    `context_tokens` are parallel: one entry per request that decoded and whose result can teach
    something. `plan` is what the step ran under, None for the engine's own length. `disturbances` holds
    the protocol's `Disturbance` values. `unready` are the live requests whose drafts may not be used because
    the drafter was skipped while they ran. `events` belongs to the client.
    """

    __slots__ = (
        "accepted",
        "context_tokens",
        "disturbances",
        "drafter_skipped",
        "duration_ns",
        "emitted_tokens",
        "events",
        "kv_cache_usage_ratio",
        "plan",
        "prefill_tokens",
        "proposal_length",
        "proposed",
        "request_ids",
        "requests",
        "unready",
        "verified",
    )

    def __init__(self) -> None:
        self.duration_ns = 0
        self.disturbances: list[int] = []
        self.requests = 0
        self.prefill_tokens = 0
        self.proposal_length = 0
        self.plan: AppliedPlan | None = None
        self.emitted_tokens = 0
        self.request_ids: list[str] = []
        self.proposed: list[int] = []
        self.verified: list[int] = []
        self.accepted: list[int] = []
        self.context_tokens: list[int] = []
        self.kv_cache_usage_ratio: float | None = None
        self.drafter_skipped = False
        self.unready: Collection[str] = ()
        # Opened requests and ids of closed ones, in the order in which it happened.
        self.events: list[OpenedRequest | str] = []

    def derive(self) -> None:
        """Fills what is missing; called once, in a thread of the client, before the rest is read."""
