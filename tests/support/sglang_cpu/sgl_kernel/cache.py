"""Where tokens are kept in the KV cache. Results are written into arguments, as SGLang calls it.

`req_to_token` [rows, positions]: the slot of each position; `req_pool_indices` [requests]: a request's row.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor


def assign_req_to_token_pool_cpu(
    req_pool_indices: Tensor,
    req_to_token: Tensor,
    start_offset: Tensor,
    end_offset: Tensor,
    out_cache_loc: Tensor,
    pool_len: int,
) -> None:
    """Gives new slots, packed request after request, to the positions from start to end."""
    rows, positions = _ranges(req_pool_indices, start_offset, end_offset)
    req_to_token[rows, positions] = out_cache_loc[: len(rows)].to(req_to_token.dtype)


def assign_extend_cache_locs_cpu(
    req_pool_indices: Tensor,
    req_to_token: Tensor,
    start_offset: Tensor,
    end_offset: Tensor,
    out_cache_loc: Tensor,
    pool_len: int,
) -> None:
    """Packs the slots of the positions from start to end, request after request, into `out_cache_loc`."""
    rows, positions = _ranges(req_pool_indices, start_offset, end_offset)
    out_cache_loc[: len(rows)] = req_to_token[rows, positions].to(out_cache_loc.dtype)


def assign_draft_cache_locs_contiguous_cpu(
    req_pool_indices: Tensor,
    req_to_token: Tensor,
    seq_lens: Tensor,
    out_cache_loc: Tensor,
    pool_len: int,
    topk: int,
    num_cols: int,
) -> None:
    """The slots for `topk` branches of `num_cols` drafts, after each request's own."""
    assign_extend_cache_locs_cpu(
        req_pool_indices, req_to_token, seq_lens, seq_lens + topk * num_cols, out_cache_loc, pool_len
    )


def fill_accept_out_cache_loc_cpu(
    accept_index: Tensor, out_cache_loc: Tensor, accept_out_cache_loc: Tensor
) -> None:
    """Packs the slots of the accepted tokens; -1 in `accept_index` is none."""
    accepted = accept_index.flatten()
    accepted = accepted[accepted >= 0].long()
    accept_out_cache_loc[: len(accepted)] = out_cache_loc[accepted]


def fill_bonus_tokens_cpu(
    accept_tokens: Tensor, accept_lens: Tensor, bonus_tokens: Tensor, accept_stride: int
) -> None:
    """The last accepted token of each request, which is the target's own."""
    last = torch.arange(len(accept_lens)) * accept_stride + accept_lens - 1
    bonus_tokens.copy_(accept_tokens.flatten()[last])


def copy_all_layer_kv_cache_cpu(data_ptrs: Tensor, strides: Tensor, tgt_loc: Tensor, src_loc: Tensor) -> None:
    """Copies slots in the buffers at `data_ptrs`, `strides` bytes a slot, as if all were copied at once."""
    if not len(src_loc):
        return
    slots = int(torch.cat([tgt_loc, src_loc]).max()) + 1
    for address, stride in zip(data_ptrs.tolist(), strides.tolist(), strict=True):
        memory = (ctypes.c_uint8 * (slots * stride)).from_address(address)
        buffer = torch.frombuffer(memory, dtype=torch.uint8).view(slots, stride)
        buffer[tgt_loc] = buffer[src_loc]


def _ranges(rows: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Row and position of every position from `start` to `end`, request after request."""
    lengths = (end - start).long()
    first = lengths.cumsum(0) - lengths
    within = torch.arange(int(lengths.sum())) - first.repeat_interleave(lengths)
    return rows.long().repeat_interleave(lengths), start.long().repeat_interleave(lengths) + within
