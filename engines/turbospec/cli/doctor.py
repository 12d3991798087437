"""`turbospec doctor`: whether all that a controlled engine needs is in place, and what to do if not."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import socket
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_DESCRIPTION = """\
Checks this environment: versions, the engine's hooks, and the way to the controller. Prints one line per
check. The exit status is 1 if one of them failed; warnings do not count.
"""

OK, WARN, FAIL = "ok", "warn", "FAIL"
# A busy machine may hold a controller up for as long; one that is gone refuses at once.
_CONNECT_SECONDS = 15.0
# What each extra brings that the base does not, by the names they are imported with.
_EXTRAS = {
    "sidecar": ("grpc_health", "grpc_reflection", "numpy", "scipy", "structlog"),
    "demo": ("aiohttp", "rich"),
}
_NEEDED_FOR = {"sidecar": "turbospec serve", "demo": "turbospec demo"}


@dataclass(frozen=True, slots=True)
class Check:
    """One result. `advice` says what to do; empty where all is well."""

    level: str
    subject: str
    finding: str
    advice: str = ""


def add_parser(subparsers: Any) -> None:
    """Adds the verb."""
    parser = subparsers.add_parser(
        "doctor",
        help="find out what is wrong and what to do",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--engine",
        choices=["vllm", "sglang"],
        help="also fail if this engine is missing here (default: only look)",
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Prints every check; 1 where one failed."""
    failed = False
    for check in _checks(args.engine):
        failed = failed or check.level == FAIL
        print(f"{check.level:<5} {check.subject}: {check.finding}", flush=True)
        if check.advice:
            print(f"      -> {check.advice}", flush=True)
    return int(failed)


def _checks(engine: str | None) -> Iterator[Check]:
    yield from _versions()
    yield from _extras()
    yield from _disabled()
    yield from _vllm(required=engine == "vllm")
    yield from _sglang(required=engine == "sglang")
    yield from _control()


def _versions() -> Iterator[Check]:
    from turbospec.adapters.version import __version__

    python = ".".join(map(str, sys.version_info[:3]))
    yield Check(OK, "turbospec", f"{__version__} on Python {python}")
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("grpcio", "protobuf"))
    try:
        importlib.import_module("turbospec.v1.speculation_pb2_grpc")
    except Exception as error:  # noqa: BLE001 - generated code refuses an old runtime with errors of many kinds
        advice = "pip install --upgrade 'grpcio>=1.71.2' 'protobuf>=5.29.6'"
        yield Check(FAIL, "protocol", f"its generated code does not load with {found}: {error}", advice)
    else:
        yield Check(OK, "protocol", f"loads with {found}")


def _extras() -> Iterator[Check]:
    for extra, modules in _EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            advice = f"only needed for `{_NEEDED_FOR[extra]}`: pip install 'turbospec[{extra}]'"
            yield Check(WARN, f"extra {extra}", f"not installed here ({', '.join(missing)} missing)", advice)
        else:
            yield Check(OK, f"extra {extra}", "installed")


def _disabled() -> Iterator[Check]:
    from turbospec.adapters.support import DISABLE_VARIABLE

    if os.environ.get(DISABLE_VARIABLE):
        advice = f"unset {DISABLE_VARIABLE} to let engines started from here be controlled"
        yield Check(WARN, "engines", f"{DISABLE_VARIABLE}={os.environ[DISABLE_VARIABLE]}", advice)


def _vllm(*, required: bool) -> Iterator[Check]:
    from turbospec.adapters.versions import VLLM
    from turbospec.adapters.vllm import compat

    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # its own start-up lines are no part of the answer
    for check in _engine("vllm", compat, VLLM, required=required):
        yield check
        if check.subject == "vllm" and check.level == OK:
            yield from _cpu_fault()


def _sglang(*, required: bool) -> Iterator[Check]:
    from turbospec.adapters.sglang import compat
    from turbospec.adapters.versions import SGLANG

    yield from _engine("sglang", compat, SGLANG, required=required)
    if importlib.util.find_spec("sglang") is not None:
        yield _entry_point()


def _engine(name: str, compat: Any, tested: Any, *, required: bool) -> Iterator[Check]:
    """What an engine's adapter says of the one installed here; `compat` is its module for that,
    `tested` the versions that the tests ran with."""
    if importlib.util.find_spec(name) is None:
        advice = "run this in the engine's environment, or install it there"
        yield Check(FAIL if required else WARN, name, "not installed here", advice)
        return
    try:
        version, missing = compat.engine_version(), compat.missing_hooks()
    except Exception as error:  # noqa: BLE001 - a broken installation fails to import in ways of its own
        advice = "the engine would not start either; repair its installation"
        yield Check(FAIL, name, f"cannot be imported: {type(error).__name__}: {error}", advice)
        return
    if tested.covers(version):
        yield Check(OK, name, f"{version}, a tested version")
    else:
        advice = f"tested: {tested}; others are controlled too where all hooks are there"
        yield Check(WARN, name, f"{version} is not a tested version", advice)
    if missing:
        advice = (
            f"the adapter would refuse and leave the engine uncontrolled; use a tested version ({tested})"
        )
        yield Check(FAIL, f"{name} hooks", "; ".join(missing), advice)
    else:
        yield Check(OK, f"{name} hooks", "all there")


