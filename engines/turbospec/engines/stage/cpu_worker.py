"""Imported by vLLM's workers on a stage: puts right what CPU builds get wrong for requests that sample."""

from __future__ import annotations

from typing import Any

from vllm.platforms import current_platform
from vllm.v1.sample import rejection_sampler


class WorkerExtension:
    """For `--worker-extension-cls`. Adds nothing to the worker: that it is imported is what counts."""


def expand(values: Any, ends: Any, total: int, replace_from: float = 0, replace_to: float = 0) -> Any:
    """Each request's value for each of its draft tokens, `replace_from` replaced by `replace_to`.

    `values` and `ends`, where each request's tokens end, have shape (requests,), the result (total,). In vLLM
    0.32 the CPU stand-in for this kernel writes into a copy and drops it: as soon as one request in the batch
    samples, the temperatures at draft tokens are whatever was in memory, with or without TurboSpec.
    """
    counts = ends.diff(prepend=ends.new_zeros(1))
    replaced = values.where(values != replace_from, replace_to)
    return replaced.repeat_interleave(counts, output_size=total)


if current_platform.is_cpu():
    rejection_sampler.expand_batch_to_tokens = expand
