"""What prompts cost with the drafter and without it: the draft model computes every prompt too.

Among lengths that makes no difference, since prompts come with tokens, whatever lengths these are decoded by.
Between running the drafter and skipping it, it does.
"""

from __future__ import annotations

from turbospec.sidecar.core.clocks import decay
from turbospec.sidecar.core.types import Disturbance, Observation

# Prompts vary from minute to minute; this is some seconds of decoding, and some dozens of prompts.
HALF_LIFE_STEPS = 400.0
# Reports with prompts, of either kind, from which on the two are compared.
KNOWN_REPORTS = 8
# A pause of the machine may take as long as a hundred prompts. More than so many times what prompts cost so
# far is not counted.
CLIP_RATIO = 4.0


class _Cost:
    """Seconds per prompt token, forgetful."""

    def __init__(self) -> None:
        self.reports = 0
        self._seconds = self._tokens = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        if self.reports >= KNOWN_REPORTS:
            seconds = min(seconds, CLIP_RATIO * tokens * self.per_token)
        keep = decay(HALF_LIFE_STEPS)
        self._seconds = keep * self._seconds + seconds
        self._tokens = keep * self._tokens + tokens
        self.reports += 1

    @property
    def per_token(self) -> float:
        return max(self._seconds / self._tokens, 0.0)


class PrefillCosts:
    """Learned from steps that computed prompts beside decoding."""

    def __init__(self) -> None:
        self._drafting, self._skipping = _Cost(), _Cost()
        self._prompt_tokens = self._output_tokens = 0.0

    def observe(self, obs: Observation, decode_seconds: float) -> None:
        """Takes a report; `decode_seconds`: what its steps are predicted to take without their prompts."""
        keep = decay(HALF_LIFE_STEPS) ** obs.steps
        self._prompt_tokens = keep * self._prompt_tokens + obs.prefill_tokens
        self._output_tokens = keep * self._output_tokens + obs.emitted_tokens
        if obs.prefill_tokens and obs.duration is not None and obs.disturbances == {Disturbance.PREFILL}:
            cost = self._skipping if obs.drafter_skipped else self._drafting
            cost.add(obs.prefill_tokens, obs.duration - decode_seconds)

    @property
    def drafter_seconds(self) -> float:
        """Seconds by which the drafter's part of the prompts delays each token that users get; at least 0.

        0 until both kinds of steps were seen.
        """
        if min(self._drafting.reports, self._skipping.reports) < KNOWN_REPORTS or not self._output_tokens:
            return 0.0
        more = max(self._drafting.per_token - self._skipping.per_token, 0.0)
        return more * self._prompt_tokens / self._output_tokens
