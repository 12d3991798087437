"""Trees of drafts: how their nodes are linked, and which of them the target accepts.

A request has `n` nodes, numbered from its root, the last token that is certain; the nodes of request b are
b * n to b * n + n - 1 in flat tensors. Links hold a node's number, or -1: `next_token` its first child,
`next_sibling` the next child of the same parent. Results are written into arguments, as SGLang calls it.
"""

from __future__ import annotations

import torch
from torch import Tensor

_QLEN_ONLY = 1  # of SGLang's TreeMaskMode: one square per request, without the columns of its context


def build_tree_kernel_efficient_cpu(
    parent_list: Tensor,
    selected_index: Tensor,
    verified_seq_len: Tensor,
    tree_mask: Tensor,
    positions: Tensor,
    retrieve_index: Tensor,
    retrieve_next_token: Tensor,
    retrieve_next_sibling: Tensor,
    topk: int,
    depth: int,
    draft_token_num: int,
    tree_mask_mode: int,
) -> None:
    """Builds trees from the drafts that were selected.

    Node i > 0 is draft `selected_index[b, i - 1]` of all that were made, `topk` from each expanded node;
    expanded node 0 is the root, node m > 0 is draft `parent_list[b, m]`. `tree_mask[i, j]`: i sees j, that is
    itself and the nodes above it.
    """
    if tree_mask_mode != _QLEN_ONLY:
        raise NotImplementedError("sgl_kernel's stand-in builds masks of mode QLEN_ONLY only")
    requests, nodes = len(verified_seq_len), draft_token_num
    parents = [
        _parents(selected, expanded, topk)
        for selected, expanded in zip(selected_index.tolist(), parent_list.tolist(), strict=True)
    ]
    seen = torch.eye(nodes, dtype=torch.bool).repeat(requests, 1, 1)
    for mask, tree in zip(seen, parents, strict=True):
        for node in range(1, nodes):
            mask[node] |= mask[tree[node]]
    tree_mask[: seen.numel()] = seen.flatten()
    reconstruct_indices_from_tree_mask(
        tree_mask,
        verified_seq_len,
        positions,
        retrieve_index,
        retrieve_next_token,
        retrieve_next_sibling,
        requests,
        nodes,
    )


def _parents(selected: list[int], expanded: list[int], topk: int) -> list[int]:
    """The number of each node's parent; the root's is its own."""
    numbers = {draft: number for number, draft in enumerate(selected, start=1)}
    sources = (draft // topk for draft in selected)
    return [0, *(0 if source == 0 else numbers[expanded[source]] for source in sources)]


def reconstruct_indices_from_tree_mask(
    tree_mask: Tensor,
    verified_seq_len: Tensor,
    positions: Tensor,
    retrieve_index: Tensor,
    retrieve_next_token: Tensor,
    retrieve_next_sibling: Tensor,
    batch_size: int,
    draft_token_num: int,
) -> None:
    """Positions in the text and links, from who sees whom."""
    nodes = torch.arange(draft_token_num)
    above = tree_mask[: batch_size * draft_token_num**2].view(batch_size, draft_token_num, draft_token_num)
    above = above.bool() & (nodes < nodes[:, None])
    positions.copy_((verified_seq_len[:, None] + above.sum(2)).flatten())
    retrieve_index.copy_(torch.arange(batch_size * draft_token_num).view(batch_size, draft_token_num))
    parent = torch.where(above, nodes, -1).amax(2)
    child = parent[:, :, None] == nodes  # [b, i, j]: i is a child of j
    retrieve_next_token.copy_(_first(child))
    sibling = (parent[:, :, None] == parent[:, None]) & (parent[:, None] >= 0) & (nodes < nodes[:, None])
    retrieve_next_sibling.copy_(_first(sibling))


def _first(found: Tensor) -> Tensor:
    """For every j the least i of [b, i, j], or -1."""
    return torch.where(found.any(1), found.int().argmax(1), -1)


def verify_tree_greedy_cpu(
    predicts: Tensor,
    accept_index: Tensor,
    accept_token_num: Tensor,
    candidates: Tensor,
    retrive_index: Tensor,
    retrive_next_token: Tensor,
    retrive_next_sibling: Tensor,
    target_predict: Tensor,
) -> None:
    """Follows the target's own tokens from the root down as long as a child holds them.

    `predicts` (flat) gets the target's token at every node on the way, `accept_index` [requests, depth + 1]
    these nodes, `accept_token_num` how many of them are drafts.
    """
    trees = zip(
        candidates.tolist(),
        retrive_index.tolist(),
        retrive_next_token.tolist(),
        retrive_next_sibling.tolist(),
        target_predict.tolist(),
        strict=True,
    )
    for request, (tokens, index, children, siblings, wanted) in enumerate(trees):
        path = [0]
        while len(path) < accept_index.shape[1]:
            node = children[path[-1]]
            while node != -1 and tokens[node] != wanted[path[-1]]:
                node = siblings[node]
            if node == -1:
                break
            path.append(node)
        for place, node in enumerate(path):
            accept_index[request, place] = index[node]
            predicts[index[node]] = wanted[node]
        accept_token_num[request] = len(path) - 1
