"""A real vLLM engine in this process, its lengths set by hand."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from turbospec.adapters.client import PROTOCOL_VERSION
from turbospec.adapters.reports import StepRecord
from turbospec.engines.bench.gpu.device import in_process, keep_asynchronous
from turbospec.engines.bench.gpu.forced import Forced
from turbospec.engines.bench.gpu.plan import Scale
from turbospec.engines.bench.hotpath.engine import Engine
from turbospec.engines.instant_models import write_pair
from turbospec.sidecar.profiles.key import ProfileKey, key_of
from turbospec.sidecar.server.wire.hello import read_hello


class ForcedEngine(Engine):
    """The engine core with the adapter, and `Forced` in place of the adapter's client."""

    def __init__(
        self,
        scale: Scale,
        directory: Path,
        pair: str,
        eps: float,
        *,
        requests: int,
        context: int,
        length: int,
        asynchronous: bool,
        eager: bool = False,
    ) -> None:
        """Raises RuntimeError where control was refused."""
        if asynchronous and not scale.on_accelerator:
            keep_asynchronous()
        began = time.monotonic()
        super().__init__(
            write_pair(directory, pair, eps),
            requests,
            context,
            length=length,
            arguments=in_process(scale, asynchronous=asynchronous, eager=eager),
        )
        self.start_seconds = time.monotonic() - began
        client = self.control._controller
        hello = client._make_hello()
        hello.protocol_version = PROTOCOL_VERSION
        self.hello = read_hello(hello, 0)
        client.close()
        self.forced = Forced()
        self.control._controller = self.forced

    @property
    def key(self) -> ProfileKey:
        """The key of this engine's latency profile."""
        return key_of(self.hello.identity, self.hello.capabilities)

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache holds."""
        config = self._core.vllm_config.cache_config
        return int(config.num_gpu_blocks) * int(config.block_size)

    def request_ids(self) -> list[str]:
        """Of the running requests, as the scheduler names them."""
        return [request.request_id for request in self._scheduler.running]

    def run(self, steps: int) -> list[StepRecord]:
        """Runs until so many more steps have been reported; these, derived."""
        self.forced.records.clear()
        while len(self.forced.records) < steps:
            self.step()
        records = self.forced.records[:steps]
        for record in records:
            record.derive()
        return records

    def scale_layers(self, first: int, factor: float) -> None:
        """Scales what the target's layers from `first` on write; see `stage.gpu_worker`."""
        counts: list[Any] = self._llm.collective_rpc("turbospec_scale_layers", args=(first, factor))
        if not all(counts):
            raise RuntimeError(f"the target has no layers from {first} on to scale")
