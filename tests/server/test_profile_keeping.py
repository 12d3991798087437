"""What a controller learned of costs is there for the next one, as a profile on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.engine_stream import EngineStream, hello, report
from support.profiles import Watched
from support.serving import Server
from turbospec.sidecar.profiles.profile import Profile, Source
from turbospec.v1 import introspection_pb2, operations_pb2
from turbospec.v1 import speculation_pb2 as pb


def live(server: Server, steps: int = 150, **identity: object) -> set[int]:
    """An engine runs; the reasons of its plans."""
    reasons = set()
    with EngineStream.connected(server.control, **identity) as engine:
        for sequence in range(1, steps + 1):
            reasons.add(engine.plan(report(sequence)).reason)
    return reasons


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "profiles")


def served(directory: Path, watched: Watched) -> Server:
    directory.mkdir()
    return Server(directory, "--profiles-directory", str(watched.store.directory))


def test_costs_outlive_the_controller(tmp_path: Path, watched: Watched) -> None:
    """A stopped controller leaves a profile; the next one starts engines of that kind from it and says so."""
    first = served(tmp_path / "first", watched)
    assert pb.PLAN_REASON_LEARNING in live(first, engine_id="before")
    first.stop()
    (profile,) = watched.store.profiles()
    assert profile.source is Source.ONLINE
    assert profile.key.model == hello().model
    assert sum(cell.steps for cell in profile.cells) >= 100

    second = served(tmp_path / "second", watched)
    # Too few steps of their own to count.
    live(second, 2, engine_id="after", model_parallel_size=2)
    live(second, 2, engine_id="same")
    used = second.events("profile.used")
    assert [(line["engine"], line["prior"]) for line in used] == [("after/0", True), ("same/0", False)]
    assert used[0]["differs_in"] == ["model_parallel_size"]
    check_shown(second, profile)
    second.stop()


def check_shown(server: Server, profile: Profile) -> None:
    """Whoever asks is told from which profile engines started, and which cells rest on it."""
    for engine_id, differs_in, basis in (
        ("after", ["model_parallel_size"], introspection_pb2.COST_BASIS_PRIOR),
        ("same", [], introspection_pb2.COST_BASIS_PROFILE),
    ):
        latency = server.engine(engine_id).latency
        assert latency.started_from.profile_id == profile.key.profile_id
        assert latency.started_from.source == operations_pb2.PROFILE_SOURCE_ONLINE
        assert latency.started_from.cells == len(profile.cells)
        assert list(latency.started_from.differs_in) == differs_in
        (known,) = [c for c in latency.cells if c.basis != introspection_pb2.COST_BASIS_EXTRAPOLATED]
        assert known.basis == basis
        assert known.profile_steps + known.prior_steps == profile.summary.steps
        assert (known.least_requests, known.most_requests, known.proposal_length) == (2, 2, 3)


def test_a_sweep_is_not_overwritten(tmp_path: Path, watched: Watched) -> None:
    """What designed load has measured stays, whatever ordinary traffic shows."""
    server = served(tmp_path / "first", watched)
    live(server)
    server.stop()
    (profile,) = watched.store.profiles()
    sweep = profile.__class__(
        profile.key, profile.measured_at, profile.turbospec_version, Source.SWEEP, profile.cells[:1]
    )
    watched.store.put(sweep)
    server = served(tmp_path / "second", watched)
    live(server)
    server.stop()
    assert watched.store.profiles() == [sweep]


def test_too_few_steps_are_not_worth_a_profile(tmp_path: Path, watched: Watched) -> None:
    """An engine that hardly ran leaves nothing."""
    server = served(tmp_path / "first", watched)
    live(server, 20)
    server.stop()
    assert watched.store.profiles() == []
