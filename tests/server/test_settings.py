"""Settings: where they come from, and that nothing bad is swallowed."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path

import pytest
from support.serving import turbospec
from turbospec.sidecar.server.settings import (
    NAMES,
    REASONS,
    Settings,
    SettingsError,
    as_toml,
    flag_of,
    load,
    variable_of,
)

# Per setting: three values other than the default, for file, environment and flag.
VALUES = {
    "control_address": ("unix:/tmp/a/c.sock", "127.0.0.1:1", "[::1]:2"),
    "introspection_address": ("127.0.0.1:1", "127.0.0.1:2", "localhost:3"),
    "operations_address": ("unix:/tmp/1", "unix:/tmp/2", "unix:/tmp/3"),
    "operations_token_file": ("/a", "/b", "/c"),
    "metrics_address": ("127.0.0.1:1", "127.0.0.1:2", "localhost:3"),
    "allow_plaintext_network": (True, True, True),
    "reflection": (False, False, False),
    "policy": ("idle", "static:2", "turbospec-2024"),
    "shadow": (True, True, True),
    "length_cap": (1, 2, 0),
    "plan_time_to_live_ms": (100, 200, 300),
    "max_engines": (1, 2, 3),
    "max_requests_per_engine": (1, 2, 3),
    "max_message_bytes": (2000, 3000, 4000),
    "engine_expiry_seconds": (1.5, 2.5, 3.5),
    "shutdown_grace_seconds": (0.0, 1.0, 2.5),
    "profiles_directory": ("/a", "/b", "/c"),
    "ready_file": ("/a", "/b", "/c"),
    "log_level": ("debug", "warning", "error"),
    "log_format": ("json", "text", "json"),
}


def as_file(path: Path, values: dict[str, object]) -> str:
    quoted = {n: f'"{v}"' if isinstance(v, str) else str(v).lower() for n, v in values.items()}
    path.write_text("".join(f"{n} = {v}\n" for n, v in quoted.items()))
    return str(path)


def test_every_setting_is_tested_and_has_a_reason() -> None:
    """A setting without a reason should not exist."""
    assert set(VALUES) == set(NAMES)
    assert all(len(REASONS[name]) > 20 for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("given", list(itertools.product([False, True], repeat=3)))
def test_flag_over_environment_over_file_over_default(
    name: str, given: tuple[bool, bool, bool], tmp_path: Path
) -> None:
    """For every setting and every combination of places, the strongest wins and is named as the source."""
    in_file, in_environment, in_flags = VALUES[name]
    path = as_file(tmp_path / "s.toml", {name: in_file} if given[0] else {})
    environ = {variable_of(name): str(in_environment)} if given[1] else {}
    flags = {name: in_flags} if given[2] else {}
    loaded = load(flags, environ, path)
    expected, source = getattr(Settings(), name), "default"
    for there, value, where in (
        (given[0], in_file, f"{name} in {path}"),
        (given[1], in_environment, variable_of(name)),
        (given[2], in_flags, flag_of(name)),
    ):
        if there:
            expected, source = value, where
    assert getattr(loaded.settings, name) == expected
    assert loaded.sources[name] == source
    assert all(s == "default" for n, s in loaded.sources.items() if n != name)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("policy", "statik:3", "unknown policy 'statik:3'; valid policies: goodput, off, idle, static:K"),
        ("shadow", "perhaps", "must be true or false, not 'perhaps'"),
        ("length_cap", "65", "must be from 0 to 64, not '65'"),
        ("length_cap", "-1", "must be from 0 to 64"),
        ("plan_time_to_live_ms", "1.5", "must be a whole number"),
        ("plan_time_to_live_ms", "0", "must be from 10 to 60000"),
        ("max_engines", "many", "must be a whole number, not 'many'"),
        ("engine_expiry_seconds", "nan", "must be a finite number"),
        ("log_level", "loud", "must be one of debug, info, warning, error, not 'loud'"),
        ("control_address", "unix:relative", "the socket's path must be absolute"),
        ("control_address", "unix:/" + "x" * 120, "at most 107 bytes"),
        ("control_address", "0.0.0.0:50051", "can be reached from other machines"),
        ("introspection_address", "[::]:50052", "can be reached from other machines"),
        ("operations_address", "127.0.0.1:1", "operations over TCP need a credential"),
        ("metrics_address", "0.0.0.0:50053", "can be reached from other machines"),
        ("metrics_address", "unix:/tmp/m", "Prometheus scrapes over TCP; must be host:port"),
    ],
)
def test_a_bad_value_is_named_with_its_place(name: str, value: str, problem: str, tmp_path: Path) -> None:
    """The message has the flag, variable or file, the value and what is valid."""
    for flags, environ, file, origin in (
        ({name: value}, {}, {}, flag_of(name)),
        ({}, {variable_of(name): value}, {}, variable_of(name)),
        ({}, {}, {name: value}, f"{name} in {tmp_path}"),
    ):
        with pytest.raises(SettingsError) as error:
            load(flags, environ, as_file(tmp_path / "s.toml", file))
        assert str(error.value).startswith(origin)
        assert problem in str(error.value)


def test_unknown_settings_stop_the_start(tmp_path: Path) -> None:
    """In the file or the environment; the valid ones are listed. The adapters' own variables are known."""
    with pytest.raises(SettingsError, match=r"s\.toml: unknown setting 'polcy'; valid: control_address, "):
        load({}, {}, as_file(tmp_path / "s.toml", {"polcy": "idle"}))
    with pytest.raises(SettingsError, match="variable TURBOSPEC_POLCY; valid: TURBOSPEC_CONFIG"):
        load({}, {"TURBOSPEC_POLCY": "idle"})
    load({}, {"TURBOSPEC_ENGINE_ID": "vllm-0", "TURBOSPEC_DISABLE": "1"})


