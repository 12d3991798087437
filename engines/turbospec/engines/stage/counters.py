"""vLLM's own token counters, from its Prometheus endpoint: a second opinion beside the controller's."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass

_NAMES = {
    "generated": "vllm:generation_tokens_total",
    "drafted": "vllm:spec_decode_num_draft_tokens_total",
    "accepted": "vllm:spec_decode_num_accepted_tokens_total",
    "admitted": "vllm:time_to_first_token_seconds_count",
}


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals since the engine's start, or their growth.

    `generated`: output tokens. `drafted`: draft tokens that were verified. `accepted`: of those.
    `admitted`: requests that got their first token, which comes from the prompt and not from decoding.
    """

    generated: float
    drafted: float
    accepted: float
    admitted: float

    @property
    def mean_length(self) -> float | None:
        """Draft tokens verified per request and decode step; None where nothing was verified.

        Each decode step of a request gives one token more than it accepted; first tokens need none.
        """
        rows = self.generated - self.accepted - self.admitted
        return self.drafted / rows if self.drafted > 0 and rows > 0 else None

    @property
    def acceptance_ratio(self) -> float | None:
        """Accepted over verified; None where nothing was verified."""
        return self.accepted / self.drafted if self.drafted > 0 else None

    def since(self, earlier: Counters) -> Counters:
        """The growth since `earlier`."""
        return Counters(
            self.generated - earlier.generated,
            self.drafted - earlier.drafted,
            self.accepted - earlier.accepted,
            self.admitted - earlier.admitted,
        )


def parse(exposition: str) -> Counters:
    """Reads Prometheus text. An engine without speculation lacks those counters: they are 0."""
    return Counters(**{field: _total(exposition, name) for field, name in _NAMES.items()})


def read(url: str) -> Counters:
    """The counters of the vLLM server at `url`. Raises OSError where it does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/metrics", timeout=10) as response:
        return parse(response.read().decode())


def _total(exposition: str, name: str) -> float:
    values = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", exposition, re.MULTILINE)
    return sum(map(float, values))
