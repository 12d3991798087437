"""The suite on the real engines, of which an environment has one."""

from __future__ import annotations

from dataclasses import dataclass
from pkgutil import resolve_name

import pytest
from support.conformance.course import Course, run_course
from support.conformance.rules import RULES, Rule
from turbospec.engines.models import MadeModels

# By the name that people call it: its subject, which imports the engine.
SUBJECTS = {
    "vLLM": "support.conformance.vllm:VllmSubject",
    "SGLang": "support.conformance.sglang:SglangSubject",
}


@dataclass(frozen=True)
class Seen:
    """`said`: the adapter's warnings at its start."""

    engine: str
    course: Course
    said: list[str]


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=getattr(pytest.mark, name.lower())) for name in SUBJECTS],
)
def seen(
    request: pytest.FixtureRequest, models: MadeModels, tmp_path_factory: pytest.TempPathFactory
) -> Seen:
    subject = resolve_name(SUBJECTS[request.param])(models)
    course = run_course(subject, tmp_path_factory.mktemp("controller"))
    return Seen(request.param, course, subject.said)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_engines_adapter_conforms(seen: Seen, rule: Rule) -> None:
    """The rule holds; see its docstring."""
    rule(seen.course)


def test_a_version_outside_the_range_is_a_warning(seen: Seen) -> None:
    """The engine that all rules held for was none of the tested versions: said once, with both named."""
    version = seen.course.hello.engine_version
    assert [line for line in seen.said if "not tested" in line] == [
        f"TurboSpec is not tested with {seen.engine} {version} (tested: 0.1.0 to 0.1.1); its hooks are there."
    ]
