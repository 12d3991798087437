"""vLLM in one process and in several: ranks of one model, replicas of it, several API servers, restarts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import grpc
import pytest
from support.patience import PATIENCE_SECONDS, wait_until
from support.sidecar import Sidecar
from support.vllm_evidence import Evidence
from support.vllm_plans import planned_mean_length, repeated
from support.vllm_server import RANK_IN_ENGINE_CORE, Load, Server
from support.vllm_setup import LENGTH, REQUESTS, differing, speculative_config
from support.vllm_worker import Ask, Engine, EngineOptions
from turbospec.engines.models import MadeModels
from turbospec.engines.processes import free_port
from turbospec.engines.stage import counters
from turbospec.v1 import introspection_pb2, introspection_pb2_grpc

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    running = Sidecar(tmp_path_factory.mktemp("sidecar"), "random:5")
    yield running
    running.stop()


@contextmanager
def serving(models: MadeModels, sidecar: Sidecar, log: Path, *arguments: str) -> Iterator[Server]:
    """A server of the engine id "server", with these of vLLM's arguments."""
    server = Server(
        str(models.target),
        speculative_config("draft_model", models),
        control_address=sidecar.control_address,
        port=free_port(),
        log=log,
        arguments=arguments,
    )
    try:
        server.wait_until_up()
        yield server
    finally:
        server.stop()


class Answers(Protocol):
    """Whoever answers with tokens."""

    def tokens(self, prompt: list[int], max_tokens: int, timeout: float, name: str) -> list[int]:
        """The tokens of one request."""


class Compared:
    """Takes load, and compares each answer: `wrong` has what was asked where it was not the reference's."""

    def __init__(self, server: Answers, asks: list[Ask], reference: list[list[int]]) -> None:
        self.wrong: list[list[int]] = []
        self._server = server
        self._expected = {tuple(ask.prompt): tokens for ask, tokens in zip(asks, reference, strict=True)}

    def complete(self, prompt: list[int], max_tokens: int, timeout: float, name: str) -> int:
        """One request, to its end; how many tokens came."""
        tokens = self._server.tokens(prompt, max_tokens, timeout, name)
        if tokens != self._expected[tuple(prompt)][:max_tokens]:
            self.wrong.append(prompt)
        return len(tokens)


def controlled(sidecar: Sidecar) -> dict[int, dict[str, Any]]:
    """The engines under control, by rank."""
    return {engine.get("rank", 0): engine for engine in sidecar.engines() if engine.get("controlled")}


def lengths_change(sidecar: Sidecar, rank: int) -> bool:
    """Whether the drafter runs with four lengths and more, by what a rank reports of steps with a plan.

    Returns as soon as it is so.
    """
    lengths = set()
    with grpc.insecure_channel(sidecar.introspection) as channel:
        stub = introspection_pb2_grpc.IntrospectionServiceStub(channel)
        request = introspection_pb2.WatchStepsRequest(engine_id="server", rank=rank)
        for response in stub.WatchSteps(request, timeout=PATIENCE_SECONDS):
            lengths |= {step.proposal_length for step in response.steps if step.plan_version}
            if len(lengths) >= 4:
                return True
    return False


def check_answers(
    server: Server, sidecar: Sidecar, asks: list[Ask], reference: list[list[int]], *, ranks: set[int]
) -> None:
    """Under changing lengths all ranks' answers are those of an engine without speculation."""

    def at_work() -> bool:
        engines = controlled(sidecar)
        return set(engines) == ranks and all(int(each.get("steps", 0)) > 200 for each in engines.values())

    compared = Compared(server, asks, reference)
    with Load(compared, callers=8, prompts=[ask.prompt for ask in asks]) as load:
        wait_until(lambda: set(controlled(sidecar)) == ranks, "controlled")
        assert all(lengths_change(sidecar, rank) for rank in ranks)
        wait_until(at_work, "at work")
        wait_until(lambda: load.answered >= REQUESTS, "answered")
        counted = counters.read(server.url)
        # By vLLM's own count. At its own length it would be more; see test_shadow.
        assert planned_mean_length(sidecar, server.url, 500) < LENGTH - 1.5
    assert load.failures == []
    assert compared.wrong == []
    assert counted.accepted >= 1


