"""Made model pairs are real, deterministic and safe to make anywhere."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from safetensors import safe_open
from turbospec.engines.models import EPS, SHAPES, MadeModelError, make_models


def _digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    """Two people who make a pair with the same arguments measure the same models."""
    for name in ("a", "b"):
        make_models(tmp_path / name, "high", size="tiny")
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")
    assert len(_digests(tmp_path / "a")) == 10


def test_seed_and_agreement_change_the_weights(tmp_path: Path) -> None:
    """Arguments that should matter do: otherwise determinism would be trivial."""
    weights = {
        (tmp_path / name / f"target-tiny-{agreement}" / "model.safetensors").read_bytes()
        for name, agreement, seed in (("a", "high", 0), ("b", "low", 0), ("c", "high", 1))
        if make_models(tmp_path / name, agreement, size="tiny", seed=seed)
    }
    assert len(weights) == 3


def test_draft_is_the_targets_first_layer(tmp_path: Path) -> None:
    """The draft shares every tensor it has with the target, which is why the two agree."""
    made = make_models(tmp_path, "low", size="tiny")
    with (
        safe_open(made.draft / "model.safetensors", "pt") as draft,
        safe_open(made.target / "model.safetensors", "pt") as target,
    ):
        assert set(draft.keys()) < set(target.keys())
        assert all((draft.get_tensor(name) == target.get_tensor(name)).all() for name in draft.keys())  # noqa: SIM118
        first = target.get_tensor("model.layers.0.mlp.down_proj.weight").float().std()
        later = target.get_tensor("model.layers.1.mlp.down_proj.weight").float().std()
    assert float(later / first) == pytest.approx(EPS["tiny"]["low"], rel=0.05)


def test_transformers_reads_a_made_model(tmp_path: Path) -> None:
    """The files are what the transformers library takes for a Llama, no tensor missing or left over."""
    import transformers

    made = make_models(tmp_path, "high", size="tiny")
    model, report = transformers.AutoModelForCausalLM.from_pretrained(made.target, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(made.target)
    assert len(tokenizer) == model.config.vocab_size == SHAPES["tiny"].vocabulary


def test_every_token_is_a_word_of_its_own(tmp_path: Path) -> None:
    """Any output can be read and streamed, and its text says how many tokens it has."""
    from tokenizers import Tokenizer

    made = make_models(tmp_path, "high", size="tiny")
    tokenizer = Tokenizer.from_file(str(made.target / "tokenizer.json"))
    tokens = list(range(3, SHAPES["tiny"].vocabulary))
    text = tokenizer.decode(tokens)
    assert len(set(text.split(" "))) == len(tokens)
    assert tokenizer.encode(text).ids == tokens


def test_a_finished_pair_is_used_again(tmp_path: Path) -> None:
    """A second demonstration does not make the models again."""
    made = make_models(tmp_path, "high", size="tiny")
    before = (made.target / "model.safetensors").stat().st_mtime_ns
    make_models(tmp_path, "high", size="tiny")
    assert (made.target / "model.safetensors").stat().st_mtime_ns == before


def test_a_pair_of_other_parameters_is_made_again(tmp_path: Path) -> None:
    """What an older version made, or another seed, does not pass for what was asked."""
    made = make_models(tmp_path, "high", size="tiny")
    before = _digests(tmp_path)
    parameters = json.loads((made.target / "made.json").read_text())
    (made.target / "made.json").write_text(json.dumps(parameters | {"recipe": 0}))
    (made.target / "model.safetensors").write_bytes(b"something else")
    make_models(tmp_path, "high", size="tiny")
    assert _digests(tmp_path) == before


def test_somebody_elses_directory_is_never_replaced(tmp_path: Path) -> None:
    """A model that a person keeps under the same name survives."""
    precious = tmp_path / "target-tiny-high" / "weights.bin"
    precious.parent.mkdir()
    precious.write_text("precious")
    with pytest.raises(MadeModelError, match="is not a made model"):
        make_models(tmp_path, "high", size="tiny")
    assert precious.read_text() == "precious"


def test_an_interrupted_making_leaves_nothing_that_looks_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model directory exists only when it is complete."""
    from turbospec.engines import models

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(models, "write_tokenizer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_models(tmp_path, "high", size="tiny")
    assert list(tmp_path.iterdir()) == []
    assert make_models(tmp_path, "high", size="tiny").target.is_dir()


@pytest.mark.parametrize(
    ("agreement", "size", "message"),
    [("medium", "tiny", "agreement 'medium': choose from high, low"), ("high", "huge", "size 'huge'")],
)
def test_unknown_choices_are_named(tmp_path: Path, agreement: str, size: str, message: str) -> None:
    """A bad argument is an error that says what there is, and makes nothing."""
    with pytest.raises(MadeModelError, match=message):
        make_models(tmp_path / "new", agreement, size=size)
    assert not (tmp_path / "new").exists()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A path through a file is an error with that path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(MadeModelError, match=r"cannot make models in .*file/models"):
        make_models(tmp_path / "file" / "models", "high", size="tiny")
