"""Introspection, reflection and health, as a person at a terminal meets them."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from support.engine_stream import EngineStream, report
from support.patience import PATIENCE_SECONDS
from support.serving import Server
from turbospec.v1 import introspection_pb2 as pb
from turbospec.v1 import speculation_pb2 as spec


@pytest.fixture(scope="module")
def engine(server: Server) -> Iterator[EngineStream]:
    """An engine that has run 60 steps under the plans it got, and has counted some fallbacks."""
    with EngineStream.connected(server.control, engine_id="seen") as engine:
        version = 0
        for sequence in range(1, 61):
            counters = spec.AdapterCounters(
                fallbacks=[spec.FallbackCount(reason=spec.FALLBACK_REASON_NO_PLAN, count=1)], connections=1
            )
            plan = engine.plan(
                report(
                    sequence, plan_version=version, plan_age_steps=1 if version else None, counters=counters
                )
            )
            version = plan.version
        yield engine


def answer(message: Any) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True)


@pytest.mark.usefixtures("engine")
def test_the_list_says_at_a_glance_what_goes_on(server: Server) -> None:
    """Per engine: lengths and why, acceptance, goodput, plan age, fallbacks, as JSON with units in names."""
    listed = server.look.ListEngines(pb.ListEnginesRequest(), timeout=PATIENCE_SECONDS)
    (seen,) = [e for e in answer(listed)["engines"] if e["engine_id"] == "seen"]
    assert {
        "engine_id", "connected", "controlled", "policy", "requests", "reason", "acceptance_ratio",
        "realised_goodput_tokens_per_second", "plan_age_steps", "steps", "seconds_since_report", "fallbacks",
    } <= seen.keys()  # fmt: skip
    assert seen["controlled"] is True
    assert "uncontrolled_reason" not in seen
    assert seen["acceptance_ratio"] == 0.6
    assert seen["realised_goodput_tokens_per_second"] == 500.0
    assert seen["fallbacks"] == [{"reason": "FALLBACK_REASON_NO_PLAN", "count": "1"}]
    assert listed.controller_version


@pytest.mark.usefixtures("engine")
def test_one_engine_in_full(server: Server) -> None:
    """Identity, capabilities, acceptance by position, cost model, newest decision, the adapter's counts."""
    state = answer(server.engine("seen"))
    assert {
        "summary",
        "identity",
        "capabilities",
        "acceptance",
        "latency",
        "last_decision",
        "adapter",
    } <= state.keys()
    assert len(state["acceptance"]["survivals"]) == state["identity"]["max_length"] == 5
    assert state["last_decision"]["explanation"]
    assert state["last_decision"]["decision_seconds"] > 0
    for values in (state["acceptance"]["survivals"], state["acceptance"]["hazards"]):
        assert all(0.0 <= x <= 1.0 and x == float(f"{x:.4g}") for x in values)


@pytest.mark.usefixtures("engine")
def test_decisions_are_explained_newest_first(server: Server) -> None:
    """Ten unless asked for more, each with a sentence, and where lengths were compared, one chosen."""
    explained = server.look.ExplainDecisions(
        pb.ExplainDecisionsRequest(engine_id="seen"), timeout=PATIENCE_SECONDS
    )
    versions = [d.plan_version for d in explained.decisions]
    assert versions == sorted(versions, reverse=True)
    assert len(versions) == 10
    assert all(d.explanation and d.policy == "goodput" for d in explained.decisions)
    for decision in explained.decisions:
        chosen = [c for c in decision.candidates if c.chosen]
        assert len(chosen) == (1 if decision.candidates else 0)
        assert sum(decision.requests_by_verification_length) == 2
        for c in decision.candidates:
            predicted = c.expected_tokens / c.predicted_step_seconds
            assert math.isclose(c.predicted_goodput_tokens_per_second, predicted, rel_tol=1e-2)
    more = server.look.ExplainDecisions(
        pb.ExplainDecisionsRequest(engine_id="seen", limit=256), timeout=PATIENCE_SECONDS
    )
    assert len(more.decisions) == 61
    with pytest.raises(grpc.RpcError) as error:
        server.look.ExplainDecisions(
            pb.ExplainDecisionsRequest(engine_id="seen", limit=257), timeout=PATIENCE_SECONDS
        )
    assert error.value.details() == "limit: at most 256, not 257"


