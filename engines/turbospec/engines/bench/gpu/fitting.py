"""Measured step times against what the controller's cost model predicts of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from turbospec.engines.profiling.fit import evaluate
from turbospec.sidecar.core.types import Capabilities
from turbospec.sidecar.profiles.profile import Cell


def fit_errors(cells: Sequence[Cell], engine: Capabilities, max_context: int) -> dict[str, Any]:
    """|predicted - measured| / measured of cells that the model was not fitted to, by region."""
    report = evaluate(cells, engine, max_context)
    return {
        "regions": [
            {"name": region.name, "cells": region.cells, "median": region.median, "p95": region.p95}
            for region in report.regions
        ],
        "held_out": [
            {
                "requests": each.cell.requests,
                "target_tokens": each.cell.target_tokens,
                "context_tokens": each.cell.context_tokens,
                "proposal_length": each.cell.proposal_length,
                "ragged": each.cell.ragged,
                "measured_ms": 1e3 * each.cell.seconds,
                "predicted_ms": 1e3 * each.predicted_seconds,
            }
            for each in report.held_out
        ],
    }
