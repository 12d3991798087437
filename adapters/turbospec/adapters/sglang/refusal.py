"""Which of a user's SGLang configurations the adapter controls, and why not the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from turbospec.adapters.sglang.methods import ALIASES, METHODS, MethodSupport
from turbospec.adapters.support import MAX_LENGTH, RefusedError, Status

# Settings under which switching between SGLang's runtime states is not safe, by the value that is. Most are
# those under which SGLang itself turns `--speculative-adaptive` off, which switches in the same way.
_ONLY: dict[str, tuple[Any, str]] = {
    "speculative_eagle_topk": (1, "drafts are trees where it is above 1; set --speculative-eagle-topk 1"),
    "pp_size": (1, "stages would have to switch lengths together"),
    "attn_dp_size": (1, "ranks that share experts would have to agree on lengths"),
    "disaggregation_mode": ("null", "the two sides would have to agree on lengths"),
    "enable_multi_layer_eagle": (False, "its worker has no runtime states to switch between"),
    "enable_two_batch_overlap": (False, "switching lengths would undo it"),
    "enable_pdmux": (False, "switching lengths would not reach its decode groups"),
    "enable_hisparse": (False, "its buffers are made for one length"),
}


def method_support(config: Callable[[str], Any]) -> MethodSupport:
    """What may be controlled in an engine. `config` gives its resolved settings by name.

    Raises `RefusedError` where nothing may.
    """
    algorithm = config("speculative_algorithm")
    if algorithm is None:
        raise RefusedError("speculation is not configured (--speculative-algorithm)")
    method = ALIASES.get(algorithm.upper(), algorithm.upper())
    support = METHODS.get(method)
    if support is None:
        raise RefusedError(f"algorithm {algorithm!r} is not known")
    if support.status is Status.REFUSED:
        raise RefusedError(f"algorithm {method}: {support.note}")
    for name, (needed, why) in _ONLY.items():
        if (value := config(name)) != needed:
            raise RefusedError(f"{name} is {value!r}: {why}")
    if config("enable_lora"):
        raise RefusedError("enable_lora is set: SGLang's graphs for adapters are made for one length")
    if config("nnodes") > 1:
        raise RefusedError("nnodes is above 1: TurboSpec may not be installed on the other nodes")
    longest = config("speculative_num_steps")
    if not 1 <= longest <= MAX_LENGTH:
        raise RefusedError(f"speculative_num_steps is {longest}; between 1 and {MAX_LENGTH}")
    return support
