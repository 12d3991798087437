"""What each of vLLM's draft methods lets an adapter control, by model runner.

Read from the source of vLLM 0.32 (`v1/spec_decode` and `GPUModelRunner.propose_draft_token_ids` for
runner 1, `v1/worker/gpu/spec_decode` for runner 2) and, where the status says so, tried with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from turbospec.adapters.support import Status


@dataclass(frozen=True, slots=True)
class MethodSupport:
    """One row of the table.

    `runner` is vLLM's model runner, 1 or 2 (2 is its default on GPUs). `proposal_settable`: the drafter
    accepts a proposal length below `num_speculative_tokens`; where it does not, it is always asked for
    all and only verification is controlled. `proposal_saves_draft_cost`: a shorter proposal costs less
    drafting. `asynchronous`: vLLM runs the method with asynchronous scheduling. `drafter_skippable`: at
    length 0 vLLM runs a draft pass for the sake of the draft's KV cache, and the adapter can leave it out.
    """

    method: str
    runner: int
    status: Status
    proposal_settable: bool
    proposal_saves_draft_cost: bool
    verification_per_request: bool
    asynchronous: bool
    drafter_skippable: bool
    note: str = ""


def _row(
    method: str, runner: int, status: Status, abilities: str, note: str = ""
) -> tuple[tuple[str, int], MethodSupport]:
    """`abilities`: one letter per ability, in the table's order; "-" where it is missing."""
    settable, saves, per_request, asynchronous, skippable = (letter != "-" for letter in abilities)
    return (method, runner), MethodSupport(
        method, runner, status, settable, saves, per_request, asynchronous, skippable, note
    )


_RUN, _EXPECTED, _REFUSED = Status.RUN, Status.EXPECTED, Status.REFUSED
_ALWAYS_ALL = "its drafter asserts the configured length, so only verification is controlled"
_MASKS = "drafts all and masks, so a shorter proposal saves verification only"
_ONE_PASS = "drafts all tokens in one pass"
_GRAPHS = (
    "a full draft graph holds all passes: lengths 0 and 1 save drafting, others only where "
    "num_speculative_tokens_per_batch_size names them"
)
_NO_GUESSES = "exports hidden states; its drafts are not guesses"
_NOT_IN_RUNNER = "vLLM has no such drafter in this runner"

METHODS: dict[tuple[str, int], MethodSupport] = dict(
    (
        # abilities: k settable, saves draft cost, per-request verification, asynchronous, drafter skippable
        _row("ngram", 1, _RUN, "ksp--"),
        _row("draft_model", 1, _RUN, "kspao"),
        _row("eagle", 1, _RUN, "kspao"),
        _row("eagle3", 1, _EXPECTED, "kspao"),
        _row("mtp", 1, _EXPECTED, "kspao"),
        _row("dflash", 1, _EXPECTED, "k-pao", _ONE_PASS),
        _row("dspark", 1, _REFUSED, "-----", _NOT_IN_RUNNER),
        _row("ngram_gpu", 1, _EXPECTED, "--pa-", _ALWAYS_ALL),
        _row("suffix", 1, _RUN, "--p--", _ALWAYS_ALL),
        _row("medusa", 1, _EXPECTED, "--p--", _ALWAYS_ALL),
        _row("custom_class", 1, _EXPECTED, "--p--", "the class is not told a length"),
        _row("extract_hidden_states", 1, _REFUSED, "-----", _NO_GUESSES),
        _row("mlp_speculator", 1, _REFUSED, "-----", _NOT_IN_RUNNER),
        _row("ngram", 2, _EXPECTED, "k-pa-", _MASKS),
        _row("draft_model", 2, _EXPECTED, "k-pa-", _MASKS),
        _row("eagle", 2, _EXPECTED, "kspa-", _GRAPHS),
        _row("eagle3", 2, _EXPECTED, "kspa-", _GRAPHS),
        _row("mtp", 2, _EXPECTED, "kspa-", _GRAPHS),
        _row("dflash", 2, _EXPECTED, "k-pa-", _MASKS),
        _row("dspark", 2, _EXPECTED, "k-pa-", _MASKS),
        _row("ngram_gpu", 2, _EXPECTED, "k-pa-", _MASKS),
        _row("extract_hidden_states", 2, _REFUSED, "-----", _NO_GUESSES),
    )
)
