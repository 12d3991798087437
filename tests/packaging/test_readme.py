"""What the README claims about the code, held against the code."""

from pathlib import Path

from turbospec.adapters.sglang import methods as sglang
from turbospec.adapters.vllm.methods import METHODS

README = Path(__file__).parents[2] / "README.md"
START, END = "<!-- methods:", "<!-- end of methods -->"
SGLANG_START, SGLANG_END = "<!-- sglang methods:", "<!-- end of sglang methods -->"


def methods_table() -> list[str]:
    """The table of methods as Markdown lines."""
    lines = [
        "| method | runner | status | length settable | saves drafting | per-request | asynchronous "
        "| skips drafter | note |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in METHODS.values():
        abilities = (
            row.proposal_settable,
            row.proposal_saves_draft_cost,
            row.verification_per_request,
            row.asynchronous,
            row.drafter_skippable,
        )
        ticks = " | ".join("yes" if ability else "-" for ability in abilities)
        lines.append(f"| {row.method} | {row.runner} | {row.status.value} | {ticks} | {row.note} |")
    return lines


def sglang_table() -> list[str]:
    """The same for SGLang."""
    lines = ["| algorithm | status | note |", "|---|---|---|"]
    return lines + [f"| {row.method} | {row.status.value} | {row.note} |" for row in sglang.METHODS.values()]


def table(start: str, end: str) -> list[str]:
    """Lines of the README's table between two comments."""
    _, _, rest = README.read_text().partition(start)
    return [line for line in rest.partition(end)[0].splitlines() if line.startswith("|")]


def test_the_tables_of_methods_are_the_codes() -> None:
    """The README's tables of methods say what the adapters do."""
    assert table(START, END) == methods_table()
    assert table(SGLANG_START, SGLANG_END) == sglang_table()
