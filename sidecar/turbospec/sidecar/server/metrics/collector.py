"""Turns the registry's engines into Prometheus's metrics, at the moment of a scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from turbospec.adapters.version import __version__
from turbospec.sidecar.server.engine import Clock
from turbospec.sidecar.server.metrics.catalogue import ENGINE_METRICS, Distribution, EngineMetric
from turbospec.sidecar.server.metrics.sample import EngineSample, take
from turbospec.sidecar.server.registry import Registry

ENGINE_LABELS = ("engine_id", "rank")
# Below Prometheus's own default of 10 s: it then learns that the controller hangs, not that the network does.
ANSWER_SECONDS = 5.0


class UnavailableError(Exception):
    """The engines could not be read."""


class EngineCollector(Collector):
    """Reads engines on the event loop that owns them, one at a time, so that plans never wait for a scrape.

    `collect` is for other threads than the loop's.
    """

    def __init__(self, registry: Registry, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._registry = registry
        self._clock = clock
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now. Raises `UnavailableError`."""
        return families(self._take())

    def describe(self) -> Iterable[Metric]:
        """The metrics that there can be, without values."""
        return families([])

    def _take(self) -> list[EngineSample]:
        taking = asyncio.run_coroutine_threadsafe(self._sample(), self._loop)
        try:
            return taking.result(ANSWER_SECONDS)
        except (TimeoutError, CancelledError) as error:
            taking.cancel()
            raise UnavailableError(f"the controller did not answer within {ANSWER_SECONDS:.0f} s") from error

    async def _sample(self) -> list[EngineSample]:
        samples = []
        for engine in self._registry:
            samples.append(take(engine, self._clock()))
            await asyncio.sleep(0)
        return samples


def families(samples: list[EngineSample]) -> Iterator[Metric]:
    """The metrics of these engines, and of the controller."""
    yield InfoMetricFamily(
        "turbospec_build", "Always 1; the label is the controller's version.", {"version": __version__}
    )
    yield GaugeMetricFamily(
        "turbospec_connected_engines",
        "Engines whose streams are open.",
        value=sum(sample.connected for sample in samples),
    )
    for metric in ENGINE_METRICS:
        yield _family(metric, samples)


def _family(metric: EngineMetric, samples: list[EngineSample]) -> Metric:
    family: Any = _FAMILIES[metric.kind](
        metric.name.removesuffix("_info"), metric.meaning, labels=(*ENGINE_LABELS, *metric.labels)
    )
    for sample in samples:
        if metric.momentary and not sample.connected:
            continue
        summary = sample.state.summary
        engine = (summary.engine_id, str(summary.rank))
        value = metric.read(sample)
        if isinstance(value, tuple):
            family.add_metric((*engine, *value), {})
        elif isinstance(value, Distribution):
            family.add_metric(engine, _buckets(value), value.total)
        elif isinstance(value, Mapping):
            for label, number in value.items():
                family.add_metric((*engine, label), number)
        elif value is not None:
            family.add_metric(engine, value)
    told: Metric = family
    return told


def _buckets(value: Distribution) -> list[tuple[str, int]]:
    """Cumulative, as the format wants them."""
    bounds = [*map(floatToGoString, value.bounds), "+Inf"]
    reached = 0
    buckets = []
    for bound, count in zip(bounds, value.counts, strict=True):
        reached += count
        buckets.append((bound, reached))
    return buckets


_FAMILIES: Mapping[str, Callable[..., Metric]] = {
    "gauge": GaugeMetricFamily,
    "info": InfoMetricFamily,
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
}
