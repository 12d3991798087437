"""The controller of one engine: `observe` what a step did, `decide` the lengths of the next.

Pure: no clock, no unseeded randomness, no I/O. The same observations give the same decisions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from turbospec.sidecar.core.acceptance import AcceptanceEstimator
from turbospec.sidecar.core.availability import AvailabilityEstimator
from turbospec.sidecar.core.clamping import Limits
from turbospec.sidecar.core.cost_cells import CostCells
from turbospec.sidecar.core.cost_features import StepShape
from turbospec.sidecar.core.errors import PolicyError
from turbospec.sidecar.core.evidence import CellEvidence, CostEvidence
from turbospec.sidecar.core.latency import LatencyModel, is_mixed, is_undisturbed
from turbospec.sidecar.core.meter import GoodputMeter
from turbospec.sidecar.core.mixed import MixedStart, MixedSteps
from turbospec.sidecar.core.optimizer import Batch
from turbospec.sidecar.core.policies import Lengths, View, parse_policy
from turbospec.sidecar.core.prefill import PrefillCosts
from turbospec.sidecar.core.requests import RequestTable
from turbospec.sidecar.core.snapshots import (
    AcceptanceSnapshot,
    GoodputSnapshot,
    LatencySnapshot,
    RequestSnapshot,
)
from turbospec.sidecar.core.steadiness import Steadiness
from turbospec.sidecar.core.types import (
    Capabilities,
    CostCell,
    Decision,
    IntArray,
    Observation,
    Reason,
    RequestInfo,
)
from turbospec.sidecar.core.validation import check_observation, check_request


class EngineController:
    """Estimators, policy and live requests of one engine.

    Raises PolicyError for an unknown `policy` or one whose length the engine does not have.
    """

    def __init__(self, capabilities: Capabilities, policy: str = "goodput") -> None:
        self._capabilities = capabilities
        self._policy = parse_policy(policy, capabilities.max_length)
        self._requests = RequestTable(capabilities.max_length)
        self._operator_cap = capabilities.max_length
        self._sequence = 0
        # Proposal lengths of the two newest reports. Drafts of the next report were asked for in one of
        # them (scheduling may run ahead), so they were surely asked for only where both are above 0.
        self._asked = (0, 0)
        self._newest: Decision | None = None
        # The newest decision answers a repeated `decide`; anything that could change it clears this.
        self._decision_holds = False
        self._shadow = False
        self._meter = GoodputMeter()
        self._steadiness = Steadiness()
        # Measurements, not beliefs: forgetting what was learned leaves them.
        self._cells = CostCells()
        self._mixed_start = MixedStart()
        self._start_estimators()

    def _start_estimators(self) -> None:
        self._acceptance = AcceptanceEstimator(self._capabilities.max_length)
        self._availability = AvailabilityEstimator()
        self._decode_costs = LatencyModel(self._capabilities)
        self._mixed_costs: LatencyModel | None = None
        self._mixed_steps = MixedSteps()
        self._prefill = PrefillCosts()
        self._evidence = CostEvidence(self._capabilities)
        for info in self._requests.infos():
            self._acceptance.open(info.slot, info.label)
            self._availability.open(info.slot)

    def observe(self, obs: Observation) -> None:
        """Learns from one report.

        Raises ObservationError, naming the field, where the report is impossible; then nothing changed.
        """
        check_observation(obs, self._capabilities, self._requests, self._sequence)
        self._sequence = obs.sequence
        self._decision_holds = False
        for info in obs.opened:
            self._admit(info)
        timed = self._learn_time(obs)
        self._steadiness.observe(obs.steps, timed=timed)
        self._learn_drafts(obs)
        self._requests.observe(obs)
        self._policy.observe(obs, timed=timed)
        self._requests.close(obs.closed_slots)

    def start_from(self, cells: tuple[CostCell, ...], *, same_engine: bool) -> None:
        """Takes the costs of steps that were measured before, of an engine like this one or of a similar one.

        Only before anything was observed. Cells of steps that this engine cannot make are left out.
        """
        known = self._capabilities
        usable = [
            cell
            for cell in cells
            if cell.proposal_length <= known.max_length and (known.deep_off or not cell.drafter_skipped)
        ]
        decode = [cell for cell in usable if not cell.prompt_tokens]
        mixed = tuple(cell for cell in usable if cell.prompt_tokens)
        self._mixed_start.keep(mixed, same_engine=same_engine)
        if not decode:
            return
        self._decode_costs.seed(decode, same_engine=same_engine)
        self._evidence.seed(decode, same_engine=same_engine)
        if same_engine:
            self._cells.load(decode)
        self._decision_holds = False

    def cost_cells(self) -> tuple[CostCell, ...]:
        """What undisturbed steps took, kind by kind, for keeping."""
        return self._cells.cells()

    def cost_evidence(self) -> tuple[CellEvidence, ...]:
        """What predicted step times rest on, by batch size and length."""
        return self._evidence.cells()

    def decide(self) -> Decision:
        """Lengths for the next step, with the reason; the same until something new is known."""
        if self._newest is None or not self._decision_holds:
            self._newest = self._decide()
            self._decision_holds = True
        return self._newest

    def open_request(self, info: RequestInfo) -> None:
        """Adds a live request outside of a report. Raises ObservationError where it cannot be."""
        check_request(info, self._requests)
        self._decision_holds = False
        self._admit(info)

    def resume(self, live: tuple[RequestInfo, ...]) -> None:
        """Starts a new connection: sequence numbers begin again, and exactly `live` are in the engine.

        What was learned stays, also of those requests that are the same as before. Raises
        ObservationError where `live` is impossible; then nothing changed.
        """
        nobody = RequestTable(self._capabilities.max_length)
        for info in live:
            check_request(info, nobody)
            nobody.open(info)
        now = {info.slot: info for info in live}
        gone = [info.slot for info in self._requests.infos() if now.get(info.slot) != info]
        self._requests.close(tuple(gone))
        for info in live:
            if info.slot not in self._requests:
                self._admit(info)
        self._sequence = 0
        self._asked = (0, 0)
        self._decision_holds = False

    def set_policy(self, spec: str) -> None:
        """Changes the policy; estimators keep what they learned. Raises PolicyError, changing nothing."""
        self._policy = parse_policy(spec, self._capabilities.max_length)
        self._decision_holds = False

    def set_cap(self, max_length: int | None) -> None:
        """Caps lengths whatever the policy (None: no cap). Raises PolicyError for a negative one."""
        if max_length is not None and max_length < 0:
            raise PolicyError(f"cap {max_length} is negative")
        longest = self._capabilities.max_length
        self._operator_cap = longest if max_length is None else min(max_length, longest)
        self._decision_holds = False

    def set_shadow(self, shadow: bool) -> None:
        """Whether decisions are only looked at: then nothing is tried for the sake of learning."""
        if shadow != self._shadow:
            self._shadow = shadow
            # What was promised and what came of it are compared within one mode only.
            self._meter = GoodputMeter()
            self._decision_holds = False

    def reset_estimators(self) -> None:
        """Forgets acceptance and cost, and lets the policy start again; requests stay."""
        self._start_estimators()
        self._meter = GoodputMeter()
        self._policy = parse_policy(self._policy.spec, self._capabilities.max_length)
        self._decision_holds = False

    @property
    def policy_spec(self) -> str:
        """The policy in force."""
        return self._policy.spec

    @property
    def acceptance_ratio(self) -> float | None:
        """Drafts accepted over verified, recent; None until one was verified."""
        return self._meter.acceptance_ratio

    @property
    def probe_steps(self) -> int:
        """Steps spent on exploration after learning."""
        return self._meter.probe_steps

    @property
    def probe_time_ratio(self) -> float:
        """Step time spent on probes over all step time, recent."""
        return self._meter.probe_time_ratio

    def acceptance(self) -> AcceptanceSnapshot:
        """Acceptance over all requests."""
        return AcceptanceSnapshot(
            hazards=self._acceptance.hazards(),
            survivals=self._acceptance.prior_survivals(),
            evidence=self._acceptance.pooled.evidence,
            availability=self._availability.pooled,
            request_variance=self._acceptance.variance,
            drifts=self._acceptance.pooled.drifts,
        )

    def request(self, slot: int) -> RequestSnapshot:
        """One live request. Raises KeyError where the slot is free."""
        info, at = self._requests[slot], np.array([slot])
        lengths: list[int] = []
        if self._newest is not None:
            lengths = self._newest.verification_lengths[self._newest.slots == slot].tolist()
        return RequestSnapshot(
            info=info,
            hazards=self._acceptance.hazards(slot),
            survivals=self._acceptance.survivals(at)[0],
            evidence=self._acceptance.evidence(slot),
            availability=float(self._availability.of(at)[0]),
            verified=int(self._requests.verified[slot]),
            accepted=int(self._requests.accepted[slot]),
            verification_length=lengths[0] if lengths else None,
        )

    def latency(self) -> LatencySnapshot:
        """The cost model."""
        model = self._latency
        return LatencySnapshot(
            model.terms(), model.evidence_steps, model.model_error, model.fitted, model.slowdown_ratio
        )

    def goodput(self) -> GoodputSnapshot:
        """Realised, predicted and idle goodput over the same recent steps."""
        return self._meter.snapshot()

    def _admit(self, info: RequestInfo) -> None:
        self._requests.open(info)
        self._acceptance.open(info.slot, info.label)
        self._availability.open(info.slot)

    @property
    def _latency(self) -> LatencyModel:
        """The cost model of the steps that the engine makes now."""
        if not self._mixed_steps.constant:
            return self._decode_costs
        if self._mixed_costs is None:
            self._mixed_costs = self._mixed_start.make_model(self._capabilities, self._cells.cells())
        return self._mixed_costs

    def _learn_time(self, obs: Observation) -> bool:
        """Whether the cost model learned from the duration."""
        if obs.duration is None:
            return False
        probing = self._newest is not None and self._newest.reason is Reason.PROBE
        self._meter.add_time(obs.duration, probing, obs.steps)
        if obs.slots.size < obs.steps:
            return False
        alone, mixed = is_undisturbed(obs), is_mixed(obs)
        if alone or mixed:
            self._mixed_steps.observe(mixed=mixed)
        # Where several steps are undisturbed they were alike.
        n, context = obs.slots.size // obs.steps, int(obs.context_tokens.sum()) // obs.steps
        tokens, seconds = n + int(obs.verified.sum()) // obs.steps, obs.duration / obs.steps
        ragged = bool(np.count_nonzero(obs.verified != obs.verified[0]))
        shape = StepShape(context, n, obs.proposal_length, ragged, obs.drafter_skipped)
        latency = self._latency
        decoding = obs.steps * latency.step_seconds(float(tokens), shape) if latency.fitted else 0.0
        if latency.fitted:
            self._prefill.observe(obs, decoding)
        learns = mixed if latency.mixed else alone
        if mixed and latency.mixed:
            shape = replace(shape, prompt_tokens=obs.prefill_tokens)
        if (learns and latency.fitted) or not obs.disturbances:
            # Of a mixed step, decoding's part.
            part = (
                min(decoding / latency.expected_seconds(tokens, shape), 1.0) if shape.prompt_tokens else 1.0
            )
            idle = self._idle_goodput(n, context)
            predicted = self._newest.predicted_goodput if self._newest else None
            self._meter.add_report(obs.emitted_tokens, part * obs.duration, predicted, idle, obs.steps)
        if alone:
            self._cells.add(seconds, tokens, shape)
        if learns:
            latency.observe(seconds, tokens, shape)
            self._evidence.add(shape)
        return learns

    def _learn_drafts(self, obs: Observation) -> None:
        if obs.slots.size:
            self._meter.add_drafts(int(obs.verified.sum()), int(obs.accepted.sum()), obs.steps)
            self._acceptance.observe(obs.slots, obs.verified, obs.accepted, obs.steps)
        # Of coalesced steps only the last one's length is known. Where it is that of the report before, it
        # was that of all: steps wait for each other while lengths stay the same.
        constant = obs.steps == 1 or obs.proposal_length == self._asked[1]
        # Engines that verify drafts in the step that proposes them were asked in this one.
        if constant and min(*self._asked, obs.proposal_length) > 0 and obs.slots.size % obs.steps == 0:
            # A request's first drafts are asked for in a step that is not reported for it.
            asked = (self._requests.seen[obs.slots] > 0) & (self._requests.cap[obs.slots] > 0)
            for step in np.arange(obs.slots.size).reshape(obs.steps, -1):
                those = step[asked[step]]
                self._availability.observe(obs.slots[those], obs.proposed[those])
        if obs.steps == 1:
            self._asked = (self._asked[1], obs.proposal_length)
        else:
            self._asked = (obs.proposal_length, obs.proposal_length) if constant else (0, 0)

    def _decide(self) -> Decision:
        longest_cap = self._requests.longest_cap()
        limits = Limits(self._capabilities, self._operator_cap, longest_cap)
        batch_slots = self._requests.batch_slots()
        others = self._requests.other_named_slots(batch_slots)
        slots = np.concatenate((batch_slots, others)) if others.size else batch_slots
        context_tokens = int(self._requests.context_tokens[batch_slots].sum())
        if len(self._requests) and longest_cap == 0:
            wanted = self._callers_off(batch_slots)
        else:
            wanted = self._policy.decide(self._view(batch_slots, context_tokens, limits))
        verification = wanted.verification if batch_slots.size else np.array([], dtype=np.int64)
        if others.size:
            rest = (self._acceptance.survivals(others) >= wanted.floor).sum(axis=1)
            verification = np.concatenate((verification, rest))
        default = int(np.count_nonzero(self._acceptance.prior_survivals() >= wanted.floor))
        k, verification, default = limits.clamp(
            wanted.proposal_length, verification, default, self._requests.cap[slots]
        )
        explanation = wanted.explanation
        if k != wanted.proposal_length:
            explanation += f"; proposing {k}, the nearest that engine, operator and callers allow"
        idle = len(self._requests) == 0
        skip_drafter = wanted.skip_drafter and self._capabilities.deep_off and k == 0
        decision = Decision(
            proposal_length=k,
            default_verification_length=default,
            slots=slots,
            verification_lengths=verification,
            reason=Reason.NO_REQUESTS if idle else wanted.reason,
            explanation=f"no requests; for a new one, {explanation}" if idle else explanation,
            policy=self._policy.spec,
            predicted_goodput=None if idle else wanted.predicted_goodput,
            predicted_step_seconds=None if idle else wanted.predicted_step_seconds,
            candidates=wanted.candidates,
            skip_drafter=skip_drafter,
        )
        if idle or self._shadow:
            return decision
        off_known = self._latency.knows_skipped(batch_slots.size)
        return replace(decision, report_steps=self._steadiness.report_steps(decision, off_known=off_known))

    def _view(self, batch_slots: IntArray, context_tokens: int, limits: Limits) -> View:
        everyone = None
        if batch_slots.size:
            caps = self._requests.usable_caps(batch_slots)
            survivals = self._acceptance.survivals(batch_slots)
            availability = self._availability.of(batch_slots)
        else:
            caps = np.array([self._capabilities.max_length])
            survivals = self._acceptance.prior_survivals()[None, :]
            availability = np.array([self._availability.pooled])
        if self._requests.unready_requests and batch_slots.size:
            all_caps = np.minimum(self._requests.cap[batch_slots], limits.operator_cap)
            everyone = Batch(survivals, availability, all_caps)
        return View(
            capabilities=self._capabilities,
            batch=Batch(survivals, availability, np.minimum(caps, limits.operator_cap)),
            proposals=limits.proposals(),
            context_tokens=context_tokens,
            latency=self._latency,
            drafter_prefill_seconds=self._prefill.drafter_seconds,
            everyone=everyone,
            shadow=self._shadow,
        )

    def _callers_off(self, batch_slots: IntArray) -> Lengths:
        return Lengths(
            proposal_length=0,
            verification=np.zeros_like(batch_slots),
            floor=np.inf,
            reason=Reason.CALLER_OFF,
            explanation=f"the callers of all {len(self._requests)} requests asked for no speculation",
        )

    def _idle_goodput(self, n: int, context_tokens: int) -> float | None:
        if not n or not self._latency.ready:
            return None
        return n / self._latency.step_seconds(float(n), StepShape(context_tokens, n, 0))
