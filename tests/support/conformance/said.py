"""What an adapter says while its engine starts."""

from __future__ import annotations

import logging


class Said(logging.Filter):
    """Keeps a logger's warnings. A filter, because an engine that sets up its logs drops others' handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            self.messages.append(record.getMessage())
        return True


SAID = Said()
