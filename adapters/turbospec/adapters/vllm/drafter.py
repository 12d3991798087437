"""Steps without the drafter: what the scheduler's side asks for, and what a worker does about it.

At length 0 vLLM's model runner 1 still runs a draft pass, so that the draft's KV cache stays current. A
step whose SchedulerOutput carries our attribute leaves it out, and with it the rejection sampler, which
vLLM uses also where nothing is to be verified. The attribute travels to the workers with the output; a
worker without our hook ignores it and drafts as always.
"""

from __future__ import annotations

from functools import wraps
from logging import Logger
from typing import Any

_ATTRIBUTE = "turbospec_skip_drafter"
_HOOKED = "turbospec_hooked"


def skip_drafter(scheduler_output: Any) -> None:
    """Asks for a step without the drafter. The step's proposal length must be 0."""
    setattr(scheduler_output, _ATTRIBUTE, True)


def drafter_skipped(scheduler_output: Any) -> bool:
    """Whether `skip_drafter` was called on it."""
    return getattr(scheduler_output, _ATTRIBUTE, False)


def hook_workers(wrapper_class: Any, logger: Logger) -> None:
    """Makes every worker of this process, and of those forked from it, hook its runner before it serves.

    `wrapper_class` is vLLM's WorkerWrapperBase. Any number of calls do what one does.
    """
    initialize = wrapper_class.initialize_from_config
    if hasattr(initialize, _HOOKED):
        return

    # The last call before a worker serves. Earlier its runner is not there yet, and importing the runner's
    # module ourselves would burden the processes that have no worker.
    @wraps(initialize)
    def initialize_from_config(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = initialize(self, *args, **kwargs)
        try:
            hook_runner(self.worker.model_runner, logger)
        # The worker must start whatever it is that runs there; it then drafts as always.
        except Exception:
            logger.exception("TurboSpec cannot skip the drafter of this worker.")
        return result

    setattr(initialize_from_config, _HOOKED, True)
    wrapper_class.initialize_from_config = initialize_from_config


def workers_hooked(wrapper_class: Any) -> bool:
    """Whether `hook_workers` has been there."""
    return hasattr(wrapper_class.initialize_from_config, _HOOKED)


def hook_runner(runner: Any, logger: Logger) -> None:
    """Makes a GPUModelRunner (1) leave out the drafter in the steps that ask for it.

    A fault in doing so is logged once, and from then on the drafter runs in every step.
    """
    prepare, propose = runner._prepare_inputs, runner.propose_draft_token_ids
    if hasattr(propose, _HOOKED):
        return
    broken = False

    @wraps(prepare)
    def prepare_inputs(scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        prepared = prepare(scheduler_output, *args, **kwargs)
        if not drafter_skipped(scheduler_output) or scheduler_output.scheduled_spec_decode_tokens:
            return prepared
        # Nothing to verify, so that the sampler by itself does what the rejection sampler does around it.
        # What follows is the version's: nothing in 0.26, the most tokens of a request in 0.32.
        logits_indices, _, *rest = prepared
        return logits_indices, None, *rest

    @wraps(propose)
    def propose_draft_token_ids(
        scheduler_output: Any, sampled_token_ids: Any, *args: Any, **kwargs: Any
    ) -> Any:
        nonlocal broken
        if not broken and drafter_skipped(scheduler_output):
            try:
                return _no_drafts(runner, sampled_token_ids)
            # What vLLM does by itself in such a step is always right, only slower.
            except Exception:
                broken = True
                logger.exception("TurboSpec could not skip the drafter; from now on it runs in every step.")
        return propose(scheduler_output, sampled_token_ids, *args, **kwargs)

    setattr(propose_draft_token_ids, _HOOKED, True)
    runner._prepare_inputs = prepare_inputs
    runner.propose_draft_token_ids = propose_draft_token_ids


def _no_drafts(runner: Any, sampled_token_ids: Any) -> Any:
    """A proposal of no tokens, shape (requests, 0), as vLLM's own proposers return at length 0."""
    import torch

    runner._draft_probs = None
    runner._draft_prob_req_ids = None
    # Asynchronous scheduling takes the next step's input tokens from what drafting prepares, so that much
    # has to be done; vLLM does the same where a sequence is too long for the drafter.
    if runner.valid_sampled_token_count_event is not None:
        next_token_ids, counts = runner.drafter.prepare_next_token_ids_padded(
            sampled_token_ids, runner.requests, runner.input_batch, runner.discard_request_mask.gpu
        )
        runner._copy_valid_sampled_token_count(next_token_ids, counts)
    return torch.empty((len(runner.input_batch.req_ids), 0), dtype=torch.int64, device=runner.device)
