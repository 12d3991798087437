"""The load driver counts what users receive, and nothing else."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from support.patience import PATIENCE_SECONDS
from turbospec.engines import load
from turbospec.engines.load import LoadError, LoadResult, Workload, drive, open_session, stream
from turbospec.engines.processes import Children, free_port, responds

pytestmark = pytest.mark.usefixtures("_subprocesses_see_the_tree")

_SERVER = Path(__file__).parents[1] / "support" / "completions_server.py"
_WORKLOAD = Workload("made", vocabulary=512, prompt_tokens=5, output_tokens=(24, 24))

Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path, _subprocesses_see_the_tree: None) -> Iterator[Serve]:
    """Starts a server that streams at a known speed."""
    with Children(tmp_path) as children:

        def start(chunk: int, seconds: float, fail: int = 0) -> str:
            url = f"http://127.0.0.1:{(port := free_port())}"
            argv = [sys.executable, str(_SERVER), str(port), str(chunk), str(seconds), str(fail)]
            children.start("server", argv, {}).wait_until(lambda: responds(f"{url}/health"), PATIENCE_SECONDS)
            return url

        yield start


def _drive(
    url: str, concurrency: int, seconds: float = PATIENCE_SECONDS, workload: Workload = _WORKLOAD
) -> LoadResult:
    """By itself for longer than any request that fails takes to fail."""
    return asyncio.run(drive(url, workload, concurrency=concurrency, ramp_seconds=0.4, seconds=seconds))


def _asked(url: str) -> list[int]:
    """Tokens that each request so far has asked the server for."""
    with urllib.request.urlopen(f"{url}/asked", timeout=PATIENCE_SECONDS) as answer:
        asked: list[int] = json.load(answer)
    return asked


@pytest.mark.parametrize("concurrency", [1, 4])
def test_tokens_are_counted_not_chunks(serve: Serve, concurrency: int) -> None:
    """Chunks of a thousand tokens every 100 ms are ten thousand tokens per second and client."""
    workload = Workload("made", vocabulary=512, prompt_tokens=5, output_tokens=(8000, 8000))
    result = _drive(serve(1000, 0.1), concurrency, seconds=3.0, workload=workload)
    # In so short a time there are some dozen chunks. The server is never faster than its clock, and a chunk
    # of each client may fall on the window's edge; how much slower it is, is the machine's business.
    assert result.tokens % 1000 == 0
    assert 0 < result.tokens <= 10_000 * concurrency * result.seconds + 1000 * concurrency
    assert result.tokens_per_second == result.tokens / result.seconds
    # 8 chunks; the 7999 tokens after the first arrive with the 7 chunks after the first.
    assert result.time_per_output_token is not None
    between_chunks = result.time_per_output_token * 7999 / 7
    assert 0.05 <= between_chunks < 1.0
    assert result.time_to_first_token is not None
    assert 0.1 <= result.time_to_first_token < 8 * between_chunks
    assert 1 <= result.completed_requests <= 5 * concurrency


def test_the_ramp_does_not_count(serve: Serve) -> None:
    """A server whose first token comes after the window has given nothing within it."""
    result = _drive(serve(1, 300.0), 2, seconds=0.3)
    assert result.tokens == 0
    assert result.time_to_first_token is None
    assert result.completed_requests == 0


def test_a_window_in_which_the_machine_stood_still_is_measured_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came in it does not count. Where it happens every time, the last window has to do."""
    url, waits = serve(3, 0.01), iter([False, True, False, True])
    run, asked = load._run, []

    async def told(clients: list[asyncio.Task[None]], seconds: float) -> bool:
        asked.append(seconds)
        before = len(_asked(url))
        await run(clients, seconds)
        # Until a whole answer came in the window, whose tokens must count.
        while len(_asked(url)) < before + 2:
            await run(clients, 0.1)
        return next(waits, True)

    monkeypatch.setattr(load, "_run", told)
    result = _drive(url, 1, seconds=0.5)
    assert asked == [0.4, 0.5, 0.5]
    # The server is never faster than its clock.
    assert 0 < result.tokens <= 300 * result.seconds + 3
    asked.clear()
    _drive(url, 1, seconds=0.1)
    assert asked == [0.4, 0.1, 0.1, 0.1]


