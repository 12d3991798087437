"""Whether the SGLang that is installed has what the adapter holds on to.

SGLang's hooks go to names that it does not promise to keep, and it only logs those that it cannot find. So
the adapter states what it uses, here, and looks before it hooks anything.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Any

_SCHEDULER = "sglang.srt.managers.scheduler.Scheduler"
_RECEIVER = "sglang.srt.managers.scheduler_components.request_receiver.SchedulerRequestReceiver"

# What is hooked, with the parameters that the hook reads.
HOOKED: dict[str, tuple[str, ...]] = {
    f"{_SCHEDULER}.maybe_init_draft_worker": (),
    f"{_SCHEDULER}.run_event_loop": (),
    f"{_SCHEDULER}.run_batch": ("batch",),
    f"{_SCHEDULER}.process_batch_result": ("batch", "result"),
    f"{_SCHEDULER}.send_abort_output": ("abort_req", "req"),
    f"{_SCHEDULER}.continue_generation": (),
    f"{_RECEIVER}._broadcast_reqs_across_ranks": ("recv_reqs",),
}
# What is called or read, by class; the attributes are those that any of its methods sets or declares.
_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    _SCHEDULER: (
        "draft_worker",
        "running_batch",
        "waiting_queue",
        "model_config",
        "max_running_requests",
        "max_prefill_tokens",
        "enable_overlap",
        "device",
        "_sched_idled",
    ),
    "sglang.srt.managers.schedule_batch.Req": (
        "rid",
        "kv",
        "output_ids",
        "origin_input_ids",
        "sampling_params",
        "finished_reason",
        "finished_len",
        "is_retracted",
        "retraction_count",
    ),
    "sglang.srt.managers.schedule_batch.ScheduleBatch": (
        "reqs",
        "forward_mode",
        "extend_num_tokens",
        "has_grammar",
    ),
    "sglang.srt.managers.utils.GenerationBatchResult": (
        "speculative_num_draft_tokens",
        "num_correct_drafts_per_req_cpu",
    ),
    "sglang.srt.sampling.sampling_params.SamplingParams": ("custom_params",),
    "sglang.srt.speculative.adaptive_runtime_state.AdaptiveController": ("_states", "init_states"),
    "sglang.srt.speculative.adaptive_runtime_state.AdaptiveSpecPolicy": (
        "candidate_steps",
        "set_cuda_graph_bs",
        "get_steps_for_batch",
        "on_verify_complete",
        "cuda_graph_bs_for_step",
    ),
    "sglang.srt.runtime_context.RuntimeContext": ("config_leaf",),
}
_CALLED: dict[str, tuple[str, ...]] = {
    "sglang.srt.speculative.adaptive_runtime_state.AdaptiveController.__init__": ("worker", "policy"),
    "sglang.srt.model_executor.cuda_graph_config.check_cuda_graph_backend": (),
    "sglang.srt.plugins.hook_registry.HookRegistry.register": ("target", "hook", "hook_type"),
}


def engine_version() -> str:
    """Version of the installed SGLang. Raises `ImportError` where there is none."""
    try:
        return metadata.version("sglang")
    except metadata.PackageNotFoundError as error:
        raise ImportError("sglang is not installed") from error


def missing_hooks() -> list[str]:
    """What the adapter relies on and the installed SGLang lacks, one line each; empty where all is there.

    Raises `ImportError` where SGLang, or one of the modules that the adapter uses, cannot be imported.
    """
    return list(_missing())


def resolve(name: str) -> Any:
    """What a dotted name of SGLang's means now; None where there is no such thing in its module or class."""
    owner, _, attribute = name.rpartition(".")
    return getattr(pkgutil.resolve_name(owner), attribute, None)


def _missing() -> Iterator[str]:
    for name, parameters in (HOOKED | _CALLED).items():
        yield from _missing_parameters(name, parameters)
    for name, attributes in _ATTRIBUTES.items():
        found = resolve(name)
        if found is None:
            yield f"{_short(name)} is missing"
            continue
        known = _known(found)
        yield from (f"{_short(name)}.{each} is missing" for each in attributes if each not in known)
    result = resolve("sglang.srt.managers.utils.GenerationBatchResult")
    if result is not None and any("__slots__" in vars(each) for each in result.__mro__[:-1]):
        yield "GenerationBatchResult takes no attribute of ours"


def _missing_parameters(name: str, parameters: Iterable[str]) -> Iterator[str]:
    function = resolve(name)
    if function is None:
        yield f"{_short(name)} is missing"
        return
    present = inspect.signature(function).parameters
    yield from (f"{_short(name)} has no parameter {each!r}" for each in parameters if each not in present)


def _known(cls: Any) -> set[str]:
    """Attributes that the class has, declares, or names in one of its methods."""
    known = {*dir(cls), *inspect.get_annotations(cls)}
    for each in vars(cls).values():
        function = inspect.unwrap(each) if callable(each) else each
        if inspect.isfunction(function):
            known.update(function.__code__.co_names)
    return known


def _short(name: str) -> str:
    """Without the modules, which begin with a small letter."""
    parts = name.split(".")
    first = next((i for i, part in enumerate(parts) if part[:1].isupper()), len(parts) - 1)
    return ".".join(parts[first:])
