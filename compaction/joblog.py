"""The daemon's log: one line an event on stderr, as a JSON object or for people."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

from txstore.errors import InvalidInputError

FORMATS = ("text", "json")

#: What needs no quotes in the text form.
_PLAIN = re.compile(r"[^\s\"'=\\]+")


def _now() -> datetime:
    return datetime.now(UTC)


class JobLog:
    """Writes events.

    Parameters
    ----------
    format : {"text", "json"}
        ``"json"``: an object with ``time`` (ISO 8601, UTC), ``level`` (``info``, ``warning``, ``error``), ``event``,
        and the facts of the event. ``"text"``: the same three, then ``name=value``.
    stream : text file, optional
        Where to; stderr by default, whatever that is at the time.
    clock : callable
        Tells the time.

    Raises
    ------
    InvalidInputError
        If there is no such format.

    Notes
    -----
    Safe for threads: lines stay whole. A log that can't be written never stops the work.
    """

    def __init__(
        self, format: str = "text", stream: TextIO | None = None, clock: Callable[[], datetime] = _now
    ) -> None:
        if format not in FORMATS:
            raise InvalidInputError(f"log format {format!r} must be one of {', '.join(map(repr, FORMATS))}")
        self._json = format == "json"
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()

    def info(self, event: str, **facts: Any) -> None:
        """Something was done."""
        self._write("info", event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        """Something was not done, for a reason that is no fault."""
        self._write("warning", event, facts)

    def error(self, event: str, **facts: Any) -> None:
        """Something failed."""
        self._write("error", event, facts)

    def _write(self, level: str, event: str, facts: dict[str, Any]) -> None:
        moment = self._clock().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        facts = {name: value for name, value in facts.items() if value is not None}
        if self._json:
            # ASCII: names out of a store that others wrote can neither end a line nor move a cursor.
            line = json.dumps({"time": moment, "level": level, "event": event, **facts}, default=str)
        else:
            line = " ".join([moment, level, event, *(f"{name}={_text(value)}" for name, value in facts.items())])
        with self._lock:
            try:
                stream = sys.stderr if self._stream is None else self._stream
                stream.write(line + "\n")
                stream.flush()
            except (OSError, ValueError, AttributeError):
                return  # a closed terminal, a full disk, no stderr at all


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if not isinstance(value, str):
        return json.dumps(value, default=str, separators=(",", ":"))
    if _PLAIN.fullmatch(value) and value.isprintable():
        return value
    return json.dumps(value, ensure_ascii=not value.isprintable())


__all__ = ["FORMATS", "JobLog"]
