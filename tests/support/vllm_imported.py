"""All that engines of the tests import, for the process that theirs are forks of."""

from __future__ import annotations

import vllm.entrypoints.llm
import vllm.v1.engine.core
import vllm.v1.worker.cpu_worker  # noqa: F401 - imported for those that are forked
