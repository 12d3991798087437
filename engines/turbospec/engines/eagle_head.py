"""A made EAGLE head, for demonstrations and tests: it knows what a made pair's draft model knows.

Run as a program it makes one in the form that SGLang takes: TARGET DRAFT DIRECTORY.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from turbospec.engines.models import MadeModels

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"


def make_eagle_head(models: MadeModels, directory: Path) -> Path:
    """A head as vLLM's `eagle` method takes it, in a `directory` that does not exist yet.

    Heads have no input norm, no final norm and no embeddings of their own. So `fc` ignores the target's
    hidden state and brings the embedding to unit size, as the missing norm would; what the layer adds is
    enlarged as much. The output then differs in scale only, which no greedy choice sees.
    """
    import torch
    from safetensors.torch import load_file, save_file

    draft = load_file(models.draft / _WEIGHTS)
    hidden = draft["model.norm.weight"].numel()
    scale = 1 / draft["model.embed_tokens.weight"].float().square().mean().sqrt()
    fc = torch.cat([scale * torch.eye(hidden), torch.zeros(hidden, hidden)], dim=1)
    head = {"fc.weight": fc.to(torch.bfloat16)}
    for name, tensor in draft.items():
        if not name.startswith("model.layers.") or name.endswith(".input_layernorm.weight"):
            continue
        added = name.endswith((".o_proj.weight", ".down_proj.weight"))
        head[name.removeprefix("model.")] = tensor * scale.to(tensor.dtype) if added else tensor
    directory.mkdir(parents=True)
    save_file(head, directory / _WEIGHTS, metadata={"format": "pt"})
    shutil.copy(models.draft / _CONFIG, directory)
    return directory


def make_sglang_head(models: MadeModels, directory: Path) -> Path:
    """The same as SGLang's EAGLE takes it."""
    import torch
    from safetensors.torch import load_file, save_file

    make_eagle_head(models, directory)
    weights = load_file(directory / _WEIGHTS)
    # SGLang's `fc` has a bias, which would be left at random.
    weights["fc.bias"] = torch.zeros_like(weights["fc.weight"][:, 0])
    save_file(weights, directory / _WEIGHTS, metadata={"format": "pt"})
    config = json.loads((directory / _CONFIG).read_text())
    config["architectures"] = ["LlamaForCausalLMEagle"]
    (directory / _CONFIG).write_text(json.dumps(config))
    return directory


if __name__ == "__main__":
    target, draft, made = map(Path, sys.argv[1:])
    make_sglang_head(MadeModels(target, draft), made)
