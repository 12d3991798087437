"""Steps that draft nothing need not be asked for their drafts.

With synchronous scheduling vLLM's engine core asks the workers for the drafts after every step. That is a
round trip between processes, and where processes share cores it costs percents of a step.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

_HOOKED = "turbospec_hooked"


def hook_engine_core(engine_core_class: Any) -> None:
    """Makes vLLM's EngineCore skip the question after steps of which our scheduler knows the answer.

    Any number of calls do what one does.
    """
    post_step = engine_core_class.post_step
    if hasattr(post_step, _HOOKED):
        return

    @wraps(post_step)
    def post_step_with_drafts(self: Any, model_executed: bool) -> None:
        control = getattr(self.scheduler, "_turbospec", None)
        if control is None or not control.drafted_nothing:
            post_step(self, model_executed)

    setattr(post_step_with_drafts, _HOOKED, True)
    engine_core_class.post_step = post_step_with_drafts
