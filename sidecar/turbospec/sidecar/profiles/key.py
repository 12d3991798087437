"""What determines a profile: engines with equal keys take equally long for equal steps."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # numpy comes with the core's types
    from turbospec.sidecar.core.types import Capabilities
    from turbospec.sidecar.server.identity import Identity

ID = re.compile(r"[0-9a-f]{16}")  # 64 bits: no two of a store's few hundred keys share them by chance
_SLUG_PART_CHARACTERS = 32  # four parts, the id and the suffix stay below the 255 bytes of a file's name


@dataclass(frozen=True, slots=True)
class ProfileKey:
    """Everything that an engine's step time depends on, besides the step itself.

    The fields are those of the protocol's Hello. `graph_sizes` is ascending. Adding or removing a field
    changes every digest, so it needs a new schema version.
    """

    hardware: str
    engine_name: str
    engine_version: str
    model: str
    draft_model: str
    method: str
    dtype: str
    model_parallel_size: int
    max_length: int
    graph_sizes: tuple[int, ...]
    ragged_breaks_graphs: bool
    deep_off: bool
    proposal_saves_draft_cost: bool

    @property
    def profile_id(self) -> str:
        """16 hexadecimal digits: the start of the SHA-256 of the key's canonical JSON."""
        return hashlib.sha256(canonical(asdict(self))).hexdigest()[:16]

    @property
    def slug(self) -> str:
        """What a near match must share, readable: hardware, engine, model (its last part) and method.

        Equal fields give equal slugs; the reverse need not hold.
        """
        model = self.model.rstrip("/").rpartition("/")[2]
        return "_".join(_readable(part) for part in (self.hardware, self.engine_name, model, self.method))


KEY_FIELDS = tuple(f.name for f in fields(ProfileKey))


def key_of(identity: Identity, capabilities: Capabilities) -> ProfileKey:
    """The key of an engine by what it says of itself."""
    return ProfileKey(
        hardware=identity.hardware,
        engine_name=identity.engine_name,
        engine_version=identity.engine_version,
        model=identity.model,
        draft_model=identity.draft_model,
        method=identity.method,
        dtype=identity.dtype,
        model_parallel_size=identity.model_parallel_size,
        max_length=capabilities.max_length,
        graph_sizes=capabilities.graph_sizes,
        ragged_breaks_graphs=capabilities.ragged_breaks_graphs,
        deep_off=capabilities.deep_off,
        proposal_saves_draft_cost=capabilities.proposal_saves_draft_cost,
    )


def differing(one: ProfileKey, other: ProfileKey) -> tuple[str, ...]:
    """Names of the fields in which two keys differ, in the key's order."""
    return tuple(name for name in KEY_FIELDS if getattr(one, name) != getattr(other, name))


def canonical(value: object) -> bytes:
    """The one JSON text of a value, for digests. Raises ValueError for a number that is not finite."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")


def _readable(text: str) -> str:
    plain = re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")
    return plain[:_SLUG_PART_CHARACTERS] or "none"
