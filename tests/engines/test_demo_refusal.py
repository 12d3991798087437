"""Where an engine cannot run, `turbospec demo` says why, at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.serving import turbospec
from turbospec.engines.launching import version_of


@pytest.mark.skipif(version_of("sglang") is not None, reason="SGLang is installed here")
def test_an_engine_that_is_not_installed_is_named(tmp_path: Path) -> None:
    """Before anything is made or started."""
    ended = turbospec("demo", "--engine", "sglang", "--directory", str(tmp_path))
    assert ended.returncode == 2
    assert ended.stderr.startswith("turbospec demo: SGLang is not installed beside ")
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []
