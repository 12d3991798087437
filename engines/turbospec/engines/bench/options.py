"""What the commands of several benchmarks have in common: their parsers and their options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

PAIRS = ("high", "low")
"""Pairs of made models, by how often the draft agrees."""

_MIN_REPEATS, _MAX_REPEATS = 4, 100  # halves that tell their noise; beyond, it takes a day


def add_benchmark(
    benchmarks: Any, name: str, *, summary: str, description: str, seconds: float
) -> argparse.ArgumentParser:
    """Adds the command `turbospec bench NAME`, which with its defaults takes about so many `seconds`."""
    minutes = f"{seconds / 60:.0f} minutes"
    parser: argparse.ArgumentParser = benchmarks.add_parser(
        name,
        help=f"{summary} ({minutes})",
        description=description,
        epilog=f"With its defaults it takes about {minutes} on two cores.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def add_pairs(parser: argparse.ArgumentParser, *, of: str = "") -> None:
    """Adds `--pairs`; `of` names the parts of the benchmark that it is for, where it is not for all."""
    parser.add_argument(
        "--pairs",
        type=some_of(PAIRS),
        default=PAIRS,
        metavar="NAME,NAME",
        help=f"{of}pairs of made models, by agreement (default: {','.join(PAIRS)})",
    )


def add_repeats(parser: argparse.ArgumentParser, default: int, *, of: str = "") -> None:
    """Adds `--repeats`, with `of` as in `add_pairs`."""
    parser.add_argument(
        "--repeats",
        type=_repeats,
        default=default,
        metavar="N",
        help=f"{of}how often each is measured (default: {default})",
    )


def some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """The type of an argument that names some of the `known`, with commas between."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if not set(names) <= set(known) or len(set(names)) < len(names):
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}, each once, got {text!r}")
        return names

    return parse


def _repeats(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not _MIN_REPEATS <= int(text) <= _MAX_REPEATS:
        raise argparse.ArgumentTypeError(f"must be from {_MIN_REPEATS} to {_MAX_REPEATS}, got {text!r}")
    return int(text)
