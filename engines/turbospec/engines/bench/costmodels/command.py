"""The command `turbospec bench cost-models`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from turbospec.engines.stage import command

_DESCRIPTION = """\
Compares forms of cost model on step times that were measured before: each is fitted to some of the cells and
predicts the others, which it has not seen. Held out are a fifth of the cells at a time, and whole regions:
all cells of one range of batch sizes, of one length, of one range of contexts. The simplest form that keeps
to 5% in the median and 15% at the 95th percentile is named. Nothing is measured; no engine is needed.
"""
_WIDTH = 120  # where no terminal says another one


def add_parser(benchmarks: Any) -> None:
    """Adds `cost-models`."""
    parser = benchmarks.add_parser(
        "cost-models",
        help="which form of cost model describes measured step times (seconds)",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--profile",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="exported profiles, directories of profiles, or published tables (.csv, as in benchmarks/)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Compares. Returns 2 for a bad path or where something is not installed."""
    return command.run_command("bench cost-models", lambda: _bench(args))


def _bench(args: argparse.Namespace) -> None:
    import json
    import sys

    from rich.console import Console
    from turbospec.engines.bench.costmodels import document, table
    from turbospec.engines.bench.costmodels.holdout import judge
    from turbospec.engines.bench.costmodels.sources import read

    sources = [source for path in args.profile for source in read(path)]
    judged = {source.name: (source, judge(source)) for source in sources}
    if args.json is not None:
        args.json.write_text(json.dumps(document.as_json(judged), indent=1) + "\n")
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    for source, forms in judged.values():
        for part in table.render(source, forms):
            console.print(part, highlight=False)
