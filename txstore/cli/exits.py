"""Exit codes, and how an exception becomes one of them and one line on stderr."""

from __future__ import annotations

import os
import sys
from enum import IntEnum

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
    print(f"txstore: {line}", file=sys.stderr)


def mute_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain about a broken pipe."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):  # stdout is no real file: nothing will be flushed into a pipe
        return


__all__ = ["ExitCode", "complain", "exit_code", "mute_stdout", "printable"]
