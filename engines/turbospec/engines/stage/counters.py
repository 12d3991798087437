"""Token counters from Prometheus endpoints: vLLM's own, or what the controller counts of any engine."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass

_CALL_SECONDS = 60.0  # as in `stage.steering`


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals since the engine's start, or their growth.

    `decoded`: decode steps, counted once for each request in them. `drafted`: draft tokens that were verified
    in them. `accepted`: of those.
    """

    decoded: float
    drafted: float
    accepted: float

    @property
    def mean_length(self) -> float | None:
        """Draft tokens verified per request and decode step; None where nothing was verified."""
        return self.drafted / self.decoded if self.drafted > 0 and self.decoded > 0 else None

    @property
    def acceptance_ratio(self) -> float | None:
        """Accepted over verified; None where nothing was verified."""
        return self.accepted / self.drafted if self.drafted > 0 else None

    def since(self, earlier: Counters) -> Counters:
        """The growth since `earlier`."""
        return Counters(
            self.decoded - earlier.decoded,
            self.drafted - earlier.drafted,
            self.accepted - earlier.accepted,
        )


def parse(exposition: str) -> Counters:
    """Reads vLLM's metrics. An engine without speculation lacks those of drafts: they are 0.

    Each decode step of a request gives one token more than it accepted. A request's first token comes from
    its prompt and not from decoding.
    """
    accepted = _total(exposition, "vllm:spec_decode_num_accepted_tokens_total")
    generated = _total(exposition, "vllm:generation_tokens_total")
    first = _total(exposition, "vllm:time_to_first_token_seconds_count")
    return Counters(
        decoded=generated - accepted - first,
        drafted=_total(exposition, "vllm:spec_decode_num_draft_tokens_total"),
        accepted=accepted,
    )


def parse_controller(exposition: str, engine_id: str) -> Counters:
    """Reads the controller's metrics of one engine; of one that it does not know all are 0."""
    label = f'engine_id="{engine_id}"'
    return Counters(
        decoded=_total(exposition, "turbospec_verification_length_tokens_count", label),
        drafted=_total(exposition, "turbospec_verification_length_tokens_sum", label),
        accepted=_total(exposition, "turbospec_accepted_tokens_total", label),
    )


def read(url: str) -> Counters:
    """The counters of the vLLM server at `url`. Raises OSError where it does not answer."""
    return parse(_metrics(url))


def read_controller(url: str, engine_id: str) -> Counters:
    """What the controller whose metrics are served at `url` counts of an engine. Raises OSError as `read`."""
    return parse_controller(_metrics(url), engine_id)


def _metrics(url: str) -> str:
    # Without a proxy: these are this machine's own addresses.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/metrics", timeout=_CALL_SECONDS) as response:
        text: str = response.read().decode()
    return text


def _total(exposition: str, name: str, label: str = "") -> float:
    """The sum over a metric's lines, over those with `label` where one is given."""
    labels = rf"{{[^}}]*{re.escape(label)}[^}}]*}}"
    optional = "" if label else "?"
    values = re.findall(rf"^{re.escape(name)}(?:{labels}){optional} (\S+)$", exposition, re.MULTILINE)
    return sum(map(float, values))
