"""What tests with a real vLLM need beside a pair: a LoRA adapter, a tokenizer for JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from turbospec.engines.models import MadeModels

ADAPTER_RANK = 8
ADAPTED = ("q_proj", "v_proj", "down_proj")


def make_adapter(models: MadeModels, directory: Path, seed: int) -> Path:
    """A LoRA adapter for the target, in the form of the peft library, that changes most of what it says."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = {}
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in load_file(models.target / "model.safetensors").items():
        if not name.endswith(tuple(f"{module}.weight" for module in ADAPTED)):
            continue
        rows, columns = tensor.shape
        prefix = f"base_model.model.{name.removesuffix('.weight')}"
        weights[f"{prefix}.lora_A.weight"] = 0.1 * torch.randn(ADAPTER_RANK, columns, generator=generator)
        weights[f"{prefix}.lora_B.weight"] = 0.1 * torch.randn(rows, ADAPTER_RANK, generator=generator)
    directory.mkdir(parents=True)
    save_file(weights, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": ADAPTER_RANK,
        "lora_alpha": ADAPTER_RANK,
        "target_modules": list(ADAPTED),
        "bias": "none",
        "base_model_name_or_path": str(models.target),
    }
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def make_text_tokenizer(models: MadeModels, directory: Path) -> Path:
    """A tokenizer for the pair that can write JSON: characters first, then words with their space."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from turbospec.engines.vocabulary import SPECIAL_TOKENS, words

    size = json.loads((models.target / "config.json").read_text())["vocab_size"]
    # In the byte-level alphabet "Ġ" is a space. Bytes beyond ASCII would make texts that are not UTF-8.
    characters = [*sorted(filter(str.isascii, pre_tokenizers.ByteLevel.alphabet())), "Ġ"]
    tokens = [*SPECIAL_TOKENS, *characters]
    tokens += ["Ġ" + word for word in words(size - len(tokens))]
    tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    directory.mkdir(parents=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    for name in ("tokenizer_config.json", "config.json"):
        shutil.copy(models.target / name, directory)
    return directory


def read_tokens(tokenizer: Path) -> list[str]:
    """The text of each token."""
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    return [loaded.decode([token], skip_special_tokens=False) for token in range(loaded.get_vocab_size())]
