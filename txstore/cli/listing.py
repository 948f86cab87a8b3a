"""``ls`` and ``info``: what is in a store, and how it is laid out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from txstore.cli.options import DATA, AtOpt, IndexOpt, JsonOpt, PathArg, StoreArg, example

if TYPE_CHECKING:
    from txstore.array import Array
    from txstore.group import Group
    from txstore.store import Store

    Node = Array | Group


def ls(
    root: StoreArg,
    path: PathArg = "",
    at: AtOpt = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="List everything below, too.")] = False,
    long: Annotated[bool, typer.Option("--long", "-l", help="Show shapes, dtypes and chunks.")] = False,
    index: IndexOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """List arrays and groups; the names of groups end with a slash."""
    from txstore.cli import access, output, refs

    with access.opened(root, "r", index) as store:
        snap = refs.parse(store, at).snapshot(store)
        nodes = list(_listed(find(snap, path), recursive))
        if as_json:
            output.emit_json([{"name": name, **describe(node)} for name, node in nodes])
        elif long:
            output.table(("NAME", "SHAPE", "DTYPE", "CHUNKS"), [_row(name, node) for name, node in nodes])
        else:
            for name, node in nodes:
                output.say(name if is_array(node) else f"{name}/", style="" if is_array(node) else "bold blue")


def find(snap: Group, path: str) -> Node:
    """The node at ``path``, the snapshot itself for the root.

    Raises
    ------
    NotFoundError
        There is none.
    """
    from txstore.cli.access import node_path

    name = node_path(path)
    return snap[name] if name else snap


def find_array(snap: Group, path: str) -> Array:
    """The array at ``path``.

    Raises
    ------
    NotFoundError
        There is nothing.
    InvalidInputError
        There is a group.
    """
    from txstore.array import Array
    from txstore.errors import InvalidInputError

    node = find(snap, path)
    if not isinstance(node, Array):
        raise InvalidInputError(f"{path or '/'!r} is a group; an array is needed (txstore ls lists them)")
    return node


def is_array(node: Node) -> bool:
    """Whether ``node`` is an array and not a group."""
    from txstore.array import Array

    return isinstance(node, Array)


def _listed(node: Node, recursive: bool) -> Iterator[tuple[str, Node]]:
    from txstore.array import Array

    if isinstance(node, Array):
        yield node.path, node
    elif recursive:
        yield from node.members()
    else:
        yield from node.members(max_depth=0)


def _row(name: str, node: Node) -> tuple[str, str, str, str]:
    from txstore.array import Array

    if not isinstance(node, Array):
        return f"{name}/", "", "", ""
    return name, str(tuple(node.shape)), str(node.dtype), str(tuple(node.chunks))


def describe(node: Node) -> dict[str, Any]:
    """What can be said of ``node`` without looking at its cells."""
    from txstore.array import Array

    if not isinstance(node, Array):
        return {"path": node.path, "kind": "group", "attributes": dict(node.attrs)}
    return {
        "path": node.path,
        "kind": "array",
        "shape": tuple(node.shape),
        "dtype": str(node.dtype),
        "chunks": tuple(node.chunks),
        "shards": None if node.shards is None else tuple(node.shards),
        "codecs": node.codecs,
        # NumPy turns NaT into None or a number on the way to JSON.
        "fill_value": str(node.fill_value) if node.dtype.kind in "mM" else node.fill_value,
        "dimension_names": node.dimension_names,
        "attributes": dict(node.attrs),
        "nbytes": node.nbytes,
    }


def info(
    root: StoreArg, path: PathArg = "", at: AtOpt = None, index: IndexOpt = None, as_json: JsonOpt = False
) -> None:
    """Describe the store, or an array or a group in it."""
    from txstore.cli import access, output, refs

    with access.opened(root, "r", index) as store:
        snap = refs.parse(store, at).snapshot(store)
        facts: dict[str, Any] = {"branch": snap.branch, "version": snap.version, "committed_at": snap.committed_at}
        if access.node_path(path):
            facts = _stored(find(snap, path)) | facts
        else:
            facts |= {"attributes": dict(snap.attrs), **_counts(snap)}
            facts["store"] = _whole(store)
        if as_json:
            output.emit_json(facts)
            return
        whole = facts.pop("store", None)
        output.record(facts)
        if whole is not None:
            # Whatever --at asked for: the two must not be taken for each other.
            output.say("\nthe store, at its newest version:")
            output.record(whole)


def _whole(store: Store) -> dict[str, Any]:
    facts = store.info()
    committed_at = facts["committed_at"]
    return facts | {"committed_at": None if committed_at is None else datetime.fromisoformat(committed_at)}


def _stored(node: Node) -> dict[str, Any]:
    from txstore.array import Array

    facts = describe(node)
    if not isinstance(node, Array):
        return facts | _counts(node)
    fragments = node.fragments()
    stored = sum(fragment.directory(node.chunks).nbytes for fragment in fragments if not fragment.stripped)
    return facts | {"fragments": len(fragments), "stored_bytes": stored}


def _counts(group: Group) -> dict[str, int]:
    members = list(group.members())
    arrays = sum(is_array(member) for _, member in members)
    return {"arrays": arrays, "groups": len(members) - arrays}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("ls", rich_help_panel=DATA, epilog=example("txstore ls survey", "txstore ls survey era5 -l --at v1"))(
        ls
    )
    app.command("info", rich_help_panel=DATA, epilog=example("txstore info survey", "txstore info survey dem --json"))(
        info
    )


__all__ = ["describe", "find", "find_array", "info", "is_array", "ls", "register"]
