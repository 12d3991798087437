"""The metrics endpoint, as Prometheus and the operator of a dashboard meet it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.engine_stream import EngineStream, opened, report
from support.patience import PATIENCE_SECONDS, wait_until
from support.scraping import Scrape, get
from support.serving import Server, turbospec
from support.stepping import Stepper, make_hello
from turbospec.adapters.address import Address
from turbospec.adapters.client import ControlClient
from turbospec.adapters.version import __version__
from turbospec.sidecar.server.metrics import collector as collecting
from turbospec.sidecar.server.metrics.catalogue import ENGINE_METRICS
from turbospec.sidecar.server.metrics.collector import EngineCollector
from turbospec.sidecar.server.metrics.endpoint import MOST_SCRAPES, MetricsEndpoint
from turbospec.sidecar.server.registry import Registry
from turbospec.sidecar.server.settings import Settings
from turbospec.v1 import speculation_pb2 as pb

MOST_SERIES_PER_ENGINE = 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("metrics"), "--metrics-address", "127.0.0.1:0")
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def address(server: Server) -> str:
    assert server.metrics is not None
    return server.metrics


def run_60_steps(engine: EngineStream) -> None:
    """Two requests, 3 and 2 drafts verified, 2 and 1 accepted; two fallbacks, three coalesced steps."""
    counters = pb.AdapterCounters(
        fallbacks=[pb.FallbackCount(reason=pb.FALLBACK_REASON_EXPIRED, count=2)],
        coalesced_steps=3,
        connections=1,
    )
    version = 0
    for sequence in range(1, 61):
        plan = engine.plan(
            report(sequence, plan_version=version, plan_age_steps=1 if version else None, counters=counters)
        )
        version = plan.version


def test_what_an_engine_did_is_counted(server: Server, address: str) -> None:
    """Steps, tokens, lengths and positions add up to what was reported; moments are introspection's."""
    with EngineStream.connected(server.control, engine_id="counted") as engine:
        run_60_steps(engine)
        scrape = Scrape(address)
        told = server.engine("counted").summary
    one = {"engine_id": "counted", "rank": 0}
    assert scrape.value("turbospec_steps_total", **one) == 60
    assert scrape.value("turbospec_step_seconds_total", **one) == pytest.approx(0.6)
    assert scrape.value("turbospec_emitted_tokens_total", **one) == 300
    assert scrape.values("turbospec_verified_tokens_total", "position", **one) == {
        "1": 120, "2": 120, "3": 60, "4": 0, "5": 0,
    }  # fmt: skip
    assert scrape.values("turbospec_accepted_tokens_total", "position", **one) == {
        "1": 120, "2": 60, "3": 0, "4": 0, "5": 0,
    }  # fmt: skip
    assert scrape.value("turbospec_proposal_length_tokens_count", **one) == 60
    assert scrape.value("turbospec_proposal_length_tokens_sum", **one) == 180
    verification = scrape.values("turbospec_verification_length_tokens_bucket", "le", **one)
    assert (verification["1.0"], verification["2.0"], verification["3.0"]) == (0, 60, 120)
    assert scrape.value("turbospec_verification_length_tokens_sum", **one) == 300
    # A plan for the hello and one for each report.
    assert sum(scrape.values("turbospec_plans_total", "reason", **one).values()) == 61
    assert scrape.value("turbospec_decision_seconds_count", **one) == 61
    assert scrape.value("turbospec_decision_seconds_sum", **one) > 0
    assert scrape.values("turbospec_fallbacks_total", "reason", **one) == {
        "disconnected": 0, "no_plan": 0, "expired": 2, "invalid_plan": 0, "wrong_epoch": 0, "shadow": 0,
    }  # fmt: skip
    assert scrape.value("turbospec_coalesced_steps_total", **one) == 3
    assert scrape.value("turbospec_dropped_steps_total", **one) == 0
    assert scrape.value("turbospec_engine_connected", **one) == 1
    assert scrape.value("turbospec_engine_controlled", **one) == 1
    assert scrape.value("turbospec_live_requests", **one) == 2
    assert scrape.value("turbospec_plan_age_steps", **one) == 1
    assert scrape.value("turbospec_acceptance_ratio", **one) == 0.6
    assert scrape.value("turbospec_realised_goodput_tokens_per_second", **one) == 500
    for name in (
        "predicted_goodput_tokens_per_second",
        "idle_goodput_tokens_per_second",
        "model_error_ratio",
    ):
        assert scrape.value(f"turbospec_{name}", **one) == getattr(told, name)
    survivals = list(scrape.values("turbospec_survival_ratio", "position", **one).values())
    assert len(survivals) == 5
    assert survivals == sorted(survivals, reverse=True)
    assert scrape.value("turbospec_engine_info", model="target", policy="goodput", **one) == 1
    assert scrape.value("turbospec_build_info", version=__version__) == 1
    assert scrape.value("process_resident_memory_bytes") > 0


