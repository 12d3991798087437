"""Policies by specification: `goodput`, `off`, `idle`, `static:K`, `turbospec-2024`, `random:SEED`."""

from __future__ import annotations

from turbospec.sidecar.core.errors import PolicyError
from turbospec.sidecar.core.policies.base import Lengths, Policy, View
from turbospec.sidecar.core.policies.fixed import FixedPolicy
from turbospec.sidecar.core.policies.goodput import GoodputPolicy
from turbospec.sidecar.core.policies.random_lengths import RandomLengthsPolicy
from turbospec.sidecar.core.policies.turbospec2024 import TurboSpec2024Policy

__all__ = ["Lengths", "Policy", "View", "parse_policy"]

MOST_DIGITS = 18  # of a seed; what is far longer cannot even be converted
VALID = "goodput, off, idle, static:K (K a length), turbospec-2024, random:SEED (for tests)"


def parse_policy(spec: str, max_length: int | None = None) -> Policy:
    """Makes the policy that `spec` names.

    Raises PolicyError where there is none, or where its length exceeds `max_length` (None: unknown yet).
    """
    name, colon, argument = spec.partition(":")
    if colon and name in ("static", "random"):
        if not (argument.isascii() and argument.isdigit() and len(argument) <= MOST_DIGITS):
            raise PolicyError(
                f"policy {spec[:80]!r}: needs a whole number of at most {MOST_DIGITS} digits; "
                f"valid policies: {VALID}"
            )
        number = int(argument)
        if name == "random":
            return RandomLengthsPolicy(number, spec)
        if max_length is not None and number > max_length:
            raise PolicyError(f"policy {spec!r}: length {number} is above the engine's maximum, {max_length}")
        return FixedPolicy(number, spec)
    if spec in ("idle", "off"):
        return FixedPolicy(0, spec, skip_drafter=spec == "off")
    if spec == "goodput":
        return GoodputPolicy()
    if spec == "turbospec-2024":
        return TurboSpec2024Policy()
    raise PolicyError(f"unknown policy {spec[:80]!r}; valid policies: {VALID}")
