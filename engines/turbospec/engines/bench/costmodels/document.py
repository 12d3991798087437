"""The results as the JSON document that `--json` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from turbospec.engines.bench.costmodels.holdout import AXES, Judged, noise, simplest
from turbospec.engines.bench.costmodels.sources import Source
from turbospec.engines.profiling.fit import MEDIAN_GOAL, P95_GOAL


def as_json(judged: Mapping[str, tuple[Source, Sequence[Judged]]]) -> dict[str, Any]:
    """Plain data: for each source all forms, with every held-out cell."""
    return {
        "goal": {"median": MEDIAN_GOAL, "p95": P95_GOAL},
        "sources": [_source(source, forms) for source, forms in judged.values()],
    }


def _source(source: Source, forms: Sequence[Judged]) -> dict[str, Any]:
    best = simplest(forms)
    return {
        "source": source.name,
        "cells": len(source.cells),
        "noise": noise(source),
        "simplest_that_holds": None if best is None else best.form,
        "forms": [
            {
                "form": each.form,
                "size": each.size,
                "holds": each.holds,
                "errors": [_errors(each, axis, outermost) for axis in AXES for outermost in (False, True)],
                "held_out": [
                    {
                        "axis": held.axis,
                        "outermost": held.outermost,
                        **held.cell.coordinates._asdict(),
                        "seconds": held.cell.seconds,
                        "predicted_seconds": held.predicted_seconds,
                    }
                    for held in each.held_out
                ],
            }
            for each in forms
        ],
    }


def _errors(judged: Judged, axis: str, outermost: bool) -> dict[str, Any]:
    errors = judged.errors(axis, outermost=outermost)
    return {"axis": axis, "outermost": outermost} | ({} if errors is None else asdict(errors))
