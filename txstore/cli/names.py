"""``tag`` and ``branch``: names for versions, used as in git."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from txstore.cli.options import HISTORY, IndexOpt, JsonOpt, StoreArg, example
from txstore.errors import InvalidInputError

if TYPE_CHECKING:
    from txstore.store import Store

NameArg = Annotated[
    str | None, typer.Argument(metavar="NAME", help="The name; left out, all are listed.", show_default=False)
]
RefArg = Annotated[
    str | None, typer.Argument(metavar="REF", help="What to name. Default: the head of main.", show_default=False)
]
DeleteOpt = Annotated[bool, typer.Option("--delete", "-d", help="Delete NAME.")]


def tag(
    root: StoreArg,
    name: NameArg = None,
    ref: RefArg = None,
    delete: DeleteOpt = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Move NAME if it exists.")] = False,
    index: IndexOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """List tags, or create, move (-f) or delete (-d) one."""
    from txstore.cli import access

    _check(name, ref, delete, force)
    with access.opened(root, "r" if name is None else "r+", index) as store:
        if name is None:
            _list(store.tags(), as_json)
        elif delete:
            store.delete_tag(name)
            _deleted("tag", name, as_json)
        else:
            store.create_tag(name, _version(store, ref), move=force)
            _created("tag", name, store.tags()[name], as_json)


def branch(
    root: StoreArg,
    name: NameArg = None,
    ref: RefArg = None,
    delete: DeleteOpt = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace NAME if it exists.")] = False,
    index: IndexOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """List branches, or create, replace (-f) or delete (-d) one."""
    from txstore.cli import access

    _check(name, ref, delete, force)
    with access.opened(root, "r" if name is None else "r+", index) as store:
        if name is None:
            _list(store.branches(), as_json)
        elif delete:
            store.delete_branch(name)
            _deleted("branch", name, as_json)
        else:
            # The version is looked up first: replacing a branch must not lose it over a mistyped REF.
            version = _version(store, ref)
            if force and name in store.branches():
                store.delete_branch(name)
            store.create_branch(name, version)
            _created("branch", name, store.branches()[name], as_json)


def _check(name: str | None, ref: str | None, delete: bool, force: bool) -> None:
    if name is None and (delete or force):
        raise InvalidInputError(f"{'-d' if delete else '-f'} needs a NAME")
    if delete and (force or ref is not None):
        raise InvalidInputError("-d takes a NAME and nothing else")


def _version(store: Store, ref: str | None) -> int | None:
    from txstore.cli import refs

    return None if ref is None else refs.parse(store, ref).snapshot(store).version


def _list(names: Mapping[str, int], as_json: bool) -> None:
    from txstore.cli import output

    if as_json:
        output.emit_json(dict(sorted(names.items())))
    else:
        width = max(map(len, names), default=0)
        for name, version in sorted(names.items()):
            output.say(f"{name:<{width}}  {version}")


def _created(kind: str, name: str, version: int, as_json: bool) -> None:
    from txstore.cli import output

    if as_json:
        output.emit_json({kind: name, "version": version})
    else:
        output.say(f"{kind} {name} at version {version}")


def _deleted(kind: str, name: str, as_json: bool) -> None:
    from txstore.cli import output

    if as_json:
        output.emit_json({"deleted": name})
    else:
        output.say(f"deleted {kind} {name}")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        "tag",
        rich_help_panel=HISTORY,
        epilog=example("txstore tag survey", "txstore tag survey v1 12", "txstore tag survey -d v1"),
    )(tag)
    app.command(
        "branch",
        rich_help_panel=HISTORY,
        epilog=example("txstore branch survey", "txstore branch survey fix v1", "txstore branch survey -d fix"),
    )(branch)


__all__ = ["branch", "register", "tag"]
