"""Builds SGLang's runtime states, one for each length."""

from __future__ import annotations

from logging import Logger
from typing import Any

from sglang.srt.speculative.adaptive_runtime_state import AdaptiveController
from turbospec.adapters.sglang.lengths import LengthPolicy, SwitchLines, candidate_lengths
from turbospec.adapters.support import RefusedError


class LengthController(AdaptiveController):  # type: ignore[misc]
    """SGLang's controller of runtime states; does without a length that cannot be built."""

    def __init__(self, worker: Any, policy: LengthPolicy, logger: Logger) -> None:
        super().__init__(worker, policy)
        self._logger = logger

    def init_states(self, cuda_graph_bs: list[int] | None = None) -> None:
        policy = self.params
        policy.set_cuda_graph_bs(cuda_graph_bs)
        for length in policy.candidate_steps:
            if length in self._states:
                continue
            try:
                self._states[length] = self.worker.build_adaptive_runtime_state(
                    speculative_num_steps=length,
                    speculative_num_draft_tokens=length + 1,
                    cuda_graph_bs=policy.cuda_graph_bs_for_step(length),
                )
            # Mostly memory for its graphs; SGLang has put back what it had set for building.
            except Exception:
                self._logger.exception("TurboSpec does without length %d, which could not be built.", length)
        policy.restrict(self._states)


def install(draft_worker: Any, config: Any, *, graphs: bool, logger: Logger) -> LengthPolicy:
    """Makes `draft_worker` (EAGLEWorkerV2 or a subclass) ask us for its lengths, before it builds its states.

    Raises `RefusedError` where it cannot.
    """
    for needed in ("build_adaptive_runtime_state", "apply_runtime_state", "adaptive_controller"):
        if not hasattr(draft_worker, needed):
            raise RefusedError(f"{type(draft_worker).__name__} has no {needed}, so it runs one length only")
    adaptive = draft_worker.adaptive_controller
    if adaptive is None and _shares_indices(draft_worker):
        raise RefusedError(
            "its drafter reuses attention indices between steps (index_share_for_mtp_iteration), which "
            "switching lengths would mix up; --speculative-adaptive turns that off"
        )
    static_length = draft_worker.speculative_num_steps
    candidates = (
        # Rejection sampling has no draft distribution to verify against where nothing was drafted, and
        # raises.
        candidate_lengths(static_length, graphs=graphs, zero=not config("speculative_use_rejection_sampling"))
        if adaptive is None
        else adaptive.candidate_steps
    )
    policy = LengthPolicy(candidates, static_length, adaptive.params if adaptive is not None else None)
    draft_worker.adaptive_controller = LengthController(draft_worker, policy, logger)
    SwitchLines(policy).install()
    return policy


def _shares_indices(draft_worker: Any) -> bool:
    config = draft_worker.draft_worker.draft_runner.model_config.hf_config
    return any(
        getattr(each, "index_share_for_mtp_iteration", False)
        for each in (config, getattr(config, "text_config", None))
    )
