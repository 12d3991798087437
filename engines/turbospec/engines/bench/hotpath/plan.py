"""What is measured, how often, and what it should come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

VLLM, SGLANG = "vllm", "sglang"

LENGTH = 2
"""The engine's own length, and the longest of every plan."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of requests at once. `steps`: measured under each policy. `dilation`: measured too."""

    requests: int
    steps: int
    dilation: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """Cells that share an engine: `size` of the made models, `context` of a request, steps of a block.

    A block is one filling of the engine with the same requests, greedy, so that all blocks do the same work;
    they must not end within it, at up to LENGTH + 1 tokens per step.
    """

    size: str
    context: int
    block_steps: int
    cells: tuple[Cell, ...]

    @property
    def requests(self) -> int:
        """Most at once."""
        return max(cell.requests for cell in self.cells)


# Dilation is relative to a step, so its steps are those of models that keep a core busy as long as a real
# target keeps an accelerator; where only the scheduler's thread counts, smaller ones do, and 256 requests
# do not take all day.
STAGES: Mapping[str, tuple[Stage, ...]] = {
    VLLM: (
        Stage("small", 1536, 200, (Cell(1, 200, True), Cell(16, 200, True))),
        Stage("tiny", 1024, 150, (Cell(64, 450, False), Cell(256, 300, False))),
    ),
    # With stand-ins for SGLang's operators on a CPU its smallest steps are long enough, and 256 requests take
    # all day.
    SGLANG: (Stage("tiny", 1024, 200, (Cell(1, 200, True), Cell(16, 200, True), Cell(64, 400, False))),),
}

# Blocks with and without the adapter, in pairs; the order within pairs alternates.
BLOCKS = 20
UNPINNED_BLOCKS = 4
# After the prompts; the first decode steps still touch new memory, and the first reports of a block open
# requests.
WARM_STEPS = 10

ADAPTER_POLICY = "random:0"
"""Other lengths in every step, for each request where the engine has that: the most that plans can ask of the
scheduler's thread."""
SIDECAR_POLICY = "goodput"
DILATION_POLICY = f"static:{LENGTH}"
"""Plans with the engine's own length, so that steps with and without the adapter do the same work."""

ADAPTER_TARGETS_US = {64: 30.0, 256: 100.0}
SIDECAR_TARGETS_US = {256: 300.0}
DILATION_TARGET = 1.01
