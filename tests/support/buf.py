"""buf, which comes as an npm package: the protocol's linter, and a gRPC client that needs only reflection."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_PACKAGE = "@bufbuild/buf@1.75.0"

needs_buf = pytest.mark.skipif(
    shutil.which("npm") is None, reason="buf is an npm package and npm is not installed"
)


def buf(*arguments: str) -> str:
    """What it prints. Fails where it does."""
    done = subprocess.run(
        ["npm", "exec", "--yes", "--prefer-offline", f"--package={_PACKAGE}", "--", "buf", *arguments],
        cwd=ROOT,
        # Otherwise both keep things in the home folder, where not every build may write.
        env={
            **os.environ,
            "npm_config_cache": str(ROOT / "build/npm"),
            "BUF_CACHE_DIR": str(ROOT / "build/buf"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
