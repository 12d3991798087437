"""Made pairs without files of weights: the engine makes these on its own device while it loads them.

Sixteen gigabytes of weights are made there in seconds, and written nowhere. A directory holds what vLLM reads
of a model besides weights, and the parameters of the weights; `stage.gpu_worker` is the loader. As with other
made pairs, all compute is real, and `eps` sets how often draft and target agree.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turbospec.engines.models import MadeModels, Shape, make_config, make_weights
from turbospec.engines.vocabulary import write_tokenizer

if TYPE_CHECKING:
    import torch

LOAD_FORMAT = "turbospec_made"
"""vLLM's `--load-format` for them."""

_PARAMETERS_FILE = "made.json"
_POSITIONS = 16384  # longer than any context that is measured


def _head(shape: Shape) -> int:
    """Width of one head."""
    return shape.hidden // shape.heads


@dataclass(frozen=True, slots=True)
class Pair:
    """A target, and a draft of a shape of its own; None: the draft is the target's first layers.

    A draft of its own shape is computed by the target's first layers too, in a part of their width: that is
    why the two agree. Its heads are as many as the target's, its width and feed-forward part no larger.
    """

    target: Shape
    draft: Shape | None = None

    def __post_init__(self) -> None:
        if self.draft is not None and (
            (self.draft.heads, self.draft.key_value_heads, self.draft.vocabulary)
            != (self.target.heads, self.target.key_value_heads, self.target.vocabulary)
            or self.draft.hidden > self.target.hidden
            or self.draft.intermediate > self.target.intermediate
            or self.draft.layers > self.target.layers
            or _head(self.target) % _head(self.draft)
        ):
            raise ValueError("the draft does not fit into its target")

    @property
    def shared_layers(self) -> int:
        """The target's first layers, which compute what the draft does; further ones are scaled by eps."""
        return self.draft.layers if self.draft is not None else self.target.draft_layers

    @property
    def draft_shape(self) -> Shape:
        """The draft's own."""
        return self.draft if self.draft is not None else self.target


def _llama(hidden: int, intermediate: int, layers: int, draft_layers: int) -> Shape:
    """Llama 3's family: 32 heads, 8 of keys and values, 128256 tokens."""
    return Shape(hidden, intermediate, layers, draft_layers, 32, 8, 128_256, _POSITIONS)


def _small(hidden: int, intermediate: int, layers: int, draft_layers: int) -> Shape:
    return Shape(hidden, intermediate, layers, draft_layers, 4, 2, 2048, _POSITIONS)


PAIRS = {
    # Llama-3.1-8B's dimensions; the draft is two of its 32 layers, with the same embeddings and head.
    "8b-layers": Pair(_llama(4096, 14336, 32, 2)),
    # The same, with a draft of Llama-3.2-1B's dimensions.
    "8b-1b": Pair(_llama(4096, 14336, 32, 16), _llama(2048, 8192, 16, 16)),
    # For running the benchmark's logic on a CPU.
    "small-layers": Pair(_small(256, 512, 4, 1)),
    "small-1b": Pair(_small(256, 512, 4, 2), _small(128, 256, 2, 2)),
}


def write_pair(directory: Path, name: str, eps: float, seed: int = 0) -> MadeModels:
    """Writes the directories of a pair; the same arguments write the same. Raises OSError."""
    pair = PAIRS[name]
    made = MadeModels(target=directory / f"target-{name}-{eps:g}", draft=directory / f"draft-{name}")
    for path, role in ((made.target, "target"), (made.draft, "draft")):
        path.mkdir(parents=True, exist_ok=True)
        shape = pair.target if role == "target" else pair.draft_shape
        layers = shape.layers if role == "target" else pair.shared_layers
        (path / "config.json").write_text(json.dumps(make_config(shape, layers), indent=2) + "\n")
        write_tokenizer(path, shape.vocabulary, shape.positions)
        parameters = {"pair": name, "role": role, "eps": eps, "seed": seed}
        (path / _PARAMETERS_FILE).write_text(json.dumps(parameters) + "\n")
    return made


def read_weights(path: Path, device: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights of the model in a directory that `write_pair` wrote, made on `device`.

    Raises OSError or KeyError where it is another directory.
    """
    parameters: dict[str, Any] = json.loads((path / _PARAMETERS_FILE).read_text())
    pair, seed = PAIRS[parameters["pair"]], parameters["seed"]
    if parameters["role"] == "draft":
        return make_weights(pair.draft_shape, pair.shared_layers, 0.0, seed, device)
    return target_weights(pair, parameters["eps"], seed, device)


def target_weights(pair: Pair, eps: float, seed: int, device: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The target's: its first layers compute what the draft does, further ones are scaled by `eps`."""
    shape = pair.target
    own = make_weights(shape, shape.layers, eps, seed, device)
    if pair.draft is None:
        yield from own
        return
    drafts = make_weights(pair.draft, pair.draft.layers, 0.0, seed, device)
    # Both begin with the same names, in the same order; what the draft lacks is the target's further layers.
    for (name, large), small in zip_longest(own, drafts):
        yield name, large if small is None else _embedded(pair, name, large, small[1])


def _embedded(pair: Pair, name: str, large: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
    """The draft's tensor within one of the target's shape, so that the target computes the same with it."""
    import torch

    target, draft = pair.target, pair.draft_shape
    if name == "model.norm.weight":
        return large
    if name.endswith("norm.weight"):
        # Norms divide by the mean over the whole width, of which the rest is zero.
        return torch.full_like(large, math.sqrt(draft.hidden / target.hidden))
    hidden = torch.arange(draft.hidden)
    inner = torch.arange(draft.intermediate)
    rows, columns = {
        "embed_tokens": (torch.arange(draft.vocabulary), hidden),
        "lm_head": (torch.arange(draft.vocabulary), hidden),
        "q_proj": (_rotated(pair, draft.heads), hidden),
        "k_proj": (_rotated(pair, draft.key_value_heads), hidden),
        "v_proj": (_plain(pair, draft.key_value_heads), hidden),
        "o_proj": (hidden, _plain(pair, draft.heads)),
        "gate_proj": (inner, hidden),
        "up_proj": (inner, hidden),
        "down_proj": (hidden, inner),
    }[kind := name.split(".")[-2]]
    # The head also reads what further layers write into the rest of the width.
    result = large.clone() if kind == "lm_head" else torch.zeros_like(large)
    # Scores are divided by the square root of a head's width, which is larger in the target.
    factor = (_head(target) / _head(draft)) ** 0.25 if kind in ("q_proj", "k_proj") else 1.0
    result[rows.to(large.device)[:, None], columns.to(large.device)] = small * factor
    return result


def _plain(pair: Pair, heads: int) -> torch.Tensor:
    """Where in the target's heads the draft's are: at their beginning."""
    import torch

    wide, narrow = _head(pair.target), _head(pair.draft_shape)
    return torch.cat([torch.arange(narrow) + head * wide for head in range(heads)])


def _rotated(pair: Pair, heads: int) -> torch.Tensor:
    """The same where positions rotate them: pairs (i, i + half) go where the target's frequency is theirs."""
    import torch

    wide, narrow = _head(pair.target), _head(pair.draft_shape)
    half = torch.arange(narrow // 2) * (wide // narrow)
    one = torch.cat([half, half + wide // 2])
    return torch.cat([one + head * wide for head in range(heads)])


def as_json(name: str) -> dict[str, Any]:
    """The shapes of a pair, for a benchmark's document."""
    pair = PAIRS[name]
    return {"target": asdict(pair.target), "draft": asdict(pair.draft_shape) | {"layers": pair.shared_layers}}
