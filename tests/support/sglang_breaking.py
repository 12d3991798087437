"""Ways to break a real SGLang engine from inside, for controls that a test must notice. See `Engine.call`."""

from __future__ import annotations

from typing import Any


def accept_all_drafts(_: Any) -> None:
    """Every draft is taken for accepted, whatever the target says, from now on."""
    from sglang.kernels.ops.speculative import spec_tree

    verify = spec_tree.sgl_verify_tree_greedy_cpu

    def accept(**tensors: Any) -> None:
        drafts = tensors["candidates"]
        # What the target would have to say after each token for the next draft to be right.
        tensors["target_predict"][:, :-1] = drafts[:, 1:]
        verify(**tensors)

    spec_tree.sgl_verify_tree_greedy_cpu = accept
