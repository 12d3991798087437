"""vLLM's own KV cache manager without an engine, and what the adapter sees of a scheduler around it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import init_none_hash
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.request import Request

BLOCK = 4


def make_cache(*, blocks: int, caching: bool = False) -> KVCacheManager:
    """A cache of so many blocks of `BLOCK` tokens, one of which vLLM keeps for itself."""
    init_none_hash(sha256)
    spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=8, dtype=torch.float32)
    config = KVCacheConfig(
        num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)]
    )
    return KVCacheManager(
        config, max_model_len=256, scheduler_block_size=BLOCK, hash_block_size=BLOCK, enable_caching=caching
    )


def make_scheduler(running: Sequence[Request], cache: KVCacheManager, length: int) -> Any:
    """What hooks see of a scheduler that is configured for `length` drafts and runs these requests."""
    return SimpleNamespace(
        running=running,
        requests={request.request_id: request for request in running},
        kv_cache_manager=cache,
        num_lookahead_tokens=length,
        max_num_scheduled_tokens=64,
    )
