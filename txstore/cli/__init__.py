"""The command line: ``txstore COMMAND STORE ...``. docs/cli.md describes every command.

Nothing here is needed by the library. The modules import typer when they load and everything heavier (rich, NumPy,
the store itself, matplotlib) inside the functions that use it, so that ``txstore --help`` answers at once.
"""

from __future__ import annotations

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
    from txstore.cli.app import app

    try:
        app(args=args, prog_name="txstore")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


__all__ = ["main"]
