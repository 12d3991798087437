"""Attention over a paged KV cache, called as `torch.ops.sgl_kernel.…`.

Shapes: query and output [tokens, heads, head size]; key and value buffers [slots, key heads, head size];
`req_to_token` [rows, positions], the slot of each position; `seq_lens` [requests], visible positions, this
call's tokens included.
"""

from __future__ import annotations

import torch
from torch import Tensor

_DECODE = (
    "(Tensor query, Tensor(a!) k_buffer, Tensor(b!) v_buffer, float k_scale, float v_scale, "
    "Tensor(c!) output, Tensor? key, Tensor? value, Tensor loc, Tensor attn_logits, Tensor req_to_token, "
    "Tensor req_pool_indices, Tensor seq_lens, float sm_scale, float logit_cap, bool is_cross_attn, "
    "int sliding_window_size, Tensor? encoder_lens, Tensor? sinks) -> ()"
)
_EXTEND = (
    "(Tensor q_extend, Tensor? k_extend, Tensor? v_extend, Tensor(a!) o_extend, Tensor k_buffer, "
    "Tensor v_buffer, float k_scale, float v_scale, Tensor req_to_token, Tensor req_pool_indices, "
    "Tensor seq_lens, Tensor extend_seq_lens, Tensor extend_start_loc, int max_len_extend, float sm_scale, "
    "float logit_cap, bool is_cross_attn, int sliding_window_size, Tensor? encoder_lens, Tensor? sinks, "
    "Tensor? tree_mask, bool is_causal) -> ()"
)
_LIBRARY = torch.library.Library("sgl_kernel", "DEF")


def register() -> None:
    """Makes the operators that SGLang reaches through `torch.ops`."""
    for function, schema in ((decode_attention_cpu, _DECODE), (extend_attention_cpu, _EXTEND)):
        _LIBRARY.define(function.__name__ + schema)
        _LIBRARY.impl(function.__name__, function, "CPU")


def decode_attention_cpu(
    query: Tensor,
    k_buffer: Tensor,
    v_buffer: Tensor,
    k_scale: float,
    v_scale: float,
    output: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    loc: Tensor,
    attn_logits: Tensor,
    req_to_token: Tensor,
    req_pool_indices: Tensor,
    seq_lens: Tensor,
    sm_scale: float,
    logit_cap: float,
    is_cross_attn: bool,
    sliding_window_size: int,
    encoder_lens: Tensor | None,
    sinks: Tensor | None,
) -> None:
    """One token per request: writes its key and value to slot `loc`, then attends to all that is visible."""
    _refuse(k_scale, v_scale, logit_cap, is_cross_attn, sliding_window_size, sinks)
    if not len(seq_lens):
        return
    if key is not None and value is not None:
        k_buffer[loc] = key
        v_buffer[loc] = value
    slots, visible = _visible(req_to_token[req_pool_indices], seq_lens)
    output.copy_(_attend(query[:, None], k_buffer[slots], v_buffer[slots], visible[:, None], sm_scale)[:, 0])


def extend_attention_cpu(
    q_extend: Tensor,
    k_extend: Tensor | None,
    v_extend: Tensor | None,
    o_extend: Tensor,
    k_buffer: Tensor,
    v_buffer: Tensor,
    k_scale: float,
    v_scale: float,
    req_to_token: Tensor,
    req_pool_indices: Tensor,
    seq_lens: Tensor,
    extend_seq_lens: Tensor,
    extend_start_loc: Tensor,
    max_len_extend: int,
    sm_scale: float,
    logit_cap: float,
    is_cross_attn: bool,
    sliding_window_size: int,
    encoder_lens: Tensor | None,
    sinks: Tensor | None,
    tree_mask: Tensor | None,
    is_causal: bool,
) -> None:
    """Several tokens per request, the last of those visible: prompts, and drafts to verify.

    SGLang has written their keys and values to their slots before. `tree_mask` (flat, one square per
    request, all of one length): which of the request's tokens each of them sees; else those before it.
    """
    _refuse(k_scale, v_scale, logit_cap, is_cross_attn, sliding_window_size, sinks)
    if not is_causal:
        raise NotImplementedError("sgl_kernel's stand-in attends to earlier tokens only")
    lengths = extend_seq_lens.tolist()
    if not lengths:
        return
    starts = extend_start_loc.tolist()
    together = len(set(lengths)) == 1
    for group in [range(len(lengths))] if together else [range(i, i + 1) for i in range(len(lengths))]:
        requests, length = slice(group.start, group.stop), lengths[group.start]
        tokens = slice(starts[group.start], starts[group.start] + length * len(group))
        slots, visible = _visible(req_to_token[req_pool_indices[requests]], seq_lens[requests])
        positions = torch.arange(slots.shape[1])
        own = positions - (seq_lens[requests] - length)[:, None]  # negative before this call's tokens
        if tree_mask is None:
            sees = own[:, None] <= torch.arange(length)[:, None]
        else:
            squares = tree_mask.view(len(lengths), length, length)[requests]
            index = own.clamp(0, length - 1)[:, None].expand(-1, length, -1)
            sees = (own < 0)[:, None] | squares.gather(2, index)
        query = q_extend[tokens].unflatten(0, (len(group), length))
        attended = _attend(query, k_buffer[slots], v_buffer[slots], visible[:, None] & sees, sm_scale)
        o_extend[tokens] = attended.flatten(0, 1)


def build_draft_decode_metadata_cpu(
    req_to_token: Tensor,
    req_pool_indices: Tensor,
    seq_lens: Tensor,
    topk: int,
    num_steps: int,
    pool_len: int,
) -> Tensor:
    """A table like `req_to_token` with a row for each of a request's `topk` branches of drafts.

    The slots of all branches follow the request's own, branch after branch, one per draft pass.
    """
    table = req_to_token[req_pool_indices].repeat_interleave(topk, dim=0)
    if topk == 1:
        return table
    ends = seq_lens.repeat_interleave(topk)[:, None] + torch.arange(num_steps)
    branch = torch.arange(topk).repeat(len(seq_lens))[:, None]
    return table.scatter(1, ends, table.gather(1, ends + branch * num_steps))


def _refuse(
    k_scale: float,
    v_scale: float,
    logit_cap: float,
    is_cross_attn: bool,
    sliding_window_size: int,
    sinks: Tensor | None,
) -> None:
    if (k_scale, v_scale) != (1, 1) or logit_cap or is_cross_attn or sliding_window_size or sinks is not None:
        raise NotImplementedError(
            "sgl_kernel's stand-in has plain attention only: no scales, logit cap, encoder, window or sinks"
        )


def _visible(table: Tensor, seq_lens: Tensor) -> tuple[Tensor, Tensor]:
    """Slots by position up to the longest request, any slot where `visible` says that a request has none."""
    longest = int(seq_lens.max())
    visible = torch.arange(longest) < seq_lens[:, None]
    return table[:, :longest].where(visible, 0).long(), visible


def _attend(query: Tensor, keys: Tensor, values: Tensor, visible: Tensor, scale: float) -> Tensor:
    """`query` [requests, tokens, heads, head size], `visible` [requests, tokens, positions]."""
    attended = torch.nn.functional.scaled_dot_product_attention(
        query.transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=visible[:, None],
        scale=scale,
        enable_gqa=True,
    )
    return attended.transpose(1, 2)
