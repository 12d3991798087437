"""The tokenizer of made models: every token is one pronounceable word, so that any output can be read."""

from __future__ import annotations

import json
from itertools import chain, islice, product
from pathlib import Path

SPECIAL_TOKENS = ("<s>", "</s>", "<unk>")


def words(count: int) -> list[str]:
    """`count` different words, at most 518400: 6400 of two syllables, then those of three."""
    syllables = ["".join(pair) for pair in product("bdfghjklmnprstvz", "aeiou")]
    lengths = (product(syllables, repeat=number) for number in (2, 3))
    return ["".join(word) for word in islice(chain.from_iterable(lengths), count)]


def write_tokenizer(directory: Path, vocabulary: int, positions: int) -> None:
    """Writes a tokenizer of exactly `vocabulary` tokens for models with `positions` positions."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    # "▁" is the tokenizers library's mark for the space before a word.
    tokens = [*SPECIAL_TOKENS, *("▁" + word for word in words(vocabulary - len(SPECIAL_TOKENS)))]
    tokenizer = Tokenizer(
        models.WordLevel(vocab={token: index for index, token in enumerate(tokens)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.save(str(directory / "tokenizer.json"))
    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": positions,
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(configuration, indent=2) + "\n")
