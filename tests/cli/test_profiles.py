"""`turbospec profiles`: the same answers from a running controller and from the directory itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.base_install import with_base_install
from support.profiles import Watched, cell, key, profile
from support.serving import Server, turbospec
from turbospec.cli.main import main
from turbospec.sidecar.profiles.document import dumps

FIRST, SECOND = profile(), profile(engine_version="0.33.0")
IDS = [made.key.profile_id for made in (FIRST, SECOND)]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """A directory with two profiles: the second engine is a tenth slower, twice as slow in one cell, and was
    not measured with one request."""
    watched = Watched(tmp_path_factory.mktemp("volume") / "profiles")
    slower = [replace(made, seconds=1.1 * made.seconds) for made in SECOND.cells if made.requests > 1]
    slower[0] = replace(slower[0], seconds=2.0 * FIRST.cells[4].seconds)
    watched.store.put(FIRST)
    watched.store.put(replace(SECOND, cells=(*slower, cell(64, 5))))
    return watched


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, watched: Watched) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    server = Server(directory, "--profiles-directory", str(watched.store.directory))
    yield server
    server.stop()


def both(server: Server, watched: Watched, *arguments: str) -> str:
    """What the command prints, which must not depend on where profiles come from."""
    outputs = []
    for place in (("--address", server.operations), ("--directory", str(watched.store.directory))):
        done = turbospec("profiles", *arguments, *place)
        assert (done.returncode, done.stderr) == (0, "")
        outputs.append(re.sub(r"[\d.]+ (s|min|h|d)\b", "AGE", done.stdout))
    assert outputs[0] == outputs[1]
    return outputs[0]


def test_list(server: Server, watched: Watched) -> None:
    """A line per profile, whole also where there is no terminal; the same as JSON."""
    text = both(server, watched, "list")
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert {*IDS, "id"} <= rows.keys()
    for told in ("vllm 0.32.0 on NVIDIA H200: meta-llama/Llama", "(eagle3), bfloat16 ", " 12 ", " sweep "):
        assert told in rows[IDS[0]]
    listed = json.loads(both(server, watched, "list", "--json"))
    assert {summary["profile_id"]: summary["cells"] for summary in listed} == {IDS[0]: 12, IDS[1]: 9}
    assert listed[0]["key"]["graph_sizes"] == [1, 2, 4, 8, 16, 32]


def test_show(server: Server, watched: Watched) -> None:
    """The key, the age, and milliseconds by requests and length; the same as JSON; also of a file."""
    text = both(server, watched, "show", IDS[0])
    lines = [line.strip() for line in text.splitlines()]
    assert f"id                         {IDS[0]}" in lines
    assert "graph_sizes                1 2 4 8 16 32" in lines
    assert any(
        line.startswith("measured") and line.endswith("AGE ago, 2026-01-31 12:00 UTC") for line in lines
    )
    table = {line.split()[0]: line.split()[1:] for line in lines if line[:1].isdigit() or line[:4] == "requ"}
    assert table["requests"] == ["0", "1", "3", "5", "steps"]
    assert table["16"] == ["14.8", "19.6", "29.2", "38.8", "20"]
    shown = json.loads(both(server, watched, "show", IDS[0], "--json"))
    assert shown["profile_id"] == IDS[0]
    assert shown["cells"][0]["requests"] == 1


def test_show_tells_cells_of_one_place_apart(tmp_path: Path) -> None:
    """Contexts, ragged widths and the skipped drafter: a range where times differ, a column of its own; how
    many steps cells rest on."""
    cells = (
        cell(4, 0, drafter_skipped=True, seconds=0.01),
        cell(4, 0, seconds=0.02),
        cell(4, 3, seconds=0.03),
        cell(4, 3, ragged=True, seconds=0.05),
        cell(4, 3, context_tokens=10_000, seconds=0.032, steps=64),
    )
    (tmp_path / "file").write_bytes(dumps(profile(cells)))
    text = turbospec("profiles", "show", str(tmp_path / "file")).stdout
    assert re.search(r"requests +off +0 +3 +steps *\n", text)
    assert re.search(r" 4 +10 +20 +32 \(30 to 50\) +20 to 64", text)
    assert "with prompts" not in text
    prompts = cell(4, 3, target_tokens=116, prefill_tokens=100, seconds=0.09)
    (tmp_path / "file").write_bytes(dumps(profile((*cells, prompts))))
    alone, beside = turbospec("profiles", "show", str(tmp_path / "file")).stdout.split("with prompts")
    assert re.search(r" 4 +10 +20 +32 \(30 to 50\) +20 to 64", alone)
    assert re.search(r" 4 +90 +20", beside)


def test_export_and_import_are_inverse(server: Server, watched: Watched, tmp_path: Path) -> None:
    """The file is the directory's own, byte for byte; through a pipe too; import says what it replaced."""
    file, elsewhere = tmp_path / "exported", tmp_path / "elsewhere"
    elsewhere.mkdir()
    both(server, watched, "export", IDS[0], str(file))
    (stored,) = watched.store.directory.glob(f"*-{IDS[0]}.profile.json")
    assert file.read_bytes() == stored.read_bytes()
    assert both(server, watched, "export", IDS[0]).encode() == stored.read_bytes()
    for expected in ("new", "replaced"):
        done = turbospec("profiles", "import", str(file), "--directory", str(elsewhere))
        assert (done.returncode, done.stdout) == (0, f"{IDS[0]}: {expected}, 12 cells\n")
    (copy,) = elsewhere.iterdir()
    assert (copy.name, copy.read_bytes()) == (stored.name, stored.read_bytes())
    done = turbospec("profiles", "import", str(file), "--address", server.operations)
    assert (done.returncode, done.stdout) == (0, f"{IDS[0]}: replaced, 12 cells\n")


