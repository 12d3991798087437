"""The stand-ins for SGLang's compiled operators compute what these are documented to compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.sglang

HEADS, KEY_HEADS, SIZE, SLOTS = 4, 2, 8, 64
SCALE = SIZE**-0.5


@pytest.fixture(scope="module")
def kernel() -> Any:
    import sgl_kernel

    return sgl_kernel


class Cache:
    """A KV cache of random contents whose requests have slots here and there."""

    def __init__(self, lengths: list[int]) -> None:
        import torch

        torch.manual_seed(3)
        self.keys, self.values = (torch.randn(SLOTS, KEY_HEADS, SIZE) for _ in range(2))
        self.lengths = torch.tensor(lengths)
        self.rows = torch.tensor([2, 0, 1][: len(lengths)])
        self.table = torch.randperm(SLOTS)[: 3 * 16].view(3, 16).int()

    def attend(self, request: int, query: torch.Tensor, positions: list[int]) -> torch.Tensor:
        """Plain attention of one token [heads, size] to these positions of a request."""
        import torch

        slots = self.table[self.rows[request], positions].long()
        result = torch.empty_like(query)
        for head in range(HEADS):
            key_head = head * KEY_HEADS // HEADS
            weights = (self.keys[slots, key_head] @ query[head] * SCALE).softmax(0)
            result[head] = weights @ self.values[slots, key_head]
        return result


def extend(cache: Cache, query: torch.Tensor, lengths: list[int], tree: torch.Tensor | None) -> torch.Tensor:
    import torch

    output = torch.empty_like(query)
    starts = torch.tensor([sum(lengths[:i]) for i in range(len(lengths))], dtype=torch.int32)
    counts = torch.tensor(lengths, dtype=torch.int32)
    torch.ops.sgl_kernel.extend_attention_cpu(
        *(query, None, None, output, cache.keys, cache.values, 1.0, 1.0, cache.table, cache.rows),
        *(cache.lengths, counts, starts, max(lengths), SCALE, 0.0, False, 0, None, None, tree, True),
    )
    return output


def test_decode_attention(kernel: Any) -> None:  # noqa: ARG001 - registers the operators
    """One token per request: its key and value are kept, and it sees all positions of its request."""
    import torch

    cache = Cache([5, 1, 9])
    query, key, value = (torch.randn(3, heads, SIZE) for heads in (HEADS, KEY_HEADS, KEY_HEADS))
    loc = cache.table[cache.rows, cache.lengths - 1].long()
    output = torch.empty_like(query)
    torch.ops.sgl_kernel.decode_attention_cpu(
        *(query, cache.keys, cache.values, 1.0, 1.0, output, key, value, loc, torch.empty(0), cache.table),
        *(cache.rows, cache.lengths, SCALE, 0.0, False, 0, None, None),
    )
    assert torch.equal(cache.keys[loc], key)
    assert torch.equal(cache.values[loc], value)
    for request, length in enumerate(cache.lengths.tolist()):
        expected = cache.attend(request, query[request], list(range(length)))
        torch.testing.assert_close(output[request], expected)


@pytest.mark.parametrize("lengths", [[4, 1, 6], [3, 3, 3]], ids=["ragged", "uniform"])
def test_extend_attention(kernel: Any, lengths: list[int]) -> None:  # noqa: ARG001
    """Several tokens per request: each sees the positions up to its own."""
    import torch

    cache = Cache([7, 3, 10])
    query = torch.randn(sum(lengths), HEADS, SIZE)
    output = extend(cache, query, lengths, None)
    token = 0
    for request, length in enumerate(lengths):
        end = int(cache.lengths[request])
        for position in range(end - length, end):
            expected = cache.attend(request, query[token], list(range(position + 1)))
            torch.testing.assert_close(output[token], expected)
            token += 1


def test_extend_attention_over_a_tree(kernel: Any) -> None:  # noqa: ARG001
    """With a mask a token sees its request's text, and of the drafts those that the mask names."""
    import torch

    cache = Cache([6, 9])
    tree = torch.tensor([[[1, 0, 0], [1, 1, 0], [1, 0, 1]], [[1, 0, 0], [1, 1, 0], [1, 1, 1]]]).bool()
    query = torch.randn(6, HEADS, SIZE)
    output = extend(cache, query, [3, 3], tree.flatten())
    for request in range(2):
        text = int(cache.lengths[request]) - 3
        for node in range(3):
            seen = [text + other for other in range(3) if tree[request, node, other]]
            expected = cache.attend(request, query[3 * request + node], [*range(text), *seen])
            torch.testing.assert_close(output[3 * request + node], expected)


