"""Every setting of the controller: its name, default and reason, in one place.

A flag wins over the environment (`TURBOSPEC_<NAME>`), which wins over the settings file (TOML, flat), which
wins over the default. Whatever is unknown or bad stops the start and is named.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from turbospec.adapters.address import (
    AddressError,
    default_control_address,
    default_introspection_address,
    default_operations_address,
    parse_address,
)
from turbospec.sidecar.core.errors import PolicyError
from turbospec.sidecar.server.limits import LONGEST_PROPOSAL

ENVIRONMENT_PREFIX = "TURBOSPEC_"
CONFIG_VARIABLE = "TURBOSPEC_CONFIG"
# Read by adapters, not by the controller; both often run in one environment.
ADAPTER_VARIABLES = frozenset({"TURBOSPEC_ENGINE_ID", "TURBOSPEC_DISABLE"})
# Kubernetes sets these in all containers of a namespace that has a Service named turbospec or turbospec-*.
_SERVICE_VARIABLE = re.compile(
    r"TURBOSPEC_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_[A-Z]+(_\w+)?)?)"
)
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("auto", "json", "text")


class SettingsError(ValueError):
    """A setting that is unknown or bad; the message names it, where it was set and what is valid."""


def _setting(default: object, reason: str, **more: object) -> Any:
    """One setting. `more`: `reload` (may change in a running controller), `low`, `high` and `choices`."""
    return field(default=default, metadata={"reason": reason, **more})


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective settings. The metadata of each field says why it exists."""

    control_address: str = _setting(
        default_control_address(),
        "where engines connect; a Unix socket, because its permissions say which processes may steer",
    )
    introspection_address: str = _setting(
        default_introspection_address(),
        "where people, grpcurl and health checks look in; read-only, loopback",
    )
    operations_address: str = _setting(
        default_operations_address(),
        "where mutating calls are taken; a Unix socket that only its owner opens, or TCP with a token",
    )
    operations_token_file: str = _setting(
        "",
        "file with the token that mutating calls must carry; required for operations over TCP",
    )
    metrics_address: str = _setting(
        "",
        "where Prometheus scrapes over HTTP, such as 127.0.0.1:50053; none: no metrics are served",
    )
    allow_plaintext_network: bool = _setting(
        False,
        "listen without encryption beyond this machine; for networks that are private by other means",
    )
    reflection: bool = _setting(
        True,
        "let grpcurl list and describe the services without files",
    )
    policy: str = _setting(
        "goodput",
        "how lengths are chosen: goodput, off, idle, static:K or turbospec-2024",
        reload=True,
    )
    shadow: bool = _setting(
        False,
        "compute and explain plans without applying them, to look before trusting",
        reload=True,
    )
    length_cap: int | None = _setting(
        None,
        "no plan is longer than this, whatever the policy; none: only the engine's own maximum",
        reload=True,
        low=0,
        high=LONGEST_PROPOSAL,
    )
    plan_time_to_live_ms: int = _setting(
        1000,
        "a plan not renewed for so long (or for four steps, if that is longer) is dropped by the engine; "
        "above the longest ordinary step, below the time in which load changes its character",
        low=10,
        high=60_000,
    )
    max_engines: int = _setting(
        64,
        "engines known at once; bounds memory, and one event loop serves so many comfortably",
        low=1,
        high=1024,
    )
    max_requests_per_engine: int = _setting(
        4096,
        "live requests of one engine; several times the largest batch that engines run",
        low=1,
        high=65_536,
    )
    max_message_bytes: int = _setting(
        4 * 1024 * 1024,
        "largest message taken; a hello with 4096 live requests has about 1.5 MiB",
        low=1024,
        high=64 * 1024 * 1024,
    )
    engine_expiry_seconds: float = _setting(
        600.0,
        "how long an engine that left is remembered; longer than a restart with loading a large model",
        low=0.1,
        high=7 * 86_400.0,
    )
    shutdown_grace_seconds: float = _setting(
        5.0,
        "how long a stop waits for streams to end; below the 10 s after which containers are killed",
        low=0.0,
        high=300.0,
    )
    profiles_directory: str = _setting(
        "",
        "directory, best a volume, where measured latency profiles are kept; none: they are not kept",
    )
    ready_file: str = _setting(
        "",
        "file to which the bound addresses are written as JSON once all listeners serve",
    )
    log_level: str = _setting("info", "least severe event that is logged", choices=LOG_LEVELS)
    log_format: str = _setting(
        "auto",
        "auto: text on a terminal, else JSON, one event per line",
        choices=LOG_FORMATS,
    )

    def changed_from(self, other: Settings) -> dict[str, object]:
        """Settings whose value differs from `other`'s, with the value here."""
        return {n: getattr(self, n) for n in NAMES if getattr(self, n) != getattr(other, n)}


