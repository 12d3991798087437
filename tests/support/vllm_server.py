"""vLLM's OpenAI server as a process, and load on it."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from support.patience import PATIENCE_SECONDS, wait_until
from support.sidecar import SOURCE_ROOTS
from support.vllm_worker import SCHEDULER

_TESTS = Path(__file__).parents[1]
# For a model of one rank: it runs in the engine core's process, as on GPUs. vLLM's CPU build gives it one of
# its own, which imports vLLM once more.
RANK_IN_ENGINE_CORE = ("--distributed-executor-backend", "vllm.v1.executor.uniproc_executor.UniProcExecutor")
_LOOK_SECONDS = 0.5


class Server:
    """`python -m vllm.entrypoints.openai.api_server`, controlled from `control_address`."""

    def __init__(
        self,
        model: str,
        speculative: dict[str, Any],
        control_address: str,
        port: int,
        log: Path,
        scheduler: str = SCHEDULER,
        arguments: Sequence[str] = (),
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.model = model
        self._log = log
        command = [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model),
            *("--port", str(port), "--scheduler-cls", scheduler, "--dtype", "float32", "--enforce-eager"),
            *("--max-model-len", "512", "--max-num-seqs", "8"),
            *("--speculative-config", json.dumps(speculative)),
            *arguments,
        ]
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([SOURCE_ROOTS, str(_TESTS)]),
            "TURBOSPEC_CONTROL_ADDRESS": control_address,
            "TURBOSPEC_ENGINE_ID": "server",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            # One thread for tiny models; see vllm_worker.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        with log.open("wb") as output:
            # A group of its own: vLLM's engine core is a child of the server.
            self.process = subprocess.Popen(
                command, env=environ, stdout=output, stderr=output, start_new_session=True
            )

    def wait_until_up(self, seconds: float = 400) -> None:
        try:
            wait_until(self._is_up, "up", seconds, every=0.25)
        except AssertionError as why:
            raise RuntimeError(f"the server did not start: {why}\n{self.log()[-4000:]}") from None

    def _is_up(self) -> bool:
        assert self.process.poll() is None, "it has ended"
        try:
            urllib.request.urlopen(f"{self.url}/health", timeout=2).close()
        except OSError:
            return False
        return True

    def complete(self, prompt: list[int], max_tokens: int, timeout: float, name: str) -> int:
        """One request; see `complete`."""
        return complete(self.url, self.model, prompt, max_tokens, timeout, name)

    def tokens(self, prompt: list[int], max_tokens: int, timeout: float, name: str) -> list[int]:
        """The same, with the tokens that came."""
        answer = _complete(self.url, self.model, prompt, max_tokens, timeout, name, return_token_ids=True)
        return list(answer["choices"][0]["token_ids"])

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self, grace_seconds: float = 30.0) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def complete(url: str, model: str, prompt: list[int], max_tokens: int, timeout: float, name: str) -> int:
    """One request, to its end; how many tokens came. Raises `OSError` if it fails or takes too long.

    The server's id for it is `cmpl-NAME`. Seconds in which the machine stood still do not count.
    """
    answer = _complete(url, model, prompt, max_tokens, timeout, name)
    return int(answer["usage"]["completion_tokens"])


def _complete(
    url: str, model: str, prompt: list[int], max_tokens: int, timeout: float, name: str, **more: Any
) -> dict[str, Any]:
    body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        headers = {"Content-Type": "application/json", "X-Request-Id": name}
        connection.request("POST", "/v1/completions", json.dumps(body | more), headers)
        waited = 0.0
        while not select.select([connection.sock], [], [], _LOOK_SECONDS)[0]:
            waited += _LOOK_SECONDS
            if waited >= timeout:
                raise TimeoutError(f"{name}: no answer within {timeout:g} s")
        response = connection.getresponse()
        text = response.read()
    if response.status != 200:
        raise OSError(f"{name}: status {response.status}: {text[:500]!r}")
    answer: dict[str, Any] = json.loads(text)
    return answer


class Completes(Protocol):
    """Whatever takes load."""

    def complete(self, prompt: list[int], max_tokens: int, timeout: float, name: str) -> int:
        """One request, to its end; how many tokens came. Raises `OSError` if it fails or takes too long."""


class Load:
    """A few callers that ask again as soon as they are answered, until the block is left.

    Caller i calls its requests `caller-i`. It has one prompt, or of `prompts` the i-th and those that follow
    it at a distance of `callers`. Afterwards `answered` is how many requests came back whole, `failures` what
    happened to others, and `longest_seconds` how long the slowest took.
    """

    MAX_TOKENS = 32

    def __init__(
        self,
        server: Completes,
        callers: int = 4,
        timeout: float = PATIENCE_SECONDS,
        prompts: Sequence[list[int]] = (),
    ) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self.longest_seconds = 0.0
        self._server = server
        self._timeout = timeout
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(
                target=self._call, args=(i, prompts[i::callers] or [[10 + i, 20, 30, 40] * 6]), daemon=True
            )
            for i in range(callers)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        # Who failed while it ran has seen enough: the callers end by themselves.
        if failed is None:
            for thread in self._threads:
                thread.join()

    def _call(self, number: int, prompts: Sequence[list[int]]) -> None:
        for prompt in itertools.cycle(prompts):
            if self._stop.is_set():
                return
            began = time.monotonic()
            failure = None
            try:
                tokens = self._server.complete(prompt, self.MAX_TOKENS, self._timeout, f"caller-{number}")
                if tokens != self.MAX_TOKENS:
                    failure = f"{tokens} of {self.MAX_TOKENS} tokens"
            except OSError as error:
                failure = repr(error)
            with self._lock:
                self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
                if failure is None:
                    self.answered += 1
                else:
                    self.failures.append(failure)