def test_decisions_can_be_watched(server: Server) -> None:
    """New ones arrive as they are made, no more per second than asked for."""
    with EngineStream.connected(server.control, engine_id="watched") as engine:
        watch = server.look.WatchDecisions(
            pb.WatchDecisionsRequest(engine_id="watched", max_per_second=20.0), timeout=PATIENCE_SECONDS
        )
        assert next(watch).decision.plan_version == 1
        started = time.monotonic()
        seen = []
        for sequence in range(1, 4):
            engine.plan(report(sequence))
            seen.append(next(watch).decision.report_sequence)
        assert seen == [1, 2, 3]
        assert time.monotonic() - started >= 2 / 20.0
        watch.cancel()


@pytest.mark.usefixtures("engine")
def test_an_unknown_engine_is_not_found_and_the_known_are_listed(server: Server) -> None:
    """A typing mistake answers itself."""
    with pytest.raises(grpc.RpcError) as error:
        server.engine("sen")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    assert "no engine sen/0; known: " in error.value.details()
    assert "seen/0" in error.value.details()


def test_why_an_engine_is_not_controlled_is_a_sentence(server: Server) -> None:
    """Before the first report, on its own length, and after it left."""

    def reason() -> str:
        return server.engine("alone").summary.uncontrolled_reason

    with EngineStream.connected(server.control, engine_id="alone") as engine:
        assert reason() == "connected, but no step has been reported yet"
        expired = [spec.FallbackCount(reason=spec.FALLBACK_REASON_EXPIRED, count=3)]
        engine.plan(report(1, counters=spec.AdapterCounters(fallbacks=expired)))
        assert reason() == (
            "the newest step ran on the engine's own length: the newest plan had outlived its time to live"
        )
        engine.plan(report(2, plan_version=1))
        assert server.engine("alone").summary.controlled
    assert not server.engine("alone").summary.connected
    assert reason().startswith("disconnected for ")


def test_reflection_lists_and_describes(server: Server) -> None:
    """A client without files learns the services and their messages, as grpcurl does."""
    database = ProtoReflectionDescriptorDatabase(server.channel)
    assert {"turbospec.v1.IntrospectionService", "grpc.health.v1.Health"} <= set(database.get_services())
    service = DescriptorPool(database).FindServiceByName("turbospec.v1.IntrospectionService")
    assert "GetEngine" in service.methods_by_name
    assert (
        "explanation"
        in DescriptorPool(database).FindMessageTypeByName("turbospec.v1.Decision").fields_by_name
    )
    operations = ProtoReflectionDescriptorDatabase(server.operations_channel)
    assert "turbospec.v1.OperationsService" in operations.get_services()


def test_health_has_named_components(own_server: Server) -> None:
    """Each service and the whole; engines' hosts may ask on the control socket; a stop says NOT_SERVING."""
    serving = health_pb2.HealthCheckResponse.SERVING
    health = health_pb2_grpc.HealthStub(own_server.channel)
    for name in ("", "IntrospectionService", "OperationsService", "SpeculationService"):
        service = f"turbospec.v1.{name}" if name else ""
        assert (
            health.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_SECONDS).status
            == serving
        )
    with pytest.raises(grpc.RpcError):
        health.Check(health_pb2.HealthCheckRequest(service="turbospec.v1.Nothing"), timeout=PATIENCE_SECONDS)
    with grpc.insecure_channel(own_server.control) as channel:
        at_control = health_pb2_grpc.HealthStub(channel)
        assert at_control.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS).status == serving
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS)
    assert next(watch).status == serving
    own_server.process.send_signal(signal.SIGTERM)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
