"""The engine versions that the tests ran with: the one place that names them.

`docs/adapters.md` has the same as a table, and a test holds it against this. Imports no engine, so that the
command line can read it anywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Pre-releases are not among what was tested, whatever release they precede.
_RELEASE = re.compile(r"(\d+(?:\.\d+)*)(?:\.post\d+)?(?:\+.*)?")


@dataclass(frozen=True, slots=True)
class Tested:
    """Versions of an engine, as it spells itself in `engine`.

    `oldest` and `newest` are those that all tests ran with; what lies between is taken to work. With `read`,
    which no test ran, the adapter only found every hook in the source.
    """

    engine: str
    oldest: str
    newest: str
    read: tuple[str, ...] = ()

    def covers(self, version: str) -> bool:
        """Whether `version` is in the range; a build's own suffix (as in 0.32.0+cpu) does not matter."""
        found = _release(version)
        oldest, newest = _release(self.oldest), _release(self.newest)
        return bool(found and oldest and newest and oldest <= found <= newest)

    def warning(self, version: str) -> str | None:
        """What to say of an engine of this version that is controlled all the same; None in the range."""
        if self.covers(version):
            return None
        return f"TurboSpec is not tested with {self.engine} {version} (tested: {self}); its hooks are there."

    def __str__(self) -> str:
        return self.oldest if self.oldest == self.newest else f"{self.oldest} to {self.newest}"


def _release(version: str) -> tuple[int, ...] | None:
    """Its numbers, without zeros at the end; None for what is no release."""
    match = _RELEASE.fullmatch(version)
    if match is None:
        return None
    numbers = [int(number) for number in match[1].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


VLLM = Tested("vLLM", oldest="0.32.0", newest="0.32.0", read=("0.26.0",))
SGLANG = Tested("SGLang", oldest="0.5.23", newest="0.5.23")
