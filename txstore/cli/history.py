"""``log`` and ``diff``: what happened to a store."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated

import typer

from txstore.cli.exits import ExitCode, Failed, exit_code
from txstore.cli.options import HISTORY, AtOpt, IndexOpt, JsonOpt, PathArg, StoreArg, example
from txstore.errors import NotFoundError, TxStoreError

if TYPE_CHECKING:
    from txstore.commits import Commit
    from txstore.compaction.diff import Diff
    from txstore.snapshot import Snapshot
    from txstore.store import Store


def log(
    root: StoreArg,
    path: PathArg = "",
    at: AtOpt = None,
    limit: Annotated[int | None, typer.Option("-n", "--limit", min=0, metavar="N", help="The newest N only.")] = None,
    oneline: Annotated[bool, typer.Option("--oneline", help="A line for each commit.")] = False,
    index: IndexOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """List commits, newest first: of main, or of what REF names and before."""
    from txstore.cli import access, output, refs

    with access.opened(root, "r", index) as store:
        snap = refs.parse(store, at).snapshot(store)
        commits = islice(_commits(store, snap, access.node_path(path), at), limit)
        if as_json:
            output.emit_json(list(commits))
            return
        for number, commit in enumerate(commits):
            if oneline:
                title = (commit.message or "").partition("\n")[0]
                output.say(f"{commit.version} {output.timestamp(commit.committed_at)} {title}".rstrip())
                continue
            if number:
                output.say()
            _print_commit(commit)


def _commits(store: Store, snap: Snapshot, path: str, at: str | None) -> Iterator[Commit]:
    # What came later on the same branch is not the history of an older version.
    newest = next((one for one in store.log(branch=snap.branch) if one.version <= snap.version), None)
    if newest is not None and newest.version != snap.version:
        raise NotFoundError(f"the branch {snap.branch!r} has been replaced: its log no longer leads to {at}")
    found = (one for one in store.log(branch=snap.branch, path=path or None) if one.version <= snap.version)
    first = next(found, None)
    # What lies below a group that was moved is there without a commit that names it.
    if first is None and path and path not in snap:
        raise NotFoundError(f"there is no {path!r} at version {snap.version}, nor was there any before")
    return iter(()) if first is None else chain((first,), found)


def _print_commit(commit: Commit) -> None:
    from txstore.cli import output

    output.say(f"version {commit.version}", style="yellow")
    facts = {
        "date": commit.committed_at,
        "branch": commit.branch,
        "author": commit.author,
        "paths": ", ".join(path or "/" for path in commit.paths) or None,
        "properties": dict(commit.properties) if commit.properties else None,
    }
    output.record(facts)
    if commit.message:
        output.say("\n" + "\n".join(f"    {line}" for line in commit.message.split("\n")))


def diff(
    root: StoreArg,
    a: Annotated[str, typer.Argument(metavar="A", help="The older state: a REF, as for --at.", show_default=False)],
    b: Annotated[
        str | None, typer.Argument(metavar="B", help="The newer state. Default: the head of main.", show_default=False)
    ] = None,
    path: Annotated[str, typer.Option("--path", metavar="PATH", help="Below this array or group only.")] = "",
    status: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 when there are differences, 0 when none.")
    ] = False,
    index: IndexOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Show what was written, added, removed, moved and resized between two states."""
    from txstore.cli import access, output, refs

    try:
        with access.opened(root, "r", index) as store:
            old, new = (refs.parse(store, text).snapshot(store) for text in (a, b))
            found = store.diff(old, new, path=access.node_path(path))
    except (TxStoreError, OSError) as error:
        # 1 says that there are differences.
        if status and exit_code(error) == ExitCode.FAILED:
            raise Failed(ExitCode.TROUBLE) from error
        raise
    if as_json:
        output.emit_json(found)
    else:
        for line, style in _lines(found):
            output.say(line, style=style)
    if status and found:
        raise typer.Exit(ExitCode.FAILED)


def _lines(found: Diff) -> Iterator[tuple[str, str]]:
    for path in found.added:
        yield f"+ {path}", "green"
    for path in found.removed:
        yield f"- {path}", "red"
    for source, target in found.moved:
        yield f"> {source} -> {target}", "cyan"
    for path, (before, after) in found.resized.items():
        yield f"~ {path} shape {before} -> {after}", "yellow"
    for path, keys in found.attrs.items():
        yield f"~ {path or '/'} attributes {', '.join(keys)}", "yellow"
    for path, boxes in found.boxes.items():
        for box in boxes:
            yield f"~ {path} {box}", ""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        "log", rich_help_panel=HISTORY, epilog=example("txstore log survey -n 5", "txstore log survey dem --oneline")
    )(log)
    app.command(
        "diff",
        rich_help_panel=HISTORY,
        epilog=example("txstore diff survey 3 7", "txstore diff survey v1 --path dem --exit-code"),
    )(diff)


__all__ = ["diff", "log", "register"]
