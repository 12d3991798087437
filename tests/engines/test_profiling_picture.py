"""What the picture of a profile shows."""

from __future__ import annotations

import dataclasses

import pytest
from support.profiles import cell
from support.scripted.hello import capabilities
from turbospec.engines.profiling.fit import evaluate
from turbospec.engines.profiling.picture import figure

ENGINE = dataclasses.replace(capabilities(4, max_batch=12), deep_off=True)


@pytest.mark.parametrize("contexts", [(64,), (64, 1024)])
def test_every_length_is_in_the_picture(contexts: tuple[int, ...]) -> None:
    """In its first panel and its legend, at all batch sizes, though contexts come out different by length:
    requests under longer ones end sooner.
    """
    cells = [
        cell(n, k, drafter_skipped=off, context_tokens=round(n * context * (2.5 if off else 2.0 - k / 5)))
        for n in (1, 2, 4, 8)
        for k, off in [(0, True), *((k, False) for k in range(5))]
        for context in contexts
    ]
    picture = figure(cells, evaluate(cells, ENGINE, 4096), ENGINE)
    wanted = {"off", *(f"length {k}" for k in range(5))}
    (legend,) = picture.legends
    assert {text.get_text() for text in legend.get_texts()} == wanted
    first = picture.axes[0]
    assert set(first.get_legend_handles_labels()[1]) == wanted
    for points in first.containers:
        assert sorted(points[0].get_xdata()) == [1, 2, 4, 8]