@pytest.mark.parametrize(
    "variable",
    [
        "TURBOSPEC_SERVICE_HOST",
        "TURBOSPEC_SERVICE_PORT_HTTP",
        "TURBOSPEC_PORT",
        "TURBOSPEC_PORT_50052_TCP_ADDR",
        "TURBOSPEC_LOOK_SERVICE_PORT",
        "TURBOSPEC_LOOK_PORT_50052_TCP",
    ],
)
def test_variables_of_kubernetes_are_no_settings(variable: str) -> None:
    """A Service named turbospec puts them into every container beside it; the start must not fail."""
    assert load({}, {variable: "tcp://10.0.0.1:50052"}).settings == Settings()


def test_a_missing_or_broken_file_stops_the_start(tmp_path: Path) -> None:
    """Settings that somebody wrote down are never silently left out."""
    with pytest.raises(SettingsError, match=r"nowhere\.toml: No such file"):
        load({}, {}, str(tmp_path / "nowhere.toml"))
    (tmp_path / "broken.toml").write_text("policy = ")
    with pytest.raises(SettingsError, match=r"broken\.toml: not TOML"):
        load({}, {"TURBOSPEC_CONFIG": str(tmp_path / "broken.toml")})
    for digits, problem in ((400, r"engine_expiry_seconds in .*: int too large"), (5000, "not TOML")):
        (tmp_path / "broken.toml").write_text(f"engine_expiry_seconds = {'9' * digits}")
        with pytest.raises(SettingsError, match=problem):
            load({}, {}, str(tmp_path / "broken.toml"))


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    """`--print-config` writes a settings file with the same effect."""
    loaded = load({"policy": "static:2", "length_cap": 3}, {"TURBOSPEC_SHADOW": "yes"})
    text = as_toml(loaded)
    assert "shadow = true  # TURBOSPEC_SHADOW" in text
    (tmp_path / "printed.toml").write_text(text)
    assert load({}, {}, str(tmp_path / "printed.toml")).settings == loaded.settings


def test_the_command_line_prints_settings_and_refuses_unknown_ones() -> None:
    """`turbospec serve --print-config` exits 0 with TOML; an unknown variable or flag exits 2, named."""
    printed = turbospec("serve", "--print-config", "--policy", "idle", env={"TURBOSPEC_MAX_ENGINES": "7"})
    assert printed.returncode == 0
    assert tomllib.loads(printed.stdout)["policy"] == "idle"
    assert "max_engines = 7  # TURBOSPEC_MAX_ENGINES" in printed.stdout
    unknown = turbospec("serve", env={"TURBOSPEC_MAX_ENGINE": "7"})
    assert unknown.returncode == 2
    assert "unknown environment variable TURBOSPEC_MAX_ENGINE" in unknown.stderr
    assert turbospec("serve", "--max-engine", "7", "--bad").returncode == 2
