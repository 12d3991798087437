from __future__ import annotations

from typing import Any

import pytest
from turbospec.adapters.intent import NO_INTENT, Intent, read_intent


@pytest.mark.parametrize(
    ("extra_args", "intent"),
    [
        (None, NO_INTENT),
        ({"other": 1}, NO_INTENT),
        ({"turbospec_max_draft": 0}, Intent(0)),
        ({"turbospec_max_draft": 3, "turbospec_label": "batch"}, Intent(3, "batch")),
        ({"turbospec_max_draft": 2.0}, Intent(2)),
        ({"turbospec_max_draft": 1 << 40}, Intent(64)),
    ],
)
def test_callers_say_what_they_want(extra_args: dict[str, Any] | None, intent: Intent) -> None:
    """A limit of 0 is none at all, a missing one no limit, a huge one the protocol's longest."""
    assert read_intent(extra_args) == (intent, [])


@pytest.mark.parametrize("value", [-1, 1.5, float("inf"), float("nan"), True, "4", [4], {}])
def test_bad_limit_is_named_and_left_out(value: Any) -> None:
    """The complaint names the field and the limit; the rest of the intent still counts."""
    intent, complaints = read_intent({"turbospec_max_draft": value, "turbospec_label": "x"})
    assert intent == Intent(None, "x")
    assert len(complaints) == 1
    assert complaints[0].startswith("turbospec_max_draft must be an integer of at least 0, not ")


@pytest.mark.parametrize("value", [7, None, "x" * 65, "ä" * 33, "line\nbreak", "\ud800"])
def test_bad_label_is_named_and_left_out(value: Any) -> None:
    """Also what JSON can carry and UTF-8 cannot."""
    intent, complaints = read_intent({"turbospec_max_draft": 1, "turbospec_label": value})
    assert intent == Intent(1)
    assert len(complaints) == 1
    assert complaints[0].startswith("turbospec_label must be printable text of at most 64 bytes, not ")
