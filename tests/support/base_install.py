"""The command line in an environment that has only the base install, whatever this one has."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

from support.serving import environment

# What only the extras bring is not found, as in an engine's environment.
_BASE_INSTALL = """
import sys
from importlib.machinery import PathFinder
extras = {
    "numpy", "scipy", "structlog", "prometheus_client", "grpc_health", "grpc_reflection", "rich", "aiohttp",
    "torch", "vllm", "sglang",
}
class BaseInstall:
    find_distributions = staticmethod(PathFinder.find_distributions)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in extras else PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = BaseInstall()
sys.path[:0] = eval(sys.argv.pop(1))
from turbospec.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def with_base_install(
    *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command line to its end."""
    return subprocess.run(
        [sys.executable, "-c", _BASE_INSTALL, repr(sys.path), *arguments],
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
