"""What a caller asks for with its request.

It comes with vLLM's `vllm_xargs` (`SamplingParams.extra_args`) or SGLang's `custom_params`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from turbospec.adapters.support import MAX_LENGTH

MAX_DRAFT = "turbospec_max_draft"
LABEL = "turbospec_label"
MAX_LABEL_BYTES = 64  # the protocol's limit of RequestOpened.label


@dataclass(frozen=True, slots=True)
class Intent:
    """`max_draft`: most draft tokens per step, 0 for none, None for no cap. `label`: traffic class."""

    max_draft: int | None = None
    label: str = ""


NO_INTENT = Intent()


def read_intent(extra_args: dict[str, Any] | None) -> tuple[Intent, list[str]]:
    """The intent in a request's extra arguments, and what is wrong with them.

    A bad value is left out and not the end of the request: speculation changes when tokens come, never
    which. The second value has one message per bad field, naming the field and the limit.
    """
    if not extra_args or not (MAX_DRAFT in extra_args or LABEL in extra_args):
        return NO_INTENT, []
    complaints = []
    max_draft = extra_args.get(MAX_DRAFT)
    # JSON's 4.0 is as good as 4; true is not a number, whatever Python thinks.
    if isinstance(max_draft, float) and max_draft.is_integer():
        max_draft = int(max_draft)
    if max_draft is not None:
        if type(max_draft) is int and max_draft >= 0:
            max_draft = min(max_draft, MAX_LENGTH)
        else:
            complaints.append(f"{MAX_DRAFT} must be an integer of at least 0, not {_excerpt(max_draft)}")
            max_draft = None
    label = extra_args.get(LABEL, "")
    if not _is_label(label):
        complaints.append(
            f"{LABEL} must be printable text of at most {MAX_LABEL_BYTES} bytes, not {_excerpt(label)}"
        )
        label = ""
    return Intent(max_draft, label), complaints


def _is_label(value: Any) -> bool:
    # isprintable also keeps out lone surrogates, which JSON can carry and UTF-8 cannot.
    return isinstance(value, str) and value.isprintable() and len(value.encode()) <= MAX_LABEL_BYTES


def _excerpt(value: Any) -> str:
    return f"{value!r:.100}"