NAMES = tuple(f.name for f in fields(Settings))
REASONS: Mapping[str, str] = {f.name: f.metadata["reason"] for f in fields(Settings)}
RELOADABLE = frozenset(f.name for f in fields(Settings) if f.metadata.get("reload"))
_FIELDS = {f.name: f for f in fields(Settings)}


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each came from: "default", the file's path, a variable's or a flag's name."""

    settings: Settings
    sources: Mapping[str, str]


def flag_of(name: str) -> str:
    """The command line's spelling of a setting."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """The environment's spelling of a setting."""
    return ENVIRONMENT_PREFIX + name.upper()


def load(flags: Mapping[str, object], environ: Mapping[str, str], config: str | None = None) -> Loaded:
    """Reads the settings.

    `flags` has only what the command line gave, `config` is the file's path (None: `TURBOSPEC_CONFIG`, if
    set). Raises `SettingsError`.
    """
    path = config or environ.get(CONFIG_VARIABLE) or None
    values: dict[str, object] = {}
    sources = dict.fromkeys(NAMES, "default")
    layers = [(path, _from_file(Path(path)))] if path else []
    for source, found in layers:
        _take(values, sources, found, {n: f"{n} in {source}" for n in found})
    found = _from_environment(environ)
    _take(values, sources, found, {n: variable_of(n) for n in found})
    _take(values, sources, flags, {n: flag_of(n) for n in flags})
    settings = replace(Settings(), **values)  # type: ignore[arg-type]
    _check_together(settings, sources)
    return Loaded(settings, sources)


def _take(
    values: dict[str, object], sources: dict[str, str], found: Mapping[str, object], origin: Mapping[str, str]
) -> None:
    for name, raw in found.items():
        values[name] = _parsed(name, raw, origin[name])
        sources[name] = origin[name]


def _from_file(path: Path) -> dict[str, object]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"settings file {path}: {error.strerror}") from error
    except ValueError as error:  # not UTF-8, not TOML, or a number too long to read
        raise SettingsError(f"settings file {path}: not TOML: {error}") from error
    for name in found:
        if name not in _FIELDS:
            raise SettingsError(f"settings file {path}: unknown setting {name!r}; valid: {', '.join(NAMES)}")
    return found


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for variable in sorted(environ):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in {CONFIG_VARIABLE, *ADAPTER_VARIABLES}:
            continue
        if _SERVICE_VARIABLE.fullmatch(variable):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name not in _FIELDS or variable != variable_of(name):
            valid = ", ".join([CONFIG_VARIABLE, *map(variable_of, NAMES)])
            raise SettingsError(f"unknown environment variable {variable}; valid: {valid}")
        found[name] = environ[variable]
    return found


