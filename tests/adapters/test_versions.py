"""Which versions of engines count as tested, and what is said of the others."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from turbospec.adapters.versions import SGLANG, VLLM
from turbospec.adapters.versions import Tested as Versions

ROOT = Path(__file__).parents[2]
RANGE = Versions("Engine", oldest="0.26.0", newest="0.32.1", read=("0.25.0",))


@pytest.mark.parametrize(
    ("version", "covered"),
    [
        ("0.26.0", True),
        ("0.26", True),
        ("0.30.7", True),
        ("0.32.1", True),
        ("0.32.1+cpu", True),
        ("0.32.1.post2", True),
        ("0.25.0", False),
        ("0.32.2", False),
        ("0.32.10", False),
        ("1.0", False),
        ("0.32.1rc1", False),
        ("0.32.1.dev3+g0123", False),
        ("unknown", False),
    ],
)
def test_what_lies_in_the_range_is_tested(version: str, covered: bool) -> None:
    """By number and not by spelling; a build's suffix is no other version, a pre-release is."""
    assert RANGE.covers(version) is covered
    assert (RANGE.warning(version) is None) is covered


def test_the_warning_names_both_sides() -> None:
    """What runs, and what was tested: one version, or from the oldest to the newest."""
    assert RANGE.warning("0.33.0") == (
        "TurboSpec is not tested with Engine 0.33.0 (tested: 0.26.0 to 0.32.1); its hooks are there."
    )
    one = Versions("Engine", oldest="1.2.3", newest="1.2.3")
    assert "(tested: 1.2.3)" in str(one.warning("1.2.4"))


def test_the_docs_have_the_same_versions() -> None:
    """The table is what the adapters go by."""
    _, _, rest = (ROOT / "docs" / "adapters.md").read_text().partition("<!-- versions:")
    lines = [
        line for line in rest.partition("<!-- end of versions -->")[0].splitlines() if line.startswith("|")
    ]
    assert lines[2:] == [
        f"| {each.engine} | {each.oldest} | {each.newest} | {', '.join(each.read) or '-'} |"
        for each in (VLLM, SGLANG)
    ]


def test_what_is_installed_is_the_newest() -> None:
    """The extras' pins and the images' bases name the newest version that was run."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, tested in (("vllm", VLLM), ("sglang", SGLANG)):
        assert extras[extra] == [f"{extra}=={tested.newest}"]
        dockerfile = (ROOT / "deploy" / "docker" / f"{extra}.Dockerfile").read_text()
        assert f":v{tested.newest}\n" in dockerfile
