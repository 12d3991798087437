"""`turbospec bench`: measurements on a real engine, each a module of `turbospec.engines.bench`."""

from __future__ import annotations

import importlib
from typing import Any

BENCHMARKS = ("coldstart", "costmodels", "e2e", "gpu", "hotpath", "moving")
"""Modules of turbospec.engines.bench, light to import; each adds its own parser."""

_DESCRIPTION = """\
Measures on a real engine on this machine, with made models, and writes the results as JSON. The numbers
are of this machine: compare ratios within one run, not runs. (cost-models judges what was measured before.)
"""


def add_parser(subparsers: Any) -> None:
    """Adds the verb with its benchmarks."""
    parser = subparsers.add_parser(
        "bench",
        help="measure: goodput against every static length, cost in the engine",
        description=_DESCRIPTION,
    )
    benchmarks = parser.add_subparsers(title="benchmarks", metavar="BENCHMARK", required=True)
    for name in BENCHMARKS:
        importlib.import_module(f"turbospec.engines.bench.{name}").add_parser(benchmarks)
