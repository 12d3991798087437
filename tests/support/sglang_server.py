"""SGLang's HTTP server as a process. Load on it: `support.vllm_server.Load`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from support import vllm_server
from support.sglang_setup import EngineOptions
from support.sidecar import SOURCE_ROOTS


class Server(vllm_server.Server):
    """`python -m sglang.launch_server`, with all of its processes. What can be asked of it is as for vLLM."""

    def __init__(
        self,
        options: EngineOptions,
        port: int,
        log: Path,
        program: Sequence[str] = ("sglang.launch_server",),
    ) -> None:
        """`program`: the module to run, and arguments that come before SGLang's."""
        self.url = f"http://127.0.0.1:{port}"
        self.model = options.model
        self._log = log
        command = [sys.executable, "-m", *program, "--port", str(port), *options.flags()]
        # Else its scheduler looks for requests without a pause, which takes a core from all that is tested.
        command += ["--sleep-on-idle", "--skip-server-warmup"]
        environ = {
            **os.environ,
            "PYTHONPATH": SOURCE_ROOTS,
            # Else it answers /health only when a step is over, and not at all where an adapter blocks it.
            "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "0",
            **options.environment(),
        }
        with log.open("wb") as output:
            # A group of its own: SGLang's schedulers and its detokenizer are children of the server.
            self.process = subprocess.Popen(
                command, env=environ, stdout=output, stderr=output, start_new_session=True
            )
