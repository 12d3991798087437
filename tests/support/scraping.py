"""A scrape of the controller's metrics, as Prometheus does it, with the library's own parser."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from support.patience import PATIENCE_SECONDS
from turbospec.sidecar.server.metrics.collector import ANSWER_SECONDS

_ATTEMPTS = 3


def get(address: str, accept: str = "text/plain") -> str:
    """The body. Raises `urllib.error.HTTPError` for a status other than 200."""
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
        body: bytes = response.read()
    return body.decode()


def _whatever_the_machine_does(address: str) -> str:
    """As `get`, again where the endpoint waited for the controller in vain: it may have been held up."""
    for _ in range(_ATTEMPTS - 1):
        asked = time.monotonic()
        try:
            return get(address)
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() - asked < ANSWER_SECONDS:
                raise
    return get(address)


class Scrape:
    """The samples of one scrape."""

    def __init__(self, address: str) -> None:
        self.text = _whatever_the_machine_does(address)
        self.families: list[Metric] = list(text_string_to_metric_families(self.text))

    def samples(self, name: str, **labels: Any) -> list[Sample]:
        """Those of that name that have these labels."""
        wanted = {label: str(value) for label, value in labels.items()}
        return [
            sample
            for family in self.families
            for sample in family.samples
            if sample.name == name and wanted.items() <= sample.labels.items()
        ]

    def value(self, name: str, **labels: Any) -> float:
        """That of the one sample there must be."""
        found = self.samples(name, **labels)
        assert len(found) == 1, f"{name} {labels}: {found}"
        return float(found[0].value)

    def values(self, name: str, by: str, **labels: Any) -> dict[str, float]:
        """Values by a label's values."""
        return {sample.labels[by]: sample.value for sample in self.samples(name, **labels)}

    def samples_of(self, engine_id: str) -> list[Sample]:
        """All of one engine."""
        return [
            sample
            for family in self.families
            for sample in family.samples
            if sample.labels.get("engine_id") == engine_id
        ]