def test_a_wrong_token_is_found(asks: list[Ask], reference: list[list[int]]) -> None:
    """The negative control, without an engine: of two servers' answers one is wrong in its last token."""

    class Liar:
        def tokens(self, prompt: list[int], max_tokens: int, timeout: float, name: str) -> list[int]:  # noqa: ARG002
            number = [ask.prompt for ask in asks].index(prompt)
            tokens = reference[number][:max_tokens]
            return [*tokens[:-1], tokens[-1] ^ 1] if number == 5 else tokens

    compared = Compared(Liar(), asks, reference)
    with Load(compared, callers=2, prompts=[ask.prompt for ask in asks[:8]]) as load:
        wait_until(lambda: compared.wrong, "found")
        wait_until(lambda: load.answered >= 16, "answered")
    assert load.failures == []
    assert all(prompt == asks[5].prompt for prompt in compared.wrong)


def test_replicas_are_engines_of_their_own(
    models: MadeModels, sidecar: Sidecar, tmp_path: Path, asks: list[Ask], reference: list[list[int]]
) -> None:
    """Two data-parallel ranks behind two API servers: each is controlled, and answers as it should."""
    arguments = ("--data-parallel-size", "2", "--api-server-count", "2", *RANK_IN_ENGINE_CORE)
    with serving(models, sidecar, tmp_path / "log", *arguments) as server:
        check_answers(server, sidecar, asks, reference, ranks={0, 1})
    assert {engine["engine_id"] for engine in sidecar.engines()} == {"server"}


def test_a_restarted_engine_may_have_another_shape(
    models: MadeModels, sidecar: Sidecar, tmp_path: Path, asks: list[Ask], reference: list[list[int]]
) -> None:
    """Two tensor-parallel ranks are one engine. It comes back under the id of an engine that is gone.

    Every rank computes the lengths that rank 0 was given: were they to differ, the ranks' collective
    operations would not match, and no request would be answered.
    """
    with serving(models, sidecar, tmp_path / "log", "--tensor-parallel-size", "2") as server:
        check_answers(server, sidecar, asks, reference, ranks={0})
        identity = sidecar.engine("server")["identity"]
    assert identity["model_parallel_size"] == 2
    assert identity["max_length"] == LENGTH


def test_a_killed_engine_comes_back(
    models: MadeModels, sidecar: Sidecar, asks: list[Ask], reference: list[list[int]]
) -> None:
    """In one process (`VLLM_ENABLE_V1_MULTIPROCESSING=0`), killed at work: the next one has its id.

    Both answer as an engine without speculation does, and of the killed one's requests none is left.
    """
    options = EngineOptions(
        model=str(models.target),
        speculative=speculative_config("ngram", models),
        environ={
            "TURBOSPEC_CONTROL_ADDRESS": sidecar.control_address,
            "TURBOSPEC_ENGINE_ID": "phoenix",
        },
    )

    def summary() -> dict[str, Any]:
        return sidecar.engine("phoenix")["summary"]

    def check_answers(engine: Engine) -> None:
        def run() -> Evidence:
            engine.wait_controlled()
            answers, evidence = engine.generate(asks)
            assert differing(answers, reference) == []
            return evidence

        evidence = repeated(run, lambda evidence: evidence.controlled_steps >= 50)
        assert len(set(evidence.proposals)) >= 4
        assert evidence.accepted >= 1

    engine = Engine(options)
    check_answers(engine)
    with ThreadPoolExecutor(1) as caller:
        running = caller.submit(engine.generate, asks)
        wait_until(lambda: summary().get("requests", 0) > 4, "at work")
        engine.kill()
        assert isinstance(running.exception(), EOFError)
    wait_until(lambda: not summary().get("connected", False), "noticed")
    steps = int(summary().get("steps", 0))
    engine = Engine(options)
    try:
        engine.wait_controlled()
        assert int(summary().get("steps", 0)) < steps
        check_answers(engine)
        assert engine.held_state() == {}
        assert summary().get("requests", 0) <= 1, "the killed engine's are forgotten"
    finally:
        engine.stop()
