"""The adapter with the deliberately blocking client in it: the negative control of the fail-open checks."""

from __future__ import annotations

from support.blocking_client import BlockingClient
from turbospec.adapters.vllm import scheduler

scheduler.ControlClient = BlockingClient  # type: ignore[misc]


class BlockingScheduler(scheduler.TurboSpecScheduler):
    """For --scheduler-cls."""
