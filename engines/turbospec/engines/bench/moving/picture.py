"""The timelines as a picture: lengths and tokens per second over time, a column for each pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from turbospec.engines.bench.moving.plan import LONGEST_LENGTH
from turbospec.engines.bench.moving.timeline import Phase, Sample, Timeline

_SMOOTHED_SAMPLES = 4  # about a second: within less, single requests receive tokens in lumps
_LENGTH, _PROPOSAL, _SPEED, _SKIPPED, _SETTLED = "#1f5fa8", "#9fb8d6", "#2c7a3f", "#e8e4da", "#c0392b"


def draw(timelines: Sequence[Timeline], file: Path) -> None:
    """Writes the picture; the format is by the file's name. Raises OSError where it cannot be written."""
    figure = Figure(figsize=(6.2 * len(timelines), 5.6), dpi=100, layout="constrained")
    axes = figure.subplots(2, len(timelines), sharex="col", sharey="row", squeeze=False)
    for column, timeline in enumerate(timelines):
        lengths, speeds = axes[0][column], axes[1][column]
        lengths.set_title(f"{timeline.pair} agreement of draft and target", fontsize=11, pad=22)
        _lengths(lengths, timeline)
        _speeds(speeds, timeline.samples)
        for panel in (lengths, speeds):
            _steps(panel, timeline)
        _name_phases(lengths, timeline.phases)
        speeds.set_xlabel("seconds")
    axes[0][0].set_ylabel("draft tokens per request")
    axes[1][0].set_ylabel("tokens per second to clients")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=2 * len(timelines), frameon=False, fontsize=9
    )
    figure.savefig(file)


def _lengths(panel: Axes, timeline: Timeline) -> None:
    seconds = [sample.seconds for sample in timeline.samples]
    proposals = [sample.proposal_length for sample in timeline.samples]
    lengths = [
        float("nan") if sample.mean_verification_length is None else sample.mean_verification_length
        for sample in timeline.samples
    ]
    panel.step(seconds, proposals, where="post", color=_PROPOSAL, linewidth=1, label="proposal length")
    panel.plot(seconds, lengths, color=_LENGTH, linewidth=1.4, label="mean verification length")
    panel.fill_between(
        seconds,
        0,
        1,
        where=[sample.drafter_skipped for sample in timeline.samples],
        transform=panel.get_xaxis_transform(),
        color=_SKIPPED,
        linewidth=0,
        zorder=0,
        label="drafter skipped",
    )
    panel.set_ylim(-0.3, LONGEST_LENGTH + 0.5)


def _speeds(panel: Axes, samples: Sequence[Sample]) -> None:
    smooth = [
        sum(s.tokens_per_second for s in samples[max(0, i + 1 - _SMOOTHED_SAMPLES) : i + 1])
        / min(i + 1, _SMOOTHED_SAMPLES)
        for i in range(len(samples))
    ]
    panel.plot([s.seconds for s in samples], smooth, color=_SPEED, linewidth=1.4)
    panel.set_ylim(bottom=0)


def _steps(panel: Axes, timeline: Timeline) -> None:
    for number, step in enumerate(timeline.steps()):
        panel.axvline(step.at_seconds, color="black", linewidth=0.9, linestyle="--")
        if step.settle_seconds is not None:
            label = "lengths settled" if number == 0 else None
            settled = step.at_seconds + step.settle_seconds
            panel.axvline(settled, color=_SETTLED, linewidth=0.9, linestyle=":", label=label)
    panel.grid(axis="y", color="#dddddd", linewidth=0.6)
    panel.margins(x=0)


def _name_phases(panel: Axes, phases: Sequence[Phase]) -> None:
    for phase in phases:
        middle = (phase.began_seconds + phase.ended_seconds) / 2
        text = f"{phase.requests} request{'s' if phase.requests > 1 else ''}"
        panel.annotate(
            text, (middle, 1.0), xycoords=panel.get_xaxis_transform(), ha="center", va="bottom",
            xytext=(0, 3), textcoords="offset points", fontsize=9,
        )  # fmt: skip
