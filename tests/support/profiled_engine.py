"""A small live engine: an OpenAI endpoint before stated costs, under control through the real adapter client.

Steps take next to no time and report what the costs say, so that what is measured of it can be held against
what it was told.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from aiohttp import web
from support.patience import wait_until
from support.scripted.costs import Shape
from support.scripted.hello import make_hello
from support.scripted.machine import Machine
from support.scripted.traffic import Request, TrafficClass
from turbospec.adapters.client import ControlClient
from turbospec.adapters.intent import read_intent
from turbospec.adapters.reports import StepRecord
from turbospec.engines.processes import free_port
from turbospec.sidecar.core.types import Capabilities, RequestInfo
from turbospec.v1 import speculation_pb2 as pb

MODEL = "stated"
_STEP_SECONDS = 0.002
_RESERVED_TOKENS = 2
# Prompts are computed whole, whatever their length.
_STEP_TOKENS = 1 << 16


@dataclass(slots=True, eq=False)
class _Served:
    """A request with where its tokens go."""

    request: Request
    asked: int
    tokens: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    aborted: bool = False


class ProfiledEngine:
    """Serves at `url` until the `with` block is left. `places`: requests that find room at a time.

    It is called `engine_name`, and callers say what they want in the field `intent_field` of their requests.
    """

    def __init__(
        self,
        control: str,
        capabilities: Capabilities,
        machine: Machine,
        *,
        engine_id: str,
        max_context: int = 4096,
        hazard: float = 0.7,
        places: int | None = None,
        engine_name: str = "scripted",
        intent_field: str = "vllm_xargs",
    ) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.capabilities = capabilities
        self.lengths: list[int] = []
        """Proposal lengths of all steps so far."""
        self._own_length = (
            capabilities.static_length if capabilities.proposal_settable else capabilities.max_length
        )
        self._machine = machine
        self._max_context = max_context
        self._intent_field = intent_field
        self._places = places or capabilities.max_batch
        self._traffic = TrafficClass((hazard,))
        self._draw = np.random.default_rng(0)
        self._numbers = itertools.count()
        self._waiting: list[_Served] = []
        self._running: list[_Served] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._loop = asyncio.new_event_loop()
        hello = make_hello(engine_id, capabilities)
        hello.engine_name = engine_name
        hello.max_context = max_context
        hello.max_tokens_per_step = _STEP_TOKENS
        self._client = ControlClient(control, lambda: hello)
        self._threads = [threading.Thread(target=self._serve), threading.Thread(target=self._run)]

    def __enter__(self) -> ProfiledEngine:
        self._client.start()
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self._client.connected, "connected")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    # The endpoint's thread.

    def _serve(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_get("/v1/models", self._models)

        async def main() -> None:
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", int(self.url.rpartition(":")[2])).start()
            while not self._stop.is_set():
                await asyncio.sleep(0.02)
            await runner.cleanup()

        self._loop.run_until_complete(main())
        self._loop.close()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": MODEL, "max_model_len": self._max_context}]})

    async def _complete(self, http: web.Request) -> web.StreamResponse:
        body = await http.json()
        asked = body["max_tokens"]
        # Others answer such a request with an error, or cut it short.
        assert len(body["prompt"]) + asked <= self._max_context - _RESERVED_TOKENS
        intent, _ = read_intent(body.get(self._intent_field))
        number = next(self._numbers)
        info = RequestInfo(number, f"r{number}", intent.label, intent.max_draft, len(body["prompt"]))
        served = _Served(Request(info, self._traffic, info.prompt_tokens, asked, prompted=False), asked)
        with self._lock:
            self._waiting.append(served)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            with suppress(ConnectionResetError):
                await response.prepare(http)
                given = 0
                while given < asked:
                    given += await served.tokens.get()
                    event = {"choices": [], "usage": {"completion_tokens": given}}
                    await response.write(f"data: {json.dumps(event)}\n\n".encode())
                await response.write(b"data: [DONE]\n\n")
        finally:
            served.aborted = True
        return response

    # The engine's thread.

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                self._admit()
            if self._running:
                self._step()
            time.sleep(_STEP_SECONDS)

    def _admit(self) -> None:
        for served in [served for served in self._running if served.aborted]:
            self._leave(served)
        self._waiting = [served for served in self._waiting if not served.aborted]
        while self._waiting and len(self._running) < self._places:
            served = self._waiting.pop(0)
            info = served.request.info
            self._running.append(served)
            self._client.open_request(
                info.request_id,
                label=info.label,
                max_draft=info.max_draft,
                prompt_tokens=info.prompt_tokens,
            )

    def _leave(self, served: _Served) -> None:
        self._running.remove(served)
        self._client.close_request(served.request.info.request_id)

    def _step(self) -> None:
        plan = self._client.current()
        length = self._own_length if plan is None else plan.proposal_length
        record = StepRecord()
        record.plan = plan
        record.proposal_length = length
        record.drafter_skipped = plan is not None and plan.skip_drafter
        self.lengths.append(length)
        for served in list(self._running):
            request = served.request
            tokens = 1
            if request.prompted:
                wanted = length if plan is None else plan.verification_length(request.info.request_id)
                verified = request.verifiable(wanted)
                accepted = self._traffic.accept(verified, self._draw)
                tokens += accepted
                record.request_ids.append(request.info.request_id)
                record.proposed.append(request.drafts)
                record.verified.append(verified)
                record.accepted.append(accepted)
                record.context_tokens.append(request.context_tokens)
            else:
                record.prefill_tokens += request.context_tokens
                request.prompted = True
            received = request.receive(tokens)
            record.emitted_tokens += received
            request.drafts = length
            request.ready = request.ready and not record.drafter_skipped
            self._loop.call_soon_threadsafe(served.tokens.put_nowait, received)
        record.requests = len(self._running)
        if record.prefill_tokens:
            record.disturbances = [int(pb.DISTURBANCE_PREFILL)]
        shape = Shape(
            requests=record.requests,
            tokens=len(record.request_ids) + sum(record.verified),
            context_tokens=sum(record.context_tokens),
            proposal_length=length,
            ragged=len(set(record.verified)) > 1,
            prefill_tokens=record.prefill_tokens,
            drafter_skipped=record.drafter_skipped,
        )
        record.duration_ns = round(1e9 * self._machine.seconds(len(self.lengths), shape, self._draw))
        record.unready = [s.request.info.request_id for s in self._running if not s.request.ready]
        for served in [served for served in self._running if not served.request.left_tokens]:
            self._leave(served)
        self._client.submit(record)
