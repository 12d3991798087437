from __future__ import annotations

import pytest
from turbospec.adapters import address
from turbospec.adapters.address import AddressError, parse_address


@pytest.mark.parametrize(
    ("text", "target", "local"),
    [
        ("unix:/run/turbospec/control.sock", "unix:/run/turbospec/control.sock", True),
        ("unix:///run/turbospec/control.sock", "unix:/run/turbospec/control.sock", True),
        ("127.0.0.1:50052", "127.0.0.1:50052", True),
        ("localhost:1", "localhost:1", True),
        ("[::1]:50052", "[::1]:50052", True),
        ("0.0.0.0:50052", "0.0.0.0:50052", False),
        ("10.1.2.3:50052", "10.1.2.3:50052", False),
        ("turbospec.svc.cluster.local:50052", "turbospec.svc.cluster.local:50052", False),
    ],
)
def test_valid_addresses_become_grpc_targets(text: str, target: str, local: bool) -> None:
    """Every form of the documentation is accepted, and it is known which of them leave the machine."""
    parsed = parse_address(text)
    assert (parsed.target, parsed.is_local) == (target, local)


@pytest.mark.parametrize(
    "text",
    ["", "unix:", "unix:relative.sock", "/run/x.sock", "host", "host:", ":50052", "host:99999", "http://h:1",
     "unix:/" + "x" * 107],
)  # fmt: skip
def test_invalid_addresses_are_errors_that_quote_them(text: str) -> None:
    """A mistyped address is found at the start, and the error shows it."""
    with pytest.raises(AddressError, match="address ''" if not text else "address '"):
        parse_address(text)


def test_defaults_follow_the_runtime_directory() -> None:
    """Without settings, engine and controller of one user meet at the same socket."""
    environ = {"XDG_RUNTIME_DIR": "/run/user/7"}
    assert address.default_control_address(environ) == "unix:/run/user/7/turbospec/control.sock"
    assert address.default_operations_address(environ) == "unix:/run/user/7/turbospec/operations.sock"
    assert address.control_address(environ) == address.default_control_address(environ)
    assert address.control_address({**environ, "TURBOSPEC_CONTROL_ADDRESS": "h:1"}) == "h:1"
    assert address.introspection_address({}) == "127.0.0.1:50052"