def test_standing_still_is_noticed() -> None:
    """Of a machine that only makes this process wait a little, nothing is said."""

    async def stood_still(blocked: float) -> bool:
        idle = asyncio.create_task(asyncio.sleep(3600))
        asyncio.get_running_loop().call_later(0.1, time.sleep, blocked)
        try:
            return await load._run([idle], 0.3)
        finally:
            idle.cancel()

    assert asyncio.run(stood_still(1.5))
    # The machine itself may have stood still.
    assert not all(asyncio.run(stood_still(0.1)) for _ in range(5))


def test_an_error_within_a_stream_is_an_error(serve: Serve) -> None:
    """A measurement in which a request failed is none."""
    with pytest.raises(LoadError, match="engine died"):
        _drive(serve(3, 0.01, 3), 2)


def test_a_server_closing_idle_connections_loses_no_request(serve: Serve) -> None:
    """A measurement must not end because one request met the end of a connection's idle time."""
    url = serve(3, 0.001)

    async def ask_twice(opened: aiohttp.ClientSession) -> None:
        async with opened as session:
            for number in range(2):
                async for _ in stream(session, url, _WORKLOAD.body(number)):
                    pass

    async def as_load_does() -> None:
        await ask_twice(open_session())

    async def with_kept_connections() -> None:
        await ask_twice(aiohttp.ClientSession())

    asyncio.run(as_load_does())
    with pytest.raises(LoadError, match=r"ClientOSError|ServerDisconnectedError"):
        asyncio.run(with_kept_connections())


def test_a_refused_request_is_an_error(serve: Serve) -> None:
    """The server's own words reach the user."""
    with pytest.raises(LoadError, match=r"status 404.*no such model"):
        _drive(serve(3, 0.01), 1, workload=Workload("other", vocabulary=512))


def test_a_server_that_is_not_there_is_an_error() -> None:
    """No connection is not zero tokens."""
    with pytest.raises(LoadError, match="ClientConnectorError"):
        _drive(f"http://127.0.0.1:{free_port()}", 1)


def test_a_short_answer_is_an_error(serve: Serve) -> None:
    """Requests that end early would make a policy look faster than it is."""
    with pytest.raises(LoadError, match="after 21 of 23 tokens"):
        _drive(serve(3, 0.01), 1, workload=Workload("made", vocabulary=512, output_tokens=(23, 23)))


def test_prompts_depend_on_seed_and_number_only() -> None:
    """Every policy gets the same prompts."""
    bodies = [_WORKLOAD.body(number) for number in range(50)]
    assert bodies == [Workload("made", 512, 5, (24, 24)).body(number) for number in range(50)]
    prompts = [body["prompt"] for body in bodies]
    assert all(isinstance(prompt, list) and len(prompt) == 5 for prompt in prompts)
    assert len({str(prompt) for prompt in prompts}) == 50
    assert Workload("made", 512, 5, (24, 24), seed=1).body(0) != bodies[0]


def test_lengths_vary_within_their_range() -> None:
    """Requests that all end together would come as waves of prefills; a share cuts a first one short."""
    workload = Workload("made", 512, output_tokens=(64, 192))
    lengths = [workload.body(number)["max_tokens"] for number in range(200)]
    assert all(isinstance(length, int) and 64 <= length <= 192 for length in lengths)
    assert len(set(lengths)) > 50
    assert workload.body(0, 0.5)["max_tokens"] == round(0.5 * workload.body(0)["max_tokens"])  # type: ignore[operator]
    assert workload.body(0, 0.0)["max_tokens"] == 1
    assert workload.body(0, 0.5)["prompt"] == workload.body(0)["prompt"]


def test_first_requests_end_one_after_the_other(serve: Serve) -> None:
    """Of four clients with equal requests, one ends in each quarter of a request's time."""
    url = serve(3, 300.0)  # until all have asked none gets its answer, and nobody asks twice

    async def first_asked() -> list[int]:
        loaded = drive(url, _WORKLOAD, concurrency=4, ramp_seconds=0.0, seconds=PATIENCE_SECONDS)
        driving = asyncio.create_task(loaded)
        asked: list[int] = []
        while len(asked) < 4 and not driving.done():
            await asyncio.sleep(0.02)
            asked = await asyncio.to_thread(_asked, url)
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)
        return asked

    assert sorted(asyncio.run(first_asked())) == [6, 12, 18, 24]
