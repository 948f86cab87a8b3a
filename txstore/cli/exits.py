"""Exit codes, and how an exception becomes one of them and one line, or one JSON object, on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from txstore.errors import (
    AlreadyExistsError,
    CommitUnknownError,
    ConflictError,
    CorruptionError,
    InvalidInputError,
    NotFoundError,
    SnapshotExpiredError,
    TxStoreError,
)


class ExitCode(IntEnum):
    """What a script may rely on. The numbers are documented in docs/cli.md and never change."""

    OK = 0
    FAILED = 1  # any error not listed below; and ``diff --exit-code``: there are differences
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    DAMAGED = 5
    UNKNOWN = 6
    TROUBLE = 128  # what FAILED becomes under ``diff --exit-code``, where 1 means something else
    INTERRUPTED = 130
    PIPE = 141


_CODES: tuple[tuple[type[TxStoreError], ExitCode], ...] = (
    (NotFoundError, ExitCode.NOT_FOUND),
    (SnapshotExpiredError, ExitCode.NOT_FOUND),
    (ConflictError, ExitCode.CONFLICT),
    (AlreadyExistsError, ExitCode.CONFLICT),
    (CorruptionError, ExitCode.DAMAGED),
    (CommitUnknownError, ExitCode.UNKNOWN),
    (InvalidInputError, ExitCode.USAGE),
)


#: Runs of more characters than this are cut in a line for people: a mistyped name, not a path.
_LONGEST_WORD = 200


class Failed(Exception):
    """A command that ends with a code of its own choice; ``__cause__`` says why.

    Attributes
    ----------
    code : ExitCode
        The code.
    """

    def __init__(self, code: ExitCode) -> None:
        self.code = code
        super().__init__(code)


def exit_code(error: BaseException) -> ExitCode:
    """The exit code of a command that ended with ``error``."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return ExitCode.FAILED


def printable(text: str, keep: str = "") -> str:
    """``text`` with control characters escaped, but for those in ``keep``.

    Names, messages and attributes come out of a store that others wrote: printed as they are, they could move the
    cursor, recolour the terminal or forge a line of output.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode("ascii") for char in text
    )


def complain(message: str) -> None:
    """Write ``txstore: message`` to stderr, as one line."""
    line = printable(" ".join(message.split()))
    line = re.sub(rf"\S{{{_LONGEST_WORD + 1},}}", lambda word: f"{word[0][:60]}...{word[0][-20:]}", line)
    # Where nobody can be told, the exit code still says it.
    with contextlib.suppress(OSError):
        print(f"txstore: {line}", file=sys.stderr)


def complain_json(kind: str, message: str, code: int, fields: Mapping[str, Any]) -> None:
    """Write an error to stderr as one JSON object on one line; docs/cli.md describes it."""
    found = {"type": kind, "message": message, "exit_code": int(code), "fields": dict(fields)}
    with contextlib.suppress(OSError):
        print(json.dumps(found, allow_nan=False), file=sys.stderr)


def fields_of(error: BaseException) -> dict[str, Any]:
    """The facts that an error of ours, or of the system, carries beside its message; any values."""
    # A named tuple would else lose its names on the way to JSON.
    found = {
        name: value._asdict() if hasattr(value, "_asdict") else value
        for name, value in vars(error).items()
        if not name.startswith("_")
    }
    if isinstance(error, OSError):
        facts = {"errno": error.errno, "filename": error.filename}
        found |= {name: value for name, value in facts.items() if value is not None}
    return found


def message_of(error: BaseException) -> str:
    """The message of an error of ours, or of the system."""
    if not isinstance(error, OSError) or isinstance(error, TxStoreError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def mute_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain about a broken pipe."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):  # stdout is no real file: nothing will be flushed into a pipe
        return


__all__ = [
    "ExitCode",
    "Failed",
    "complain",
    "complain_json",
    "exit_code",
    "fields_of",
    "message_of",
    "mute_stdout",
    "printable",
]
