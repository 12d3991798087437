"""The part `models`: makes each pair, and finds the eps at which draft and target agree as often as wanted.

One engine for each pair: its target's further layers are scaled in place, step by step, and at each scale
some requests run. The share of first drafts accepted falls as they grow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from turbospec.engines.bench.gpu.inprocess import ForcedEngine
from turbospec.engines.bench.gpu.plan import AGREEMENTS
from turbospec.engines.bench.gpu.worker import Settings
from turbospec.engines.instant_models import PAIRS, as_json

_LENGTH = 4
_WARM_STEPS = 8
# From next to nothing to where the draft is only right by chance, in steps that bfloat16 scales exactly.
_LARGEST, _STEPS = 0.5, 9


def measure(settings: Settings) -> dict[str, Any]:
    """One pair: what was found at each eps, and the eps for each agreement."""
    scale, pair = settings.sizes, PAIRS[settings.pair]
    eps = _LARGEST
    engine = ForcedEngine(
        scale,
        Path(settings.models),
        settings.pair,
        eps,
        requests=scale.agreement_requests,
        context=scale.max_context,
        length=_LENGTH,
        asynchronous=False,
        eager=True,
    )
    found = [_point(engine, settings, eps)]
    for _ in range(_STEPS - 1):
        engine.scale_layers(pair.shared_layers, 0.5)
        eps /= 2
        found.append(_point(engine, settings, eps))
    chosen = {}
    for name, wanted in AGREEMENTS.items():
        chosen[name] = eps_for(wanted, [(point["eps"], point["first_accepted"]) for point in found])
        engine.scale_layers(pair.shared_layers, chosen[name] / eps)
        eps = chosen[name]
        found.append(_point(engine, settings, eps))
    return {
        "eps": chosen,
        "points": found,
        "start_seconds": round(engine.start_seconds, 1),
        **as_json(settings.pair),
    }


def eps_for(wanted: float, points: Sequence[tuple[float, float]]) -> float:
    """The eps at which a share `wanted` would be accepted, between points (eps, share).

    Interpolated on a logarithmic scale; beyond the points, the nearest one's.
    """
    ordered = sorted(points)
    for (small, often), (large, seldom) in pairwise(ordered):
        if often >= wanted > seldom:
            share = (often - wanted) / (often - seldom)
            return math.exp(math.log(small) + share * (math.log(large) - math.log(small)))
    return ordered[0][0] if ordered[0][1] < wanted else ordered[-1][0]


def _point(engine: ForcedEngine, settings: Settings, eps: float) -> dict[str, float]:
    """What is accepted at the present scale."""
    scale = settings.sizes
    engine.forced.set(_LENGTH)
    engine.fill(scale.agreement_requests)
    engine.run(_WARM_STEPS)
    tested = first = accepted = 0
    for record in engine.run(scale.agreement_steps):
        for verified, right in zip(record.verified, record.accepted, strict=True):
            if verified == _LENGTH:
                tested += 1
                first += right > 0
                accepted += right
    engine.clear()
    return {"eps": eps, "first_accepted": first / tested, "mean_accepted": accepted / tested}
