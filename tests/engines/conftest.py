"""What the engines' tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def _subprocesses_see_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python processes started by a test import the same code as the test itself."""
    roots = [str(_ROOT / root) for root in ("proto", "sidecar", "adapters", "engines")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(roots))
