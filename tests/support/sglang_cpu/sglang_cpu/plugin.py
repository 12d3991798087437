"""SGLang's plug-in, loaded in each of its processes: overlap scheduling with speculation.

SGLang turns it off on CPUs as not implemented. Its loop works there all the same, as on GPUs: a step's
results are processed after the next one has been started.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

OVERLAP_VARIABLE = "TURBOSPEC_TEST_SGLANG_OVERLAP"
CHANGE_VARIABLE = "TURBOSPEC_TEST_SGLANG_CHANGE"


def register() -> None:
    """With `TURBOSPEC_TEST_SGLANG_OVERLAP=1` overlap scheduling stays as SGLang's arguments ask for it.

    With `TURBOSPEC_TEST_SGLANG_CHANGE` a test changes this SGLang first; see `support.sglang_changed`.
    """
    if how := os.environ.get(CHANGE_VARIABLE):
        importlib.import_module("support.sglang_changed").change(how)
    if os.environ.get(OVERLAP_VARIABLE) != "1":
        return
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    for target, replacement in (
        ("sglang.srt.arg_groups.speculative_hook._disable_overlap_schedule_for_cpu", leave_overlap_on),
        ("sglang.kernels.ops.speculative.gather_spec_extras.gather_spec_extras", gather_spec_extras),
    ):
        HookRegistry.register(target, replacement, HookType.REPLACE)


def leave_overlap_on(_: object) -> None:
    """In place of what turns it off."""


def gather_spec_extras(
    indices: Tensor, topk_p: Tensor, topk_index: Tensor, output_tokens: Tensor, hidden_states: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Rows of what the last step left for the next, in place of SGLang's Triton kernel."""
    extras = None if hidden_states is None else hidden_states[indices]
    return topk_p[indices], topk_index[indices], output_tokens[indices], extras
