from __future__ import annotations

from typing import Any

import pytest
from turbospec.adapters.sglang.methods import METHODS
from turbospec.adapters.sglang.refusal import method_support
from turbospec.adapters.support import RefusedError, Status

SETTINGS: dict[str, Any] = {
    "speculative_algorithm": "EAGLE3",
    "speculative_num_steps": 5,
    "speculative_eagle_topk": 1,
    "pp_size": 1,
    "nnodes": 1,
    "attn_dp_size": 1,
    "disaggregation_mode": "null",
    "enable_multi_layer_eagle": False,
    "enable_two_batch_overlap": False,
    "enable_pdmux": False,
    "enable_hisparse": False,
    "enable_lora": None,
}


@pytest.mark.parametrize(
    ("given", "method"), [("EAGLE3", "EAGLE3"), ("NEXTN", "EAGLE"), ("standalone", "STANDALONE")]
)
def test_a_known_configuration_is_supported(given: str, method: str) -> None:
    """By the name that SGLang resolves it to."""
    assert method_support({**SETTINGS, "speculative_algorithm": given}.__getitem__) == METHODS[method]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("speculative_algorithm", None, "--speculative-algorithm"),
        ("speculative_algorithm", "BRAND_NEW", "'BRAND_NEW' is not known"),
        ("speculative_eagle_topk", 4, "--speculative-eagle-topk 1"),
        ("speculative_num_steps", 65, "speculative_num_steps is 65; between 1 and 64"),
        ("pp_size", 2, "pp_size is 2"),
        ("nnodes", 2, "other nodes"),
        ("attn_dp_size", 2, "share experts"),
        ("disaggregation_mode", "decode", "agree on lengths"),
        ("enable_multi_layer_eagle", True, "no runtime states"),
        ("enable_two_batch_overlap", True, "would undo it"),
        ("enable_pdmux", True, "decode groups"),
        ("enable_hisparse", True, "one length"),
        ("enable_lora", True, "one length"),
    ],
)
def test_refusal_says_why(name: str, value: Any, reason: str) -> None:
    """Each configuration in which switching lengths is not safe is refused, naming what to change."""
    with pytest.raises(RefusedError, match=reason):
        method_support({**SETTINGS, name: value}.__getitem__)


@pytest.mark.parametrize("method", [m for m, each in METHODS.items() if each.status is Status.REFUSED])
def test_refused_methods_say_why(method: str) -> None:
    """With the reason that the table gives."""
    assert METHODS[method].note
    with pytest.raises(RefusedError, match=METHODS[method].note):
        method_support({**SETTINGS, "speculative_algorithm": method}.__getitem__)
