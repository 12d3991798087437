"""Dashboard, alert rules and documentation speak of metrics that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from support.observability import FOLDER, dashboard, metrics_in, queries, rules, sample_names
from turbospec.sidecar.server.metrics.collector import families

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"

# What an operator must see at a glance, by a metric that shows it.
SHOWN = {
    "goodput realised": "turbospec_realised_goodput_tokens_per_second",
    "goodput predicted": "turbospec_predicted_goodput_tokens_per_second",
    "goodput without speculation": "turbospec_idle_goodput_tokens_per_second",
    "proposal lengths": "turbospec_proposal_length_tokens_sum",
    "verification lengths": "turbospec_verification_length_tokens_sum",
    "acceptance by position": "turbospec_accepted_tokens_total",
    "plan age": "turbospec_plan_age_steps",
    "fallbacks by reason": "turbospec_fallbacks_total",
    "model error": "turbospec_model_error_ratio",
}


def unknown(expression: str) -> set[str]:
    return metrics_in(expression) - sample_names()


@pytest.mark.parametrize("panel", queries())
def test_every_metric_on_the_dashboard_exists(panel: str) -> None:
    """A panel about a metric that is not told would be empty, and nobody would know why."""
    expression = queries()[panel]
    assert metrics_in(expression)
    assert not unknown(expression)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_metric_in_the_rules_exists(rule: dict[str, str]) -> None:
    """An alert about a metric that is not told would never come."""
    assert not unknown(rule["expr"])


def test_a_metric_that_does_not_exist_is_found() -> None:
    """The check above can fail: on a misspelt name, and on a counter without its suffix."""
    assert unknown("rate(turbospec_steps[5m])") == {"turbospec_steps"}
    assert unknown("turbospec_goodput / process_cpu_seconds_total") == {"turbospec_goodput"}


def test_the_dashboard_shows_what_it_is_for() -> None:
    """All that an operator must see at a glance has a panel."""
    shown = set().union(*map(metrics_in, queries().values()))
    assert not {what for what, metric in SHOWN.items() if metric not in shown}


def test_the_dashboard_can_be_provisioned() -> None:
    """Panels have ids of their own, do not overlap, and use the data source that is provisioned."""
    (source,) = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["datasource"]["uid"] == source["uid"]
        assert panel["description"]
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_the_documentation_lists_every_metric_and_no_other() -> None:
    """The table in the documentation is the code's list: name, kind and labels."""
    rows = re.findall(r"^\| `(turbospec_\w+)` \| (\w+) \| ([^|]*) \|", DOCS.read_text(), re.MULTILINE)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert len(documented) == len(rows)
    assert documented == told()


def told() -> dict[str, tuple[str, set[str]]]:
    """Kind and labels of every metric, but for the labels that name the engine."""
    found = {}
    for family in families([]):
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = {label for sample in family.samples for label in sample.labels} | set(family._labelnames)
        found[family.name + suffix] = (family.type, labels - {"engine_id", "rank"})
    return found
