"""What goes into the control core and what comes out of it.

Frozen data classes and numpy arrays; protobuf is converted to and from them at the server's edge.
Lengths are draft tokens per request; times are seconds. Arrays of one observation are parallel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class Reason(Enum):
    """Why a plan has the lengths it has."""

    FIXED = "fixed"
    LEARNING = "learning"
    BEST_GOODPUT = "best_goodput"
    DOES_NOT_PAY = "does_not_pay"
    PROBE = "probe"
    CALLER_OFF = "caller_off"
    NO_REQUESTS = "no_requests"
    OFF = "off"


class Disturbance(Enum):
    """Why a step's duration says nothing about steady decoding."""

    AFTER_IDLE = "after_idle"
    PREFILL = "prefill"
    PREEMPTION = "preemption"
    GRAMMAR = "grammar"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine lets the controller do. The fields are those of the protocol's message.

    `candidate_lengths` is ascending and never empty: the lengths that the engine can run.
    """

    max_length: int
    static_length: int
    candidate_lengths: tuple[int, ...]
    proposal_settable: bool = True
    proposal_saves_draft_cost: bool = True
    verification_per_request: bool = True
    ragged_breaks_graphs: bool = False
    deep_off: bool = False
    plan_delay_steps: int = 1
    max_batch: int = 256
    graph_sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """A live request. `max_draft` None: no cap by the caller; 0: never speculate."""

    slot: int
    request_id: str
    label: str = ""
    max_draft: int | None = None
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """One generation step (or `steps` coalesced ones), as the protocol's StepReport.

    `slots`, `proposed`, `verified`, `accepted`, `context_tokens` have shape (n,): one entry per request
    that decoded. 0 <= accepted <= verified <= proposed holds: the server rejects anything else.
    `duration` is None where it was not measured. `unready_slots`: live requests that cannot speculate,
    because the drafter was skipped (`drafter_skipped`) while they ran.
    """

    sequence: int
    duration: float | None
    requests: int
    slots: IntArray
    proposed: IntArray
    verified: IntArray
    accepted: IntArray
    context_tokens: IntArray
    proposal_length: int
    emitted_tokens: int
    prefill_tokens: int = 0
    plan_version: int = 0
    steps: int = 1
    disturbances: frozenset[Disturbance] = frozenset()
    opened: tuple[RequestInfo, ...] = ()
    closed_slots: tuple[int, ...] = ()
    kv_cache_usage: float | None = None
    drafter_skipped: bool = False
    unready_slots: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CostCell:
    """Decode steps of one kind: `steps` of them were timed and took `seconds`, within `spread_seconds` of it.

    `target_tokens` and `context_tokens` are totals over the step's `requests`; both times are medians.
    `prompt_tokens` were computed beside them, and are none of `target_tokens`.
    """

    requests: int
    target_tokens: int
    context_tokens: int
    proposal_length: int
    ragged: bool
    drafter_skipped: bool
    steps: int
    seconds: float
    spread_seconds: float
    prompt_tokens: int = 0


class Candidate(NamedTuple):
    """One alternative that a policy compared: `goodput` is `expected_tokens` / `step_seconds`."""

    proposal_length: int
    verified_tokens: int
    expected_tokens: float
    step_seconds: float
    goodput: float
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The lengths to use, why, and the numbers behind them.

    `slots` and `verification_lengths` have shape (n,). `proposal_length` is at least every verification
    length. `default_verification_length` is for requests that `slots` does not name. `skip_drafter`: the
    drafter need not run, not even to keep its cache current; only with length 0. `report_steps`: so many
    steps may wait to be reported as one, because nothing is about to be learned or decided.
    """

    proposal_length: int
    default_verification_length: int
    slots: IntArray
    verification_lengths: IntArray
    reason: Reason
    explanation: str
    policy: str
    predicted_goodput: float | None = None
    predicted_step_seconds: float | None = None
    candidates: tuple[Candidate, ...] = field(default=())
    skip_drafter: bool = False
    report_steps: int = 1
