"""The command line: ``txstore COMMAND STORE ...``. docs/cli.md describes every command.

Nothing here is needed by the library. The modules import typer when they load and everything heavier (rich, NumPy,
the store itself, matplotlib) inside the functions that use it, so that ``txstore --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    args : sequence of str, optional
        The arguments without the program's name; ``sys.argv[1:]`` when left out.

    Returns
    -------
    int
        See :class:`txstore.cli.exits.ExitCode`.
    """
    _prepare_streams()
    try:
        from txstore.cli.app import app

        app(args=args, prog_name="txstore")
    except KeyboardInterrupt:  # while modules load; later ones end in the app
        print("txstore: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _prepare_streams() -> None:
    # A stream that the shell has closed (>&-) is None, and its number would go to the next file that is opened.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
    # A name that the encoding of the terminal lacks is shown escaped, as on stderr.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


__all__ = ["main"]
