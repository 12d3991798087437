"""Pairs that are made while the engine loads them: draft and target agree because they compute the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from turbospec.engines.instant_models import PAIRS, Pair, read_weights, target_weights, write_pair
from turbospec.engines.models import Shape, make_config, make_weights

_PROMPTS = torch.arange(16, 16 + 3 * 24).reshape(3, 24)


def _logits(directory: Path) -> torch.Tensor:
    """What the transformers library computes with the model in `directory`, in float32."""
    import transformers

    config = transformers.LlamaConfig(**json.loads((directory / "config.json").read_text()))
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    model.to_empty(device="cpu").float()
    weights = {name: tensor.float() for name, tensor in read_weights(directory, "cpu")}
    assert not model.load_state_dict(weights, strict=True).missing_keys
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    with torch.inference_mode():
        return model(_PROMPTS).logits


def _agreement(directory: Path, name: str, eps: float) -> float:
    made = write_pair(directory / f"{eps:g}", name, eps)
    target, draft = _logits(made.target), _logits(made.draft)
    return float((target.argmax(-1) == draft.argmax(-1)).float().mean())


@pytest.mark.parametrize("name", ["small-layers", "small-1b"])
def test_agreement_falls_as_eps_grows(tmp_path: Path, name: str) -> None:
    """With eps 0 draft and target always agree, with a large one next to never."""
    assert _agreement(tmp_path, name, 0.0) > 0.97
    assert 0.05 < _agreement(tmp_path, name, 0.1) < 0.97
    assert _agreement(tmp_path, name, 4.0) < 0.2


def test_a_draft_of_its_own_shape_is_computed_within_the_target(tmp_path: Path) -> None:
    """Logits are the draft's, up to a factor and rounding: heads, positions and norms fit into each other."""
    made = write_pair(tmp_path, "small-1b", 0.0)
    target, draft = _logits(made.target), _logits(made.draft)
    ratio = (target * draft).sum() / (draft * draft).sum()
    assert float((target - ratio * draft).norm() / target.norm()) < 0.05
    # Not because there is only one answer.
    assert len(set(draft.argmax(-1).flatten().tolist())) > 20


def test_the_shapes_are_those_of_the_models_they_stand_for() -> None:
    """8B and 1B by their numbers of parameters, without making any."""

    def parameters(shape: Shape, layers: int) -> int:
        key_value = shape.hidden // shape.heads * shape.key_value_heads
        layer = 2 * shape.hidden * (shape.hidden + key_value) + 3 * shape.hidden * shape.intermediate
        return 2 * shape.vocabulary * shape.hidden + layers * layer

    pair = PAIRS["8b-1b"]
    assert pair.draft is not None
    assert parameters(pair.target, 32) == pytest.approx(8.03e9, rel=0.01)
    # Llama-3.2-1B ties its embeddings to its head; these are not.
    tied = pair.draft.vocabulary * pair.draft.hidden
    assert parameters(pair.draft, 16) - tied == pytest.approx(1.236e9, rel=0.01)
    assert pair.shared_layers == 16
    assert PAIRS["8b-layers"].shared_layers == 2


def test_a_draft_that_does_not_fit_is_refused() -> None:
    """A pair whose draft cannot be computed within its target is no pair."""
    target = PAIRS["small-1b"].target
    wider = Shape(512, 256, 2, 2, 4, 2, target.vocabulary, 64)
    with pytest.raises(ValueError, match="does not fit"):
        Pair(target, wider)


def test_configuration_and_weights_have_the_same_shapes() -> None:
    """Every tensor has the shape that vLLM derives from the configuration."""
    pair = PAIRS["small-1b"]
    config = make_config(pair.target, pair.target.layers)
    shapes = {name: tuple(tensor.shape) for name, tensor in target_weights(pair, 0.1, 0, "cpu")}
    own = {
        name: tuple(tensor.shape)
        for name, tensor in make_weights(pair.target, config["num_hidden_layers"], 0.1, 0)
    }
    assert shapes == own
    assert shapes["lm_head.weight"] == (config["vocab_size"], config["hidden_size"])