def test_slots(kernel: Any) -> None:
    """Slots given to positions are found there again, request after request, and no others are touched."""
    import torch

    table = torch.zeros(4, 12, dtype=torch.int32)
    rows, start, end = torch.tensor([3, 1]), torch.tensor([2, 0]), torch.tensor([5, 2])
    kernel.assign_req_to_token_pool_cpu(rows, table, start, end, torch.arange(10, 15), 12)
    assert table[3].tolist() == [0, 0, 10, 11, 12, 0, 0, 0, 0, 0, 0, 0]
    assert table[1].tolist() == [13, 14] + [0] * 10
    assert int(table.sum()) == sum(range(10, 15))
    found = torch.full((6,), -1)
    kernel.assign_extend_cache_locs_cpu(rows, table, start, end, found, 12)
    assert found.tolist() == [10, 11, 12, 13, 14, -1]
    drafts = torch.empty(4, dtype=torch.int64)
    kernel.assign_draft_cache_locs_contiguous_cpu(rows, table, start, drafts, 12, 1, 2)
    assert drafts.tolist() == [10, 11, 13, 14]


def test_slots_of_branches(kernel: Any) -> None:
    """Every branch has a row of its own: the request's text, then the branch's drafts, pass after pass."""
    import torch

    table = torch.arange(24, dtype=torch.int32).view(2, 12)
    rows, lengths = torch.tensor([1, 0]), torch.tensor([3, 2])
    branches = kernel.build_draft_decode_metadata_cpu(table, rows, lengths, 2, 3, 12)
    assert branches[:, :6].tolist() == [
        [12, 13, 14, 15, 16, 17],
        [12, 13, 14, 18, 19, 20],
        [0, 1, 2, 3, 4, 5],
        [0, 1, 5, 6, 7, 5],
    ]
    assert torch.equal(kernel.build_draft_decode_metadata_cpu(table, rows, lengths, 1, 3, 12), table[rows])


def test_accepted_tokens(kernel: Any) -> None:
    """What was accepted is packed; each request's last token is the target's own."""
    import torch

    kept = torch.zeros(6, dtype=torch.int64)
    kernel.fill_accept_out_cache_loc_cpu(
        torch.tensor([[0, 2, -1], [3, -1, -1]]), torch.arange(100, 106), kept
    )
    assert kept.tolist() == [100, 102, 103, 0, 0, 0]
    last = torch.zeros(2, dtype=torch.int32)
    kernel.fill_bonus_tokens_cpu(torch.tensor([[7, 8, 9], [4, 5, 6]]), torch.tensor([2, 1]), last, 3)
    assert last.tolist() == [8, 4]


def test_moving_the_cache(kernel: Any) -> None:
    """Slots move in all buffers as if at once, also where a target is another's source."""
    import torch

    buffers = [torch.randn(SLOTS, KEY_HEADS, SIZE) for _ in range(3)]
    before = [buffer.clone() for buffer in buffers]
    addresses = torch.tensor([buffer.data_ptr() for buffer in buffers], dtype=torch.uint64)
    strides = torch.tensor([KEY_HEADS * SIZE * 4] * 3)
    target, source = torch.tensor([1, 2, 9]), torch.tensor([2, 5, 1])
    kernel.copy_all_layer_kv_cache_cpu(addresses, strides, target, source)
    for buffer, old in zip(buffers, before, strict=True):
        old[target] = old[source]
        assert torch.equal(buffer, old)


