"""Lengths by hand: what stands in the adapter in place of its client when step times are measured."""

from __future__ import annotations

import math
from collections.abc import Collection

from turbospec.adapters.plans import AppliedPlan
from turbospec.adapters.reports import StepRecord


class Forced:
    """The adapter's `Controller`: gives the plan that was set, and keeps what each step reports."""

    def __init__(self) -> None:
        self.records: list[StepRecord] = []
        self._plan: AppliedPlan | None = None
        self._version = 0

    def set(self, length: int, shorter: Collection[str] = ()) -> AppliedPlan:
        """From the next step on `length` for all, one less for the requests in `shorter`; that plan."""
        self._version += 1
        self._plan = AppliedPlan(
            version=self._version,
            epoch=0,
            report_sequence=0,
            proposal_length=length,
            default_verification_length=length,
            expires_at=math.inf,
            verification_lengths={request_id: max(length - 1, 0) for request_id in shorter},
        )
        return self._plan

    def current(self) -> AppliedPlan | None:
        """The plan that was set last."""
        return self._plan

    def submit(self, step: StepRecord) -> None:
        """Keeps it."""
        self.records.append(step)

    def open_request(self, request_id: str, *, label: str, max_draft: int | None, prompt_tokens: int) -> None:
        """Requests are known to who made them."""

    def close_request(self, request_id: str) -> None:
        """Likewise."""

    def limited_by_memory(self) -> None:
        """Seen by the lengths that steps report."""

    def stop(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing runs."""
