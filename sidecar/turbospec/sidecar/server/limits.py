"""Bounds of the protocol that no setting moves, each with its reason."""

from __future__ import annotations

from typing import Final

PROTOCOL_VERSION: Final = 1

LONGEST_PROPOSAL: Final = 64  # far beyond what pays; estimators keep an array of this length per request
LONGEST_ENGINE_ID: Final = 128  # it becomes part of log lines and tables
LONGEST_NAME_BYTES: Final = 1024  # models are named by paths too
LONGEST_REQUEST_ID_BYTES: Final = 256
LONGEST_LABEL_BYTES: Final = 64
LARGEST_RANK: Final = 65_535
LARGEST_SLOT: Final = 65_535  # slots are reused: the number stays near that of live requests
LARGEST_BATCH: Final = 65_536
MOST_GRAPH_SIZES: Final = 4096  # one per token count, at most
LARGEST_PLAN_DELAY: Final = 16  # engines run one step ahead, pipelines a few
LONGEST_STEP_SECONDS: Final = 3600.0  # no generation step takes an hour: the clock was read wrongly
MOST_COALESCED_STEPS: Final = 1_000_000  # hours of steps
