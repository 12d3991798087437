"""Whether sampled answers have the model's distribution: a chi-square test against exact probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Tokens followed one by one at each place; all others are one bucket.
_FOLLOWED = 4
_DEPTH = 3
# Fewer expected counts than that make the test inexact.
_EXPECTED_AT_LEAST = 10


class ExactDistribution:
    """Probabilities of a model's first tokens after a prompt, in float32 by the transformers library."""

    def __init__(self, model: Path, prompt: list[int], temperature: float) -> None:
        import torch
        import transformers

        llama: Any = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        self._buckets: dict[tuple[int, ...], float] = {}

        def follow(beginning: tuple[int, ...], probability: float) -> None:
            if len(beginning) == _DEPTH:
                self._buckets[beginning] = probability
                return
            with torch.no_grad():
                logits = llama(torch.tensor([[*prompt, *beginning]])).logits[0, -1]
            probabilities = torch.softmax(logits.double() / temperature, -1)
            likely = probabilities.topk(_FOLLOWED)
            for token, share in zip(likely.indices.tolist(), likely.values.tolist(), strict=True):
                follow((*beginning, token), probability * share)
            # Whatever else comes after this beginning.
            self._buckets[beginning] = probability * (1 - float(likely.values.sum()))

        follow((), 1.0)

    def p_value(self, answers: Iterable[list[int]]) -> float:
        """How probable an answer set at least as odd as this one is, if the answers are from this model."""
        from scipy.stats import chisquare

        counts = Counter(self._bucket(answer) for answer in answers)
        total = counts.total()
        observed, expected = [0.0], [0.0]
        for bucket, probability in self._buckets.items():
            if probability * total >= _EXPECTED_AT_LEAST:
                observed.append(counts[bucket])
                expected.append(probability * total)
            else:
                observed[0] += counts[bucket]
                expected[0] += probability * total
        return float(chisquare(observed, expected).pvalue)

    def _bucket(self, answer: list[int]) -> tuple[int, ...]:
        bucket = tuple(answer[:_DEPTH])
        while bucket not in self._buckets:
            bucket = bucket[:-1]
        return bucket
