"""The results as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def render(document: dict[str, Any]) -> Iterator[str]:
    """Lines that show what `document.as_json` made."""
    yield "requests  adapter us    plan lag    sidecar us    dilation             unpinned"
    yield "          p50   p99    p50   p99   p50    p99    (90% interval)"
    for cell in document["cells"]:
        yield (
            f"{cell['requests']:8d}  {cell['adapter_us_p50']:3.0f}  {cell['adapter_us_p99']:4.0f}"
            f"  {cell['plan_lag_steps_p50']:5.0f} {cell['plan_lag_steps_p99']:5.0f}"
            f"  {cell['sidecar_us_p50']:4.0f}  {cell['sidecar_us_p99']:5.0f}    {_dilation(cell)}"
        )
    for cell in document["cells"]:
        if "switch_us_p50" in cell:
            yield (
                f"{cell['requests']:8d}  to another length: {cell['switch_us_p50']:.0f} us, "
                f"p99 {cell['switch_us_p99']:.0f}, in {cell['switch_share_goodput']:.0%} of goodput's steps"
            )
    yield ""
    for target in document["targets"]:
        verdict = "met" if target["met"] else "MISSED"
        yield f"{verdict:6s}  {target['name']}: {target['value']:.4g}, at most {target['at_most']:g}"


def _dilation(cell: dict[str, Any]) -> str:
    if cell["dilation_ratio"] is None:
        return "-"
    low, high = cell["dilation_ratio_interval"]
    return f"{cell['dilation_ratio']:.4f} ({low:.4f}-{high:.4f})  {cell['dilation_ratio_unpinned']:.4f}"
