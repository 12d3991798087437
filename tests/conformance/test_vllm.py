"""The suite on a real vLLM."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from support.conformance.course import Course, run_course
from support.conformance.rules import RULES, Rule
from support.conformance.vllm import VllmSubject
from turbospec.engines.models import MadeModels

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Seen:
    """`said`: the adapter's warnings at its start."""

    course: Course
    said: list[str]


@pytest.fixture(scope="module")
def seen(models: MadeModels, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    subject = VllmSubject(models)
    return Seen(run_course(subject, tmp_path_factory.mktemp("controller")), subject.said)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_adapter_for_vllm_conforms(seen: Seen, rule: Rule) -> None:
    """The rule holds; see its docstring."""
    rule(seen.course)


def test_a_version_outside_the_range_is_a_warning(seen: Seen) -> None:
    """The engine that all rules held for was none of the tested versions: said once, with both named."""
    version = seen.course.hello.engine_version
    assert [line for line in seen.said if "not tested" in line] == [
        f"TurboSpec is not tested with vLLM {version} (tested: 0.1.0 to 0.1.1); its hooks are there."
    ]
