"""The suite on the scripted engine."""

from __future__ import annotations

import pytest
from support.conformance.course import Course, run_course
from support.conformance.rules import RULES, Rule
from support.conformance.scripted import ScriptedSubject


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    return run_course(ScriptedSubject(), tmp_path_factory.mktemp("controller"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_scripted_engine_conforms(course: Course, rule: Rule) -> None:
    """The rule holds; see its docstring."""
    rule(course)
