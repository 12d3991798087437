"""The shipped dashboard, alert rules and Prometheus settings, and what they ask for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import Metric
from turbospec.sidecar.server.metrics.collector import families

FOLDER = Path(__file__).parents[2] / "deploy" / "docker" / "observability"
RULES = FOLDER / "rules" / "turbospec.yml"
DASHBOARD = FOLDER / "grafana" / "dashboards" / "turbospec.json"

_SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
    "gauge": ("",),
}
_METRIC = re.compile(r"\b(?:turbospec|process)_[a-z_0-9]+")


def sample_names() -> set[str]:
    """The names of all samples that the controller's code can tell."""
    found: list[Metric] = [*families([]), *ProcessCollector(registry=CollectorRegistry()).collect()]
    return {metric.name + suffix for metric in found for suffix in _SUFFIXES[metric.type]}


def metrics_in(expression: str) -> set[str]:
    """The names of our metrics in a PromQL expression."""
    return set(_METRIC.findall(expression))


def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def queries(engine: str = ".*", without_hint: bool = False) -> dict[str, str]:
    """The dashboard's queries by panel and letter, as Grafana sends them with that engine selected, or all.

    `without_hint`: of those panels only that have no words of their own for when there is nothing to show.
    """
    found = {}
    for panel in dashboard()["panels"]:
        if without_hint and "noValue" in panel["fieldConfig"]["defaults"]:
            continue
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, value in {"$engine": engine, "$rank": ".*", "$__rate_interval": "1m"}.items():
                expression = expression.replace(variable, value)
            found[f"{panel['title']} {target['refId']}"] = expression
    return found
