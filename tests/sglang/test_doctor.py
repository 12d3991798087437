"""`turbospec doctor` beside the real SGLang."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.sglang_setup import ENVIRONMENT
from support.sidecar import SOURCE_ROOTS, Sidecar

pytestmark = pytest.mark.sglang


def doctor(control_address: str, **environ: str) -> tuple[int, str]:
    """Exit status and output, asked for SGLang."""
    done = subprocess.run(
        [sys.executable, "-m", "turbospec.cli.main", "doctor", "--engine", "sglang"],
        env={
            **os.environ,
            **ENVIRONMENT,
            "PYTHONPATH": SOURCE_ROOTS,
            "TURBOSPEC_CONTROL_ADDRESS": control_address,
            **environ,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout


def test_all_is_well_beside_a_controller(tmp_path: Path) -> None:
    """With a tested SGLang and a live controller no check fails; a plug-in that is left out is named."""
    sidecar = Sidecar(tmp_path, "goodput")
    try:
        status, output = doctor(sidecar.control_address)
        _, restricted = doctor(sidecar.control_address, SGLANG_PLUGINS="other")
    finally:
        sidecar.stop()
    assert status == 0, output
    assert "FAIL" not in output
    assert "a tested version" in output
    assert "ok    sglang hooks: all there" in output
    assert "ok    sglang plug-in: SGLang will find it" in output
    assert "warn  sglang plug-in: SGLANG_PLUGINS=other leaves it out" in restricted