def test_a_real_client_counts_the_same(server: Server, address: str) -> None:
    """What the adapter's client counts about itself is what the metrics say."""
    client = ControlClient(server.control, make_hello)
    client.start()
    try:
        stepper = Stepper(client)
        stepper.run_until_controlled()
        stepper.run(50)
        one = {"engine_id": "stepping-0", "rank": 0}
        # Counters travel with the next report.
        stepper.run_until(
            lambda: (
                {
                    reason.upper(): count
                    for reason, count in Scrape(address)
                    .values("turbospec_fallbacks_total", "reason", **one)
                    .items()
                    if count
                }
                == client.fallbacks()
            )
        )
        scrape = Scrape(address)
        assert scrape.value("turbospec_adapter_connections_total", **one) == client.counters().connections
        assert 0 < scrape.value("turbospec_steps_total", **one) <= stepper.steps
        assert scrape.value("turbospec_engine_connected", **one) == 1
    finally:
        client.close()


def test_every_metric_is_in_the_catalogue_and_none_is_about_requests(server: Server, address: str) -> None:
    """Names and labels are the catalogue's, a request's id is nowhere, and an engine has a bounded number."""
    with EngineStream.connected(server.control, engine_id="bounded") as engine:
        run_60_steps(engine)
        before = len(Scrape(address).samples_of("bounded"))
        for slot in range(2, 40):
            engine.plan(report(59 + slot, opened=[opened(slot)], plan_version=60, plan_age_steps=slot))
        scrape = Scrape(address)
    known = {
        metric.name.removesuffix("_total"): {"engine_id", "rank", *metric.labels} for metric in ENGINE_METRICS
    }
    for family in scrape.families:
        if family.name.startswith("process_"):
            continue
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        if family.name in ("turbospec_build_info", "turbospec_connected_engines"):
            assert labels <= {"version"}
        else:
            assert labels == known.pop(family.name)
    assert not known, "metrics that are never told"
    assert "request-" not in scrape.text
    assert before == len(scrape.samples_of("bounded")) <= MOST_SERIES_PER_ENGINE


def test_an_engine_that_left_keeps_its_totals_and_loses_its_moment(server: Server, address: str) -> None:
    """A dashboard must not show the goodput of an engine that is gone as if it were now's."""
    with EngineStream.connected(server.control, engine_id="gone") as engine:
        run_60_steps(engine)
        connected = Scrape(address).value("turbospec_connected_engines")
    wait_until(lambda: not server.engine("gone").summary.connected, "disconnected")
    scrape = Scrape(address)
    assert scrape.value("turbospec_engine_connected", engine_id="gone") == 0
    assert scrape.value("turbospec_engine_controlled", engine_id="gone") == 0
    assert scrape.value("turbospec_connected_engines") == connected - 1
    assert scrape.value("turbospec_steps_total", engine_id="gone") == 60
    told = {sample.name for sample in scrape.samples_of("gone")}
    assert not told & {metric.name for metric in ENGINE_METRICS if metric.momentary}


def test_an_engine_that_has_done_nothing_yet_has_no_made_up_numbers(server: Server, address: str) -> None:
    """What is not known is left out, and not 0; what is counted is 0."""
    with EngineStream.connected(server.control, engine_id="new"):
        scrape = Scrape(address)
    for name in (
        "realised_goodput_tokens_per_second", "model_error_ratio", "acceptance_ratio", "plan_age_steps",
        "fallbacks_total", "coalesced_steps_total",
    ):  # fmt: skip
        assert not scrape.samples(f"turbospec_{name}", engine_id="new")
    assert scrape.value("turbospec_steps_total", engine_id="new") == 0
    assert scrape.value("turbospec_engine_controlled", engine_id="new") == 0


def test_names_that_engines_choose_are_escaped(server: Server, address: str) -> None:
    """A quote, a backslash or a line's end in a model's path neither breaks the scrape nor adds a line."""
    model = 'C:\\models\\"a"\nturbospec_steps_total 7'
    with EngineStream.connected(server.control, engine_id='quo"ted', model=model):
        scrape = Scrape(address)
    assert scrape.value("turbospec_engine_info", engine_id='quo"ted', model=model) == 1
    assert not [sample for sample in scrape.samples("turbospec_steps_total") if not sample.labels]


def test_openmetrics_is_spoken_too(server: Server, address: str) -> None:
    """The stricter format, which Prometheus asks for when it can, is valid as a whole."""
    with EngineStream.connected(server.control, engine_id="strict") as engine:
        run_60_steps(engine)
        text = get(address, "application/openmetrics-text; version=1.0.0")
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"turbospec_steps", "turbospec_build", "turbospec_decision_seconds"} <= names


def test_promtool_finds_nothing_to_complain_about(server: Server, address: str) -> None:
    """Prometheus's own linter, on a scrape with all metrics."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus has it)")
    with EngineStream.connected(server.control, engine_id="linted") as engine:
        run_60_steps(engine)
        text = get(address)
    lint = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, "")


def test_scrapes_do_not_disturb_engines(server: Server, address: str) -> None:
    """Plans come for every report while two scrapers ask as often as they can."""
    done = threading.Event()
    scraped = [0, 0]

    def ask(i: int) -> None:
        while not done.is_set():
            get(address)
            scraped[i] += 1

    threads = [threading.Thread(target=ask, args=(i,)) for i in (0, 1)]
    with EngineStream.connected(server.control, engine_id="undisturbed") as engine:
        for thread in threads:
            thread.start()
        try:
            for sequence in range(1, 201):
                assert engine.plan(report(sequence)).report_sequence == sequence
            wait_until(lambda: min(scraped) > 0, "scraped by both")
        finally:
            done.set()
            for thread in threads:
                thread.join()


def test_clients_that_say_nothing_take_no_more_than_their_places(address: str) -> None:
    """One more is hung up on at once, and when they leave, scrapes are answered again."""
    host, port = address.split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(MOST_SCRAPES)]
    try:

        def refused() -> bool:
            with socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS) as extra:
                try:
                    return extra.recv(1) == b""
                except ConnectionResetError:
                    return True

        wait_until(refused, "refused")
    finally:
        for connection in idle:
            connection.close()

    def answered() -> bool:
        try:
            return "turbospec_build_info" in get(address)
        except OSError:
            return False

    wait_until(answered, "answered again")


def test_metrics_are_off_unless_asked_for(own_server: Server) -> None:
    """Nobody gets a listener that they do not use."""
    assert own_server.metrics is None
    assert "metrics" not in own_server.wait_for("server.listening")[0]


def test_a_port_that_is_taken_stops_the_start(address: str, tmp_path: Path) -> None:
    """The message names it, and the living server's metrics are not disturbed."""
    second = turbospec(
        *("serve", "--metrics-address", address, "--introspection-address", "127.0.0.1:0"),
        *("--control-address", f"unix:{tmp_path}/c.sock", "--operations-address", f"unix:{tmp_path}/o.sock"),
    )
    assert second.returncode == 1
    assert f"cannot listen on {address} for metrics" in second.stderr
    assert "turbospec_build_info" in get(address)


def test_a_controller_that_hangs_fails_the_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of a loop that does not run would be lies; once it runs, the scrape succeeds."""
    monkeypatch.setattr(collecting, "ANSWER_SECONDS", 0.2)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    endpoint = MetricsEndpoint(
        Address(host="127.0.0.1", port=0),
        EngineCollector(Registry(Settings(), time.monotonic), time.monotonic, loop),
    )
    endpoint.start()
    free = threading.Event()
    try:
        loop.call_soon_threadsafe(free.wait)
        with pytest.raises(urllib.error.HTTPError) as failed:
            get(endpoint.address.target)
        assert failed.value.code == 503
        assert "did not answer" in failed.value.read().decode()
        free.set()
        monkeypatch.setattr(collecting, "ANSWER_SECONDS", PATIENCE_SECONDS)
        assert "turbospec_connected_engines 0.0" in get(endpoint.address.target)
    finally:
        free.set()
        endpoint.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
