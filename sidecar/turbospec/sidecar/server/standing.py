"""Whether an engine runs under this controller's plans, and if not, why, in a sentence for its operator."""

from __future__ import annotations

from collections.abc import Mapping

from turbospec.sidecar.server.engine import Engine

_FALLBACKS: Mapping[str, str] = {
    "FALLBACK_REASON_DISCONNECTED": "its adapter had no connection",
    "FALLBACK_REASON_NO_PLAN": "no plan had come yet",
    "FALLBACK_REASON_EXPIRED": "the newest plan had outlived its time to live",
    "FALLBACK_REASON_INVALID_PLAN": "the plan could not be read or was outside the capabilities",
    "FALLBACK_REASON_WRONG_EPOCH": "the plan was one of an earlier connection",
    "FALLBACK_REASON_SHADOW": "the plan was a shadow plan",
}


def uncontrolled_reason(engine: Engine, now: float) -> str | None:
    """None where the newest reported step ran under a plan that was to be applied. `now`: engine's clock."""
    if engine.fault is not None:
        return f"its controller failed ({engine.fault}) and starts again when the engine reconnects"
    connection = engine.connection
    if connection is None:
        return f"disconnected for {now - engine.left_at:.0f} s"
    if engine.directives.shadow:
        return "shadow: plans are computed and explained, not applied"
    if connection.newest is None:
        return "connected, but no step has been reported yet"
    if connection.newest.plan_version == 0:
        known = _FALLBACKS.get(engine.last_fallback or "")
        return "the newest step ran on the engine's own length" + (f": {known}" if known else "")
    return None