def _parsed(name: str, raw: object, origin: str) -> object:
    """The value of one setting. Text (of a flag or a variable) and TOML's own types are both taken."""
    kind = str(_FIELDS[name].type)
    metadata = _FIELDS[name].metadata
    try:
        value = _PARSERS[kind](raw)
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"{origin}: {error}, not {raw!r}") from None
    low, high = metadata.get("low", -math.inf), metadata.get("high", math.inf)
    if isinstance(value, (int, float)) and not low <= value <= high:
        raise SettingsError(f"{origin}: must be from {low} to {high}, not {raw!r}")
    if (choices := metadata.get("choices")) and value not in choices:
        raise SettingsError(f"{origin}: must be one of {', '.join(choices)}, not {raw!r}")
    return value


def _boolean(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in {"true", "1", "yes", "on"}:
        return True
    if isinstance(raw, str) and raw.lower() in {"false", "0", "no", "off"}:
        return False
    raise ValueError("must be true or false")


def _integer(raw: object) -> int:
    if isinstance(raw, str):
        try:
            return int(raw)
        except ValueError:
            raise ValueError("must be a whole number") from None
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise ValueError("must be a whole number")
    return raw


def _optional_integer(raw: object) -> int | None:
    return None if isinstance(raw, str) and raw.lower() in {"", "none"} else _integer(raw)


def _number(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
        raise ValueError("must be a number")
    try:
        value = float(raw)
    except ValueError:
        raise ValueError("must be a number") from None
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError("must be text")
    return raw


_PARSERS = {
    "bool": _boolean,
    "int": _integer,
    "int | None": _optional_integer,
    "float": _number,
    "str": _text,
}


def _check_together(settings: Settings, sources: Mapping[str, str]) -> None:
    """What one value alone cannot tell."""
    # Not at the top: it needs numpy, and every verb of the command line shows these settings' help.
    from turbospec.sidecar.core.policies import parse_policy

    try:
        parse_policy(settings.policy)
    except PolicyError as error:
        raise SettingsError(f"{_where('policy', sources)}: {error}") from error
    for name in ("control_address", "introspection_address", "operations_address", "metrics_address"):
        if name == "metrics_address" and not settings.metrics_address:
            continue
        try:
            address = parse_address(getattr(settings, name))
        except AddressError as error:
            raise SettingsError(f"{_where(name, sources)}: {error}") from error
        if not address.is_local and not settings.allow_plaintext_network:
            raise SettingsError(
                f"{_where(name, sources)}: {getattr(settings, name)} can be reached from other machines, and "
                "nothing is encrypted; use a Unix socket or a loopback address, or allow it with "
                f"{flag_of('allow_plaintext_network')}"
            )
        if name == "operations_address" and not address.is_unix and not settings.operations_token_file:
            raise SettingsError(
                f"{_where(name, sources)}: operations over TCP need a credential; set "
                f"{flag_of('operations_token_file')} or use a Unix socket"
            )
        if name == "metrics_address" and address.is_unix:
            raise SettingsError(f"{_where(name, sources)}: Prometheus scrapes over TCP; must be host:port")


def _where(name: str, sources: Mapping[str, str]) -> str:
    return f"{name} (default)" if sources[name] == "default" else sources[name]


def describe(defaults: Settings) -> list[tuple[str, str, bool]]:
    """For a command line's help: of each setting its name, what it is for, and whether it is a switch."""
    told = []
    for name in NAMES:
        value = getattr(defaults, name)
        shown = {None: "none", "": "none", True: "on", False: "off"}.get(value, value)
        reload = ", reloads" if name in RELOADABLE else ""
        told.append((name, f"{REASONS[name]} (default: {shown}{reload})", isinstance(value, bool)))
    return told


def as_toml(loaded: Loaded) -> str:
    """The effective settings as a settings file, each with its source as a comment."""
    lines = []
    for name in NAMES:
        value = getattr(loaded.settings, name)
        # JSON's strings, numbers and booleans are TOML's, but TOML has no null.
        line = f"# {name} is not set" if value is None else f"{name} = {json.dumps(value)}"
        lines.append(f"{line}  # {loaded.sources[name]}")
    return "\n".join(lines)
