"""Arguments and options that several commands share, and the panels under which commands are listed."""

from __future__ import annotations

from typing import Annotated

import typer

DATA = "Data"
HISTORY = "History"
MAINTENANCE = "Maintenance"
TRANSFER = "In and out"

StoreArg = Annotated[str, typer.Argument(metavar="STORE", help="The store: a directory.", show_default=False)]
PathArg = Annotated[
    str, typer.Argument(metavar="PATH", help="An array or a group in it; left out, the root.", show_default=False)
]
IndexOpt = Annotated[
    str | None,
    typer.Option(
        "--index", metavar="URL", envvar="TXSTORE_INDEX", help="The index, where it is not in the store's directory."
    ),
]
AtOpt = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="REF", help="A version, tag, branch, time, or BRANCH@VERSION, BRANCH@TIME. Default: main."
    ),
]
BranchOpt = Annotated[str, typer.Option("--branch", "-b", metavar="NAME", help="The branch.")]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text; errors, too.")]
DryRunOpt = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
ThreadsOpt = Annotated[
    int | None,
    typer.Option("--threads", "-j", min=1, metavar="N", help="Use N threads. Default: chosen by the store."),
]


def example(*lines: str) -> str:
    """The end of a command's help: ``lines``, each a command that works as it stands."""
    # A blank line in the epilog becomes one line break; a bracket would be read as markup.
    return "\n\n".join(["Example:" if len(lines) == 1 else "Examples:", *(line.replace("[", r"\[") for line in lines)])


__all__ = [
    "DATA",
    "HISTORY",
    "MAINTENANCE",
    "TRANSFER",
    "AtOpt",
    "BranchOpt",
    "DryRunOpt",
    "IndexOpt",
    "JsonOpt",
    "PathArg",
    "StoreArg",
    "ThreadsOpt",
    "example",
]
