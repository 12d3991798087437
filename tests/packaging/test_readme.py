"""What the README claims about the code, held against the code."""

from pathlib import Path

from turbospec.adapters.vllm.methods import METHODS

README = Path(__file__).parents[2] / "README.md"
START, END = "<!-- methods:", "<!-- end of methods -->"


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


def test_the_table_of_methods_is_the_codes() -> None:
    """The README's table of methods says what the adapter does."""
    _, _, rest = README.read_text().partition(START)
    table = [line for line in rest.partition(END)[0].splitlines() if line.startswith("|")]
    assert table == methods_table()