#      0      A request whose last certain token is node 0, at position 7, and its drafts, as SGLang encodes
#     / \     them with 2 branches per expanded node: the root's drafts are 0 and 1, draft 0's are 2 and 3,
#    1   2    draft 1's are 4 and 5. Selected are 0, 1, 3, 4.
#    |   |
#    3   4
PARENTS, SELECTED = [[-1, 0, 1]], [[0, 1, 3, 4]]
NEXT_TOKEN, NEXT_SIBLING = [1, 3, 4, -1, -1], [-1, 2, -1, -1, -1]


class Tree:
    """The operators' tensors for `requests` requests of `nodes` nodes."""

    def __init__(self, requests: int, nodes: int) -> None:
        import torch

        self.mask = torch.ones(requests * nodes * nodes, dtype=torch.bool)
        self.positions = torch.empty(requests * nodes, dtype=torch.int64)
        self.index, self.next_token, self.next_sibling = torch.full((3, requests, nodes), -1)


def test_tree_of_drafts(kernel: Any) -> None:
    """Positions, links and who sees whom follow from what was selected."""
    import torch

    tree = Tree(1, 5)
    outputs = (tree.mask, tree.positions, tree.index, tree.next_token, tree.next_sibling)
    kernel.build_tree_kernel_efficient_cpu(
        torch.tensor(PARENTS), torch.tensor(SELECTED), torch.tensor([7]), *outputs, 2, 2, 5, 1
    )
    assert tree.positions.tolist() == [7, 8, 8, 9, 9]
    assert tree.index.tolist() == [[0, 1, 2, 3, 4]]
    assert tree.next_token.tolist() == [NEXT_TOKEN]
    assert tree.next_sibling.tolist() == [NEXT_SIBLING]
    assert tree.mask.view(5, 5).int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 0, 1, 0, 1],
    ]


def test_chain_of_drafts(kernel: Any) -> None:
    """With one branch every token follows the one before it, in each request."""
    import torch

    tree = Tree(2, 4)
    outputs = (tree.mask, tree.positions, tree.index, tree.next_token, tree.next_sibling)
    parents, selected = torch.arange(-1, 2).repeat(2, 1), torch.arange(3).repeat(2, 1)
    kernel.build_tree_kernel_efficient_cpu(parents, selected, torch.tensor([5, 9]), *outputs, 1, 3, 4, 1)
    assert tree.positions.tolist() == [5, 6, 7, 8, 9, 10, 11, 12]
    assert tree.index.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert tree.next_token.tolist() == [[1, 2, 3, -1]] * 2
    assert tree.next_sibling.tolist() == [[-1] * 4] * 2
    assert torch.equal(tree.mask.view(2, 4, 4), torch.ones(2, 4, 4).tril().bool())


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ([50, 0, 0, 0, 0], [0]),
        ([11, 50, 0, 0, 0], [0, 1]),
        ([12, 0, 14, 0, 50], [0, 2, 4]),
        ([11, 13, 0, 50, 0], [0, 1, 3]),
        ([11, 14, 0, 0, 0], [0, 1]),
    ],
    ids=["none", "first", "sibling", "whole", "other branch"],
)
def test_greedy_verification(kernel: Any, target: list[int], path: list[int]) -> None:
    """The target's own tokens are followed down the tree; its next one comes after the last that is there."""
    import torch

    predicts = torch.zeros(10, dtype=torch.int32)
    accepted = torch.full((2, 3), -1, dtype=torch.int32)
    counts = torch.empty(2, dtype=torch.int32)
    kernel.verify_tree_greedy_cpu(
        predicts=predicts,
        accept_index=accepted,
        accept_token_num=counts,
        candidates=torch.tensor([[9, 11, 12, 13, 14]] * 2),
        retrive_index=torch.arange(10).view(2, 5),
        retrive_next_token=torch.tensor([NEXT_TOKEN] * 2),
        retrive_next_sibling=torch.tensor([NEXT_SIBLING] * 2),
        target_predict=torch.tensor([target, [50] * 5]),
    )
    assert counts.tolist() == [len(path) - 1, 0]
    assert accepted.tolist() == [path + [-1] * (3 - len(path)), [5, -1, -1]]
    assert predicts[path].tolist() == [target[node] for node in path]
    assert int(predicts[5]) == 50
