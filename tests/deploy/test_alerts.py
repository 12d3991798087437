"""The alert rules, by Prometheus's own unit tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support.observability import FOLDER, RULES, rules

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian's package prometheus has it)"
)
TESTS = Path(__file__).with_name("alerts_test.yml")


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


def outcome(rules_file: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    tests = directory / "alerts_test.yml"
    tests.write_text(TESTS.read_text().replace("[RULES]", f"[{rules_file}]"))
    return promtool("test", "rules", tests)


def test_alerts_come_when_they_should_and_not_otherwise(tmp_path: Path) -> None:
    """Down, falling back, losing, mispredicting; and neither shadow mode, length 0 nor an idle engine."""
    done = outcome(RULES, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("part", "broken"),
    [
        ('up{job="turbospec"} == 0', "up == 0"),
        ('{reason!="shadow"}', ""),
        ("> 0.05 *", "> 0.5 *"),
        (
            "sum by (instance, engine_id, rank) (rate(turbospec_fallbacks",
            "sum by (instance) (rate(turbospec_fallbacks",
        ),
        ("and turbospec_model_error_ratio <= 0.25", ""),
        ("and turbospec_model_error_ratio <= 0.25", "unless turbospec_model_error_ratio > 0.25"),
        ("< 0.95 *", "> 0.95 *"),
        ('{position="1"}[5m]))\n          > 0.05 *', '{position="1"}[5m]))\n          > 0 *'),
        ("rate(turbospec_steps_total[5m]) > 0", "rate(turbospec_steps_total[5m]) >= 0"),
        ("for: 10m", "for: 1m"),
    ],
)
def test_broken_rules_are_found(part: str, broken: str, tmp_path: Path) -> None:
    """Each of these rules would be silent, or would wake somebody for nothing: the tests above reject it."""
    text = RULES.read_text()
    assert part in text
    path = tmp_path / "broken.yml"
    path.write_text(text.replace(part, broken))
    assert promtool("check", "rules", path).returncode == 0
    assert outcome(path, tmp_path).returncode != 0


def test_promtool_accepts_what_is_shipped() -> None:
    """Rules and settings are valid; every alert says what to do and how bad it is."""
    assert promtool("check", "rules", RULES).returncode == 0
    assert promtool("check", "config", FOLDER / "prometheus.yml").returncode == 0
    for rule in rules():
        assert rule["labels"]["severity"]
        assert len(rule["annotations"]["description"]) > 60
