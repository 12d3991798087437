"""What the parts with serving engines share: models, a controller, and engines that start side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from turbospec.engines.bench.e2e.lineup import FIXED_ENGINE, Lineup, Place
from turbospec.engines.bench.gpu import device
from turbospec.engines.bench.gpu.plan import (
    ADAPTIVE,
    GOODPUT,
    HIGH,
    LONGEST_LENGTH,
    NGRAM,
    NONE,
    TABLE,
    Scale,
)
from turbospec.engines.instant_models import PAIRS, write_pair
from turbospec.engines.load import Workload
from turbospec.engines.models import MadeModels
from turbospec.engines.processes import Children
from turbospec.engines.stage import vllm
from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.cores import kept_apart
from turbospec.engines.stage.engines import MODEL_NAME, Engine, Setting

_PROMPT_VOCABULARY = 2000  # as many different tokens as a text of that length may have, and all shapes do
# With few tokens to choose from, greedy decoding soon repeats itself, and decoding at random repeats pairs of
# tokens: the n-gram drafter has proposals for both, most of them right for the first and wrong for the other.
_NGRAM_REQUESTS = {
    True: {"temperature": 0, "allowed_token_ids": list(range(100, 104))},
    False: {"temperature": 1, "allowed_token_ids": list(range(100, 108))},
}

Entries = Sequence[tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Case:
    """A method and an agreement, by name, at a scale; `eps`: what makes the pair agree so."""

    scale: Scale
    method: str
    agreement: str
    eps: float

    @property
    def pair(self) -> str:
        """Of `instant_models`."""
        return self.scale.pairs[self.method]

    @property
    def drafter(self) -> str:
        """As `stage.vllm` calls it."""
        return vllm.NGRAM if self.method == NGRAM else vllm.DRAFT_MODEL

    def setting(self) -> Setting:
        """How its engines are started."""
        # vLLM cannot look for n-grams in what it does not know yet.
        return device.serving(self.scale, asynchronous=self.method != NGRAM)

    def place(self) -> Place:
        """How its engines are loaded."""
        scale, ngram = self.scale, self.method == NGRAM
        return Place(
            workload=Workload(
                MODEL_NAME,
                min(_PROMPT_VOCABULARY, PAIRS[self.pair].target.vocabulary),
                scale.prompt_tokens,
                scale.output_tokens,
                parameters=_NGRAM_REQUESTS[self.agreement == HIGH] if ngram else {},
            ),
            ramp_seconds=scale.ramp_seconds,
            rest_seconds=scale.rest_seconds,
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """What a part has to start engines with."""

    children: Children
    models: MadeModels
    controller: Controller
    place: Place


@contextmanager
def stage(case: Case, directory: Path, logs: Path) -> Iterator[Stage]:
    """Models and a controller; all that is started in the block is ended with it."""
    apart = kept_apart() if not case.scale.on_accelerator else _together()
    with (
        apart,
        tempfile.TemporaryDirectory(prefix="turbospec-") as sockets,
        Children(logs) as children,
    ):
        controller = Controller.choose(Path(sockets))
        controller.start(children)
        yield Stage(children, write_pair(directory, case.pair, case.eps), controller, case.place())


def start_controlled(on: Stage, case: Case, name: str) -> Engine:
    """An engine that follows the controller's plans; it is not waited for."""
    return vllm.start_controlled(
        on.children,
        name,
        on.models,
        on.controller,
        longest=LONGEST_LENGTH,
        method=case.drafter,
        setting=case.setting(),
    )


def lineup(of: Stage, case: Case, entries: Entries | None) -> tuple[Lineup, tuple[str, ...]]:
    """Engines for every policy that needs one, started at once, and the policies that have one.

    Where the device cannot hold them all, `goodput` shares the engine of the static lengths: then it may have
    learnt of costs from their steps, too. `entries` None: no engine with vLLM's own table.
    """
    children, models = of.children, of.models
    method, longest, setting = case.drafter, LONGEST_LENGTH, case.setting()
    plain = {NONE: vllm.start_without_speculation(children, NONE, models, setting=setting)}
    if entries is not None:
        plain[TABLE] = vllm.start_with_table(
            children, TABLE, models, entries, longest=longest, method=method, setting=setting
        )
    roomy = device.holds_all_engines(case.scale)
    # It is for drafters that are models and needs captured graphs.
    if (
        entries is not None
        and roomy
        and case.scale.on_accelerator
        and method == vllm.DRAFT_MODEL
        and device.has_adaptive_verification()
    ):
        plain[ADAPTIVE] = vllm.start_adaptive(
            children, ADAPTIVE, models, longest=longest, method=method, setting=setting
        )
    controlled = (GOODPUT, FIXED_ENGINE) if roomy else (FIXED_ENGINE,)
    engines = {name: start_controlled(of, case, name) for name in controlled} | plain
    return Lineup(engines, of.controller, of.place, controlled=controlled), tuple(plain)


@contextmanager
def _together() -> Iterator[None]:
    """Where the model's computing is elsewhere, its processes need no cores of their own."""
    yield
