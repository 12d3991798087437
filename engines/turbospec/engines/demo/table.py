"""The demonstration's results as a table and a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from turbospec.engines.demo.results import NONE, Cell, Results

CONTROLLED = "goodput"


def render(results: Results, policies: Sequence[str]) -> Table:
    """One row per concurrency: tokens per second of each policy, and what the controlled one did."""
    table = Table(
        title="Tokens per second that users receive (relative to no speculation)",
        caption=f"length: drafts verified per request and step by {CONTROLLED}; accepted: share of them",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("at once", *policies, "length", "accepted"):
        table.add_column(heading, justify="right", no_wrap=True)
    for concurrency in results.concurrencies:
        controlled = results.at(concurrency, CONTROLLED)
        table.add_row(
            str(concurrency),
            *(_speed(results, results.at(concurrency, policy)) for policy in policies),
            f"{controlled.mean_length or 0.0:.1f}",
            "-" if controlled.acceptance_ratio is None else f"{controlled.acceptance_ratio:.0%}",
        )
    return table


def sentence(results: Results, policies: Sequence[str]) -> str:
    """What the table shows, whatever it shows."""
    first, last = results.concurrencies[0], results.concurrencies[-1]
    compared = [policy for policy in policies if policy not in (NONE, CONTROLLED)]
    others = "; ".join(f"{policy} {_range(results, policy)}" for policy in compared)
    worst = min((_against_best(results, concurrency), -concurrency) for concurrency in results.concurrencies)
    at_first, at_last = (
        results.at(concurrency, CONTROLLED).mean_length or 0.0 for concurrency in (first, last)
    )
    return (
        f"{CONTROLLED} gave {_range(results, CONTROLLED)} the tokens of an engine without speculation "
        f"({others}); against the best of the others at each concurrency it was at worst {worst[0]:.2f}x, "
        f"at {-worst[1]}, and its mean length went from {at_first:.1f} at {first} to {at_last:.1f} at {last}."
    )


def _speed(results: Results, cell: Cell) -> str:
    speed = f"{cell.tokens_per_second:.0f}"
    return speed if cell.policy == NONE else f"{speed} ({results.relative(cell):.2f}x)"


def _range(results: Results, policy: str) -> str:
    ratios = [results.relative(results.at(concurrency, policy)) for concurrency in results.concurrencies]
    low, high = f"{min(ratios):.2f}x", f"{max(ratios):.2f}x"
    return low if low == high else f"{low} to {high}"


def _against_best(results: Results, concurrency: int) -> float:
    controlled = results.at(concurrency, CONTROLLED).tokens_per_second
    others = [
        cell.tokens_per_second
        for cell in results.cells
        if cell.concurrency == concurrency and cell.policy != CONTROLLED
    ]
    return controlled / max(others)