def _entry_point() -> Check:
    """SGLang finds the adapter by it, and by nothing else."""
    from turbospec.engines.sglang import PLUGIN, PLUGINS_VARIABLE

    allowed = os.environ.get(PLUGINS_VARIABLE)
    found = any(each.name == PLUGIN for each in importlib.metadata.entry_points(group="sglang.srt.plugins"))
    if not found:
        advice = "install turbospec's wheel beside SGLang; a folder on PYTHONPATH has no entry points"
        return Check(FAIL, "sglang plug-in", "its entry point is not there", advice)
    if allowed and PLUGIN not in [name.strip() for name in allowed.split(",")]:
        advice = f"add {PLUGIN} to it; `turbospec engine sglang` does so by itself"
        return Check(WARN, "sglang plug-in", f"{PLUGINS_VARIABLE}={allowed} leaves it out", advice)
    return Check(OK, "sglang plug-in", "SGLang will find it")


def _cpu_fault() -> Iterator[Check]:
    """A fault of the tested vLLM that falsifies answers, whether it is controlled or not."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        finding = (
            "on CPUs this vLLM loses temperatures, top_k and top_p as soon as one request in a batch with "
            "speculation samples, with or without TurboSpec, and then answers wrongly"
        )
        advice = "on CPUs send greedy requests only, or serve without speculation"
        yield Check(WARN, "vllm on CPUs", finding, advice)


def _control() -> Iterator[Check]:
    from turbospec.adapters.address import (
        CONTROL_ADDRESS_VARIABLE,
        AddressError,
        control_address,
        parse_address,
    )

    text = control_address()
    try:
        address = parse_address(text)
    except AddressError as error:
        yield Check(FAIL, "control address", str(error), f"correct {CONTROL_ADDRESS_VARIABLE}")
        return
    origin = CONTROL_ADDRESS_VARIABLE if os.environ.get(CONTROL_ADDRESS_VARIABLE) else "the default"
    yield Check(OK, "control address", f"{address.target} ({origin})")
    if address.path is not None:
        socket_check = _socket_file(address.path)
        yield socket_check
        if socket_check.level == FAIL:
            return
    yield _answers(address.target)


def _socket_file(path: str) -> Check:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        advice = "start the controller (`turbospec serve`) as the same user, or set the same control address"
        return Check(FAIL, "control socket", f"{path} does not exist", advice)
    except OSError as error:
        advice = "let this user enter the folder that holds the socket"
        return Check(FAIL, "control socket", f"{path}: {error.strerror}", advice)
    if not stat.S_ISSOCK(mode):
        advice = "something else lies there: remove it or choose another control address"
        return Check(FAIL, "control socket", f"{path} is not a socket", advice)
    if not os.access(path, os.R_OK | os.W_OK):
        advice = f"add uid {os.getuid()} to the socket's group, or run engine and controller as one user"
        return Check(FAIL, "control socket", f"{path} may not be opened by this user", advice)
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_SECONDS)
        try:
            probe.connect(path)
        except OSError as error:
            advice = "the controller that made it is gone: start it again"
            return Check(FAIL, "control socket", f"{path}: {error}", advice)
    return Check(OK, "control socket", f"{path} can be opened ({stat.filemode(mode)})")


def _answers(target: str) -> Check:
    """Says hello with an impossible protocol version: a controller refuses it and so names its own.

    No engine is registered by that, and a live one with any id is not disturbed.
    """
    import grpc
    from turbospec.v1 import speculation_pb2, speculation_pb2_grpc

    hello = speculation_pb2.ControlRequest(hello=speculation_pb2.Hello(protocol_version=0))
    with grpc.insecure_channel(target) as channel:
        stub = speculation_pb2_grpc.SpeculationServiceStub(channel)
        try:
            list(stub.Control(iter([hello]), timeout=_CONNECT_SECONDS))
        except grpc.RpcError as error:
            return _verdict(error)
    return Check(
        FAIL,
        "controller",
        "accepts a protocol version that does not exist",
        "it is not a TurboSpec controller",
    )


def _verdict(error: Any) -> Check:
    import grpc
    from turbospec.adapters.client import PROTOCOL_VERSION

    code, details = error.code(), error.details()
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        if f"speaks {PROTOCOL_VERSION}," in details:
            return Check(OK, "controller", f"answers and speaks protocol version {PROTOCOL_VERSION}")
        advice = f"this adapter speaks version {PROTOCOL_VERSION}: use one release of turbospec for both"
        return Check(FAIL, "controller", details, advice)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        advice = "it is stopped or overloaded; engines use their own length meanwhile"
        return Check(FAIL, "controller", f"no answer within {_CONNECT_SECONDS:g} s", advice)
    advice = "check that `turbospec serve` runs at this address; engines use their own length meanwhile"
    return Check(FAIL, "controller", f"{code.name}: {details}", advice)
