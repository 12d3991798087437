"""Stands in for SGLang's compiled operators on CPUs: in plain PyTorch, those that speculative decoding of
dense models calls, no others.

SGLang publishes no CPU build of them. Names and signatures are its own (`sglang.srt`, `sglang.kernels.ops`).
`convert_weight_packed` is absent on purpose: by it SGLang recognises a machine with AMX, and would then call
operators for norms, rotary embeddings and matrices in place of PyTorch's.
"""

from sgl_kernel.attention import build_draft_decode_metadata_cpu, register
from sgl_kernel.cache import (
    assign_draft_cache_locs_contiguous_cpu,
    assign_extend_cache_locs_cpu,
    assign_req_to_token_pool_cpu,
    copy_all_layer_kv_cache_cpu,
    fill_accept_out_cache_loc_cpu,
    fill_bonus_tokens_cpu,
)
from sgl_kernel.speculative import build_tree_kernel_efficient_cpu, verify_tree_greedy_cpu

__all__ = [
    "assign_draft_cache_locs_contiguous_cpu",
    "assign_extend_cache_locs_cpu",
    "assign_req_to_token_pool_cpu",
    "build_draft_decode_metadata_cpu",
    "build_tree_kernel_efficient_cpu",
    "copy_all_layer_kv_cache_cpu",
    "fill_accept_out_cache_loc_cpu",
    "fill_bonus_tokens_cpu",
    "rotate_input_ids_cpu",
    "verify_tree_greedy_cpu",
]

register()


def rotate_input_ids_cpu(*_: object) -> None:
    """Imported with the others, called for drafters of several layers only."""
    raise NotImplementedError("sgl_kernel's stand-in has no rotate_input_ids_cpu")
