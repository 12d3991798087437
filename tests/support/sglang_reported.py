"""What a real SGLang reports of a run to a scripted controller, whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from support import sglang_adapter
from support.controllers import ControllerProcess
from support.sglang_worker import Engine

_ATTEMPTS = 3
# Of a run's steps, so many have a report of their own.
_ALONE = 0.7

T = TypeVar("T")


def reported(
    engine: Engine, controller: ControllerProcess, run: Callable[[], T]
) -> tuple[T, list[dict[str, Any]]]:
    """What `run` returns, which has the engine answer, and all reports of it. The controller answers each.

    While the controller stands still, steps are summed up, and after seconds they are given up, and so is the
    connection. All that is as it should be, and such a run is repeated. With an adapter that always does so,
    the last run is one of those.
    """
    for _ in range(_ATTEMPTS):
        before, seen = engine.call(sglang_adapter.wait_answered), len(controller.received("report"))
        result = run()
        after = engine.call(sglang_adapter.wait_answered)
        reports = controller.received("report")[seen:]
        each = [int(report["steps"]) for report in reports]
        if after == before and each.count(1) >= _ALONE * sum(each):
            break
    return result, reports