def test_diff(server: Server, watched: Watched, tmp_path: Path) -> None:
    """Keys that differ, the median and the largest ratio of common cells; of ids and of files."""
    text = both(server, watched, "diff", *IDS)
    lines = [line.strip() for line in text.splitlines()]
    assert "engine_version  0.32.0 -> 0.33.0" in lines
    assert "cells           8 in both, 4 only in the first, 1 only in the second" in lines
    assert "median ratio    1.100 (second to first)" in lines
    assert "largest ratio   2.000, at 4 requests, length 0, 4 tokens, 2048 context" in lines
    compared = json.loads(both(server, watched, "diff", *IDS, "--json"))
    assert compared["key"] == {"engine_version": ["0.32.0", "0.33.0"]}
    assert compared["median_ratio"] == pytest.approx(1.1)
    assert len(compared["common"]) == 8
    (tmp_path / "file").write_bytes(dumps(FIRST))
    assert both(server, watched, "diff", str(tmp_path / "file"), IDS[1]) == text
    nothing = both(server, watched, "diff", IDS[0], IDS[0], "--json")
    assert json.loads(nothing)["median_ratio"] == 1.0


def test_bad_input_is_named(watched: Watched, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2 and what is wrong; the directory is not touched."""
    directory = ("--directory", str(watched.store.directory))
    bad = tmp_path / "bad"
    bad.write_bytes(dumps(FIRST).replace(b'"steps":20', b'"steps":21', 1))
    newer = tmp_path / "newer"
    newer.write_text('{"format": "turbospec.latency_profile", "schema_version": 2}')
    for arguments, problem in (
        (["list", "--directory", str(bad)], f"--directory {bad}: is not a directory"),
        (["show", "nothing", *directory], "nothing: No such file or directory"),
        (["show", str(tmp_path), *directory], f"{tmp_path}: Is a directory"),
        (["export", "../x", *directory], "an id has 16 hexadecimal digits, not '../x'"),
        (["export", IDS[0], f"{tmp_path}/no/file", *directory], f"{tmp_path}/no/file: No such file"),
        (["import", str(bad), *directory], f"{bad} is no profile that can be used: checksum: 'sha256:"),
        (["import", str(newer), *directory], "schema_version: 2 is newer than 1"),
        (["diff", IDS[0], str(bad), *directory], f"{bad} is no profile that can be used"),
        (["list", "--address", "nonsense"], "nonsense"),
        (["list", "--token-file", str(tmp_path / "none")], "none"),
    ):
        assert main(["profiles", *arguments]) == 2
        told = capsys.readouterr()
        assert told.err.startswith(f"turbospec profiles {arguments[0]}: ")
        assert problem in told.err
        assert not told.out
    with pytest.raises(SystemExit, match="2"):
        main(["profiles", "list", "--address", "127.0.0.1:1", *directory])
    assert "not allowed with argument" in capsys.readouterr().err


def test_what_is_not_there_is_told(server: Server, watched: Watched) -> None:
    """Exit status 1: an unknown id in both places, and a controller that keeps none or does not answer."""
    for place in (("--address", server.operations), ("--directory", str(watched.store.directory))):
        done = turbospec("profiles", "show", "0" * 16, *place)
        assert done.returncode == 1
        assert f"no profile {'0' * 16} in {watched.store.directory}" in done.stderr
    done = turbospec("profiles", "list", "--address", "unix:/nowhere/operations.sock")
    assert done.returncode == 1
    assert "no controller answers at unix:/nowhere/operations.sock" in done.stderr


def test_a_directory_is_read_with_the_base_install(watched: Watched, tmp_path: Path) -> None:
    """JSON, files and warnings need nothing else; tables say which extra has them."""
    directory = ("--directory", str(watched.store.directory))
    listed = with_base_install("profiles", "list", "--json", *directory)
    assert listed.returncode == 0, listed.stderr
    assert len(json.loads(listed.stdout)) == 2
    table = with_base_install("profiles", "show", IDS[0], *directory)
    assert table.returncode == 2
    assert "tables need the 'sidecar' extra: pip install 'turbospec[sidecar]', or --json" in table.stderr
    broken = tmp_path / f"x-{key().profile_id}.profile.json"
    broken.write_text("{}")
    listed = with_base_install("profiles", "list", "--json", "--directory", str(tmp_path))
    assert (listed.returncode, listed.stdout) == (0, "[]\n")
    assert f"profile.set_aside: path {broken}, now {broken}.set-aside-" in listed.stderr


def test_an_empty_directory_has_no_profiles(tmp_path: Path) -> None:
    """Said, not shown as an empty table."""
    assert turbospec("profiles", "list", "--directory", str(tmp_path)).stdout == "no profiles\n"
