"""Changing a running controller."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from support.engine_stream import EngineStream, report
from support.patience import PATIENCE_SECONDS
from support.serving import Server, turbospec
from turbospec.v1 import operations_pb2 as pb
from turbospec.v1 import operations_pb2_grpc
from turbospec.v1 import speculation_pb2 as spec


@pytest.fixture(scope="module")
def settings_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "settings.toml"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, settings_file: Path) -> Iterator[Server]:
    """A server with a settings file, so that what it says can change."""
    settings_file.write_text("")
    server = Server(tmp_path_factory.mktemp("server"), "--config", str(settings_file))
    yield server
    server.stop()


@pytest.fixture
def engine(server: Server, settings_file: Path) -> Iterator[EngineStream]:
    """An engine under the default policy."""
    settings_file.write_text("")
    server.operate.ReloadSettings(pb.ReloadSettingsRequest(), timeout=PATIENCE_SECONDS)
    server.operate.SetPolicy(pb.SetPolicyRequest(policy="goodput", shadow=False), timeout=PATIENCE_SECONDS)
    server.operate.SetCap(pb.SetCapRequest(), timeout=PATIENCE_SECONDS)
    with EngineStream.connected(server.control, engine_id="vllm-0") as engine:
        engine.plan(report(1))
        yield engine


def refusal(call: grpc.UnaryUnaryMultiCallable, request: Message) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        call(request, timeout=PATIENCE_SECONDS)
    return error.value.code(), error.value.details()


def only(engine_id: str, rank: int | None = None) -> pb.EngineSelector:
    return pb.EngineSelector(engine_id=engine_id, rank=rank)


def test_a_new_policy_reaches_the_engine_at_once(server: Server, engine: EngineStream) -> None:
    """Without waiting for a report: a plan with the new lengths comes by itself, also for later engines."""
    answer = server.operate.SetPolicy(pb.SetPolicyRequest(policy="static:4"), timeout=PATIENCE_SECONDS)
    assert "vllm-0/0" in answer.engines
    plan = engine.next().plan
    assert (plan.batch_proposal_length, set(plan.verification_lengths)) == (4, {4})
    assert not plan.shadow
    with EngineStream.connected(server.control, engine_id="later") as later:
        assert later.plan(report(1)).batch_proposal_length == 4
    assert server.engine("vllm-0").summary.policy == "static:4"


@pytest.mark.usefixtures("engine")
def test_off_skips_the_drafter_where_that_can_be_done(server: Server) -> None:
    """And it shows; an engine that cannot skip its drafter idles at length 0."""
    server.operate.SetPolicy(pb.SetPolicyRequest(policy="off"), timeout=PATIENCE_SECONDS)
    able = spec.Capabilities(proposal_settable=True, verification_per_request=True, deep_off=True)
    with EngineStream.connected(server.control, engine_id="able", capabilities=able) as engine:
        plan = engine.plan(report(1))
        assert plan.skip_drafter
        assert plan.batch_proposal_length == 0
        skipped = {"proposed": [0, 0], "verified": [0, 0], "accepted": [0, 0], "emitted_tokens": 2}
        engine.plan(report(2, proposal_length=0, drafter_skipped=True, unready_slots=[0, 1], **skipped))
        summary = server.engine("able").summary
        assert summary.drafter_skipped
        assert summary.unready_requests == 2
    with EngineStream.connected(server.control, engine_id="unable") as engine:
        plan = engine.plan(report(1))
        assert not plan.skip_drafter
        assert plan.batch_proposal_length == 0


@pytest.mark.usefixtures("engine")
def test_a_policy_for_one_engine_leaves_others_alone(server: Server) -> None:
    """And outlives its reconnect."""
    with EngineStream.connected(server.control, engine_id="other") as other:
        server.operate.SetPolicy(
            pb.SetPolicyRequest(engine=only("other", 0), policy="static:2"), timeout=PATIENCE_SECONDS
        )
        assert other.next().plan.batch_proposal_length == 2
        assert server.engine("vllm-0").summary.policy == "goodput"
    with EngineStream.connected(server.control, engine_id="other") as other:
        assert other.plan(report(1)).batch_proposal_length == 2


def test_shadow_is_announced_and_marked(server: Server, engine: EngineStream) -> None:
    """Configure says it, every plan carries it, and the summary explains it."""
    server.operate.SetPolicy(pb.SetPolicyRequest(policy="static:1", shadow=True), timeout=PATIENCE_SECONDS)
    assert engine.next().configure.shadow
    assert engine.next().plan.shadow
    summary = server.engine("vllm-0").summary
    assert not summary.controlled
    assert summary.uncontrolled_reason.startswith("shadow: ")


def test_a_cap_holds_whatever_the_policy(server: Server, engine: EngineStream) -> None:
    """Set, kept over a change of policy, and taken away."""
    server.operate.SetPolicy(pb.SetPolicyRequest(policy="static:4"), timeout=PATIENCE_SECONDS)
    assert engine.next().plan.batch_proposal_length == 4
    server.operate.SetCap(pb.SetCapRequest(max_length=1), timeout=PATIENCE_SECONDS)
    assert engine.next().plan.batch_proposal_length == 1
    server.operate.SetPolicy(pb.SetPolicyRequest(policy="static:3"), timeout=PATIENCE_SECONDS)
    assert engine.next().plan.batch_proposal_length == 1
    server.operate.SetCap(pb.SetCapRequest(), timeout=PATIENCE_SECONDS)
    assert engine.next().plan.batch_proposal_length == 3


def test_reset_forgets_what_was_learnt(server: Server, engine: EngineStream) -> None:
    """Evidence is that of a fresh engine again; the engine stays connected."""
    for sequence in range(2, 40):
        engine.plan(report(sequence))
    learnt = sum(server.engine("vllm-0").acceptance.evidence)
    assert list(server.operate.ResetEstimators(pb.ResetEstimatorsRequest(engine=only("vllm-0"))).engines)
    assert sum(server.engine("vllm-0").acceptance.evidence) < learnt
    assert engine.plan(report(40)).report_sequence == 40


@pytest.mark.usefixtures("engine")
def test_bad_operations_change_nothing(server: Server) -> None:
    """Unknown policies, lengths that one engine lacks, unknown engines: each named."""
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    set_policy = server.operate.SetPolicy
    code, details = refusal(set_policy, pb.SetPolicyRequest(policy="best"))
    assert code is invalid
    assert details.startswith("policy: unknown policy 'best'; valid policies: goodput, off, idle, static:K")
    with EngineStream.connected(server.control, engine_id="short", max_length=2, static_length=1):
        code, details = refusal(set_policy, pb.SetPolicyRequest(policy="static:4"))
        assert code is invalid
        assert "engine short/0" in details
    assert server.engine("vllm-0").summary.policy == "goodput"
    code, details = refusal(set_policy, pb.SetPolicyRequest(engine=only("nobody"), policy="idle"))
    assert code is grpc.StatusCode.NOT_FOUND
    assert details.startswith("engine.engine_id: no engine nobody/0; known: ")
    code, _ = refusal(set_policy, pb.SetPolicyRequest(engine=only("", 1), policy="idle"))
    assert code is invalid
    assert refusal(server.operate.SetCap, pb.SetCapRequest(max_length=65)) == (
        invalid,
        "max_length: from 0 to 64, not 65",
    )


def test_sighup_reloads_and_a_bad_file_keeps_the_old(
    server: Server, engine: EngineStream, settings_file: Path
) -> None:
    """The new policy reaches the engine; then a bad one is logged and refused, and the first stays."""
    settings_file.write_text('policy = "static:2"\n')
    server.process.send_signal(signal.SIGHUP)
    assert engine.next().plan.batch_proposal_length == 2
    settings_file.write_text('policy = "static:x"\n')
    server.process.send_signal(signal.SIGHUP)
    event = server.wait_for("settings.rejected")[-1]
    assert f"policy in {settings_file}" in event["error"]
    code, details = refusal(server.operate.ReloadSettings, pb.ReloadSettingsRequest())
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "static:x" in details
    assert engine.plan(report(2)).batch_proposal_length == 2


@pytest.mark.usefixtures("engine")
def test_settings_that_need_a_restart_are_told(server: Server, settings_file: Path) -> None:
    """They are not applied half: the answer has only what changed, the log has the rest."""
    settings_file.write_text("length_cap = 1\nmax_engines = 5\n")
    answer = server.operate.ReloadSettings(pb.ReloadSettingsRequest(), timeout=PATIENCE_SECONDS)
    assert list(answer.changed) == ["length_cap=1"]
    assert server.events("settings.reloaded")[-1]["need_restart"] == ["max_engines"]
    server.operate.ReloadSettings(pb.ReloadSettingsRequest(), timeout=PATIENCE_SECONDS)
    assert server.events("settings.reloaded")[-1]["need_restart"] == ["max_engines"]  # it still does


def test_operations_over_tcp_need_the_token(tmp_path: Path) -> None:
    """Without it, or with another: UNAUTHENTICATED. With it, also after it was replaced, it works."""
    token = tmp_path / "token"
    token.write_text("sesame\n")
    token.chmod(0o600)
    server = Server(tmp_path, "--operations-address", "127.0.0.1:0", "--operations-token-file", str(token))
    try:
        stub = operations_pb2_grpc.OperationsServiceStub(server.operations_channel)
        request = pb.SetPolicyRequest(policy="idle")
        for metadata in ([], [("authorization", "Bearer sesam")], [("authorization", "sesame")]):
            with pytest.raises(grpc.RpcError) as error:
                stub.SetPolicy(request, metadata=metadata, timeout=PATIENCE_SECONDS)
            assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
        stub.SetPolicy(request, metadata=[("authorization", "Bearer sesame")], timeout=PATIENCE_SECONDS)
        token.write_text("other")
        token_flags = ("--address", server.operations, "--token-file", str(token))
        assert turbospec("set-policy", "static:2", *token_flags).returncode == 0
        refused = turbospec("set-policy", "static:2", "--address", server.operations)
        assert refused.returncode == 1
        assert "--token-file" in refused.stderr
    finally:
        server.stop()
    token.chmod(0o644)
    readable = turbospec(
        *("serve", "--operations-address", "127.0.0.1:0", "--operations-token-file", str(token)),
        *("--control-address", f"unix:{tmp_path}/c.sock"),
    )
    assert readable.returncode == 1
    assert "other users may read it" in readable.stderr
