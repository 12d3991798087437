"""Made model pairs: a target and a draft with random weights, for demonstrations and tests.

All compute is real; only the text is meaningless. The draft is the target's first layer with the same
embeddings and head. The target's further layers write to the residual stream scaled by `eps`, so `eps`
sets how often the two agree on the next token: 0 always, larger less often.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turbospec.engines.vocabulary import write_tokenizer

if TYPE_CHECKING:
    import torch

RECIPE = 1
"""Raised whenever the same parameters give other bytes, so that older directories are made again."""

_PARAMETERS_FILE = "made.json"
_PACKAGES = ("torch", "safetensors", "tokenizers")


class MadeModelError(ValueError):
    """The models cannot be made; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The target's size. The draft has `draft_layers` of its `layers`."""

    hidden: int
    intermediate: int
    layers: int
    draft_layers: int
    heads: int
    key_value_heads: int
    vocabulary: int
    positions: int


@dataclass(frozen=True, slots=True)
class MadeModels:
    """Directories of a made pair, as vLLM's `--model` and its speculative configuration take them."""

    target: Path
    draft: Path


SHAPES = {
    # A draft pass costs about a tenth of a target pass in vLLM's CPU steps, as real drafts do.
    "demo": Shape(
        hidden=768,
        intermediate=2048,
        layers=16,
        draft_layers=1,
        heads=12,
        key_value_heads=4,
        vocabulary=4096,
        positions=2048,
    ),
    # For steps of some ten milliseconds on one core, as long as those of a real target on an accelerator.
    "small": Shape(
        hidden=768,
        intermediate=2048,
        layers=6,
        draft_layers=1,
        heads=12,
        key_value_heads=4,
        vocabulary=4096,
        positions=2048,
    ),
    # Seconds instead of minutes; the draft is a third of the target, so costs are not realistic.
    "tiny": Shape(
        hidden=128,
        intermediate=256,
        layers=3,
        draft_layers=1,
        heads=4,
        key_value_heads=2,
        vocabulary=512,
        positions=1024,
    ),
}

# Measured under vLLM with greedy decoding: the share of first drafts that the target accepts.
EPS = {
    "demo": {"high": 0.02, "low": 0.06},
    "small": {"high": 0.02, "low": 0.06},
    "tiny": {"high": 0.02, "low": 0.06},
}


def make_models(directory: Path, agreement: str = "high", *, size: str = "demo", seed: int = 0) -> MadeModels:
    """Makes the pair under `directory`, or finds it there already made with the same parameters.

    The same arguments give the same bytes. A directory appears only when it is complete; one that is
    not a made model is never replaced.

    Raises:
        MadeModelError: unknown agreement or size, a directory that cannot be used, a missing package.
    """
    if size not in SHAPES:
        raise MadeModelError(f"unknown size {size!r}: choose from {', '.join(SHAPES)}")
    if agreement not in EPS[size]:
        raise MadeModelError(f"unknown agreement {agreement!r}: choose from {', '.join(EPS[size])}")
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MadeModelError(
            f"making models needs {', '.join(missing)}: run this in the engine's environment, which has them"
        )
    shape, eps = SHAPES[size], EPS[size][agreement]
    made = made_models(directory, agreement, size=size)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _make(made.target, shape, shape.layers, eps, seed)
        _make(made.draft, shape, shape.draft_layers, 0.0, seed)
    except OSError as error:
        raise MadeModelError(f"cannot make models in {directory}: {error}") from error
    return made


def made_models(directory: Path, agreement: str, *, size: str = "demo") -> MadeModels:
    """Where `make_models` with these arguments puts the pair."""
    return MadeModels(target=directory / f"target-{size}-{agreement}", draft=directory / f"draft-{size}")


def _make(path: Path, shape: Shape, layers: int, eps: float, seed: int) -> None:
    parameters = {"recipe": RECIPE, "shape": asdict(shape), "layers": layers, "eps": eps, "seed": seed}
    if path.exists():
        written = _read_parameters(path)
        if written == parameters:
            return
        if written is None:
            raise MadeModelError(f"{path} exists and is not a made model: choose another directory")
    from safetensors.torch import save_file

    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        save_file(
            dict(make_weights(shape, layers, eps, seed)),
            partial / "model.safetensors",
            metadata={"format": "pt"},
        )
        (partial / "config.json").write_text(json.dumps(make_config(shape, layers), indent=2) + "\n")
        write_tokenizer(partial, shape.vocabulary, shape.positions)
        (partial / _PARAMETERS_FILE).write_text(json.dumps(parameters, indent=2) + "\n")
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read_parameters(path: Path) -> Any:
    try:
        return json.loads((path / _PARAMETERS_FILE).read_text())
    except (OSError, ValueError):
        return None


def make_weights(
    shape: Shape, layers: int, eps: float, seed: int, device: str = "cpu"
) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors by their names in the transformers library's Llama, made on `device`.

    Every tensor has its own generator: a shallower model shares its tensors with a deeper one. Devices of
    different kinds draw different numbers.
    """
    import torch

    serial = 0

    def normal(rows: int, columns: int, scale: float = 1.0) -> torch.Tensor:
        nonlocal serial
        serial += 1
        generator = torch.Generator(device).manual_seed(seed * 1_000_003 + serial)
        drawn = torch.randn(rows, columns, generator=generator, device=device)
        # 0.02 is the transformers library's initializer_range for Llama.
        return (drawn * (0.02 * scale)).to(torch.bfloat16)

    hidden = shape.hidden
    key_value = hidden // shape.heads * shape.key_value_heads
    one = torch.ones(hidden, dtype=torch.bfloat16, device=device)
    yield "model.embed_tokens.weight", normal(shape.vocabulary, hidden)
    yield "lm_head.weight", normal(shape.vocabulary, hidden)
    yield "model.norm.weight", one.clone()
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        scale = 1.0 if layer < shape.draft_layers else eps
        yield f"{prefix}.self_attn.q_proj.weight", normal(hidden, hidden)
        yield f"{prefix}.self_attn.k_proj.weight", normal(key_value, hidden)
        yield f"{prefix}.self_attn.v_proj.weight", normal(key_value, hidden)
        yield f"{prefix}.self_attn.o_proj.weight", normal(hidden, hidden, scale)
        yield f"{prefix}.mlp.gate_proj.weight", normal(shape.intermediate, hidden)
        yield f"{prefix}.mlp.up_proj.weight", normal(shape.intermediate, hidden)
        yield f"{prefix}.mlp.down_proj.weight", normal(hidden, shape.intermediate, scale)
        yield f"{prefix}.input_layernorm.weight", one.clone()
        yield f"{prefix}.post_attention_layernorm.weight", one.clone()


def make_config(shape: Shape, layers: int) -> dict[str, Any]:
    """The transformers library's configuration of a model with the first `layers` of a shape."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "head_dim": shape.hidden // shape.heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        "torch_dtype": "bfloat16",
    }
