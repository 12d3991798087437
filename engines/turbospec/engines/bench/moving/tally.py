"""What requests of each class were given, summed up from looks at the running ones. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from turbospec.engines.bench.moving.watching import RequestState


@dataclass(frozen=True, slots=True)
class Given:
    """Totals over the requests of a class, between their first look and their last.

    `decode_steps`: of all requests; `verified`: draft tokens verified in them, `accepted`: of those.
    `planned_lengths` is the sum of the verification lengths in the plans that were looked at, `plans` their
    number.
    """

    decode_steps: int = 0
    verified: int = 0
    accepted: int = 0
    planned_lengths: int = 0
    plans: int = 0

    def __add__(self, other: Given) -> Given:
        return Given(
            self.decode_steps + other.decode_steps,
            self.verified + other.verified,
            self.accepted + other.accepted,
            self.planned_lengths + other.planned_lengths,
            self.plans + other.plans,
        )

    @property
    def mean_planned_length(self) -> float | None:
        """Verification length that plans allowed; None where no plan was seen."""
        return self.planned_lengths / self.plans if self.plans else None

    @property
    def mean_verified(self) -> float | None:
        """Draft tokens verified per request and step: less than planned where the drafter had none."""
        return self.verified / self.decode_steps if self.decode_steps > 0 else None

    @property
    def acceptance_ratio(self) -> float | None:
        """Accepted over verified; None where nothing was verified."""
        return self.accepted / self.verified if self.verified > 0 else None


class Tally:
    """Adds up looks at requests, by class."""

    def __init__(self) -> None:
        self.given: dict[str, Given] = {}
        self._last: dict[str, tuple[int, RequestState]] = {}

    def note(self, request_id: str, of_class: str, tokens: int, state: RequestState) -> None:
        """One look: the tokens that the client has received, and what the controller knows.

        Each decode step gives one token more than it accepted. The client is a moment behind the controller,
        by the same number of tokens on average at every look.
        """
        if not tokens:  # the first token comes from the prompt, not from a decode step
            return
        given = self.given.get(of_class, Given())
        if state.planned_length is not None:
            given += Given(planned_lengths=state.planned_length, plans=1)
        if request_id in self._last:
            tokens_before, before = self._last[request_id]
            accepted = state.accepted - before.accepted
            given += Given(tokens - tokens_before - accepted, state.verified - before.verified, accepted)
        self.given[of_class] = given
        self._last[request_id] = tokens, state
