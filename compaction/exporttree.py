"""What is exported: the arrays and groups below a path of a snapshot, each with the form that it is written in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from txstore.compaction.exportmeta import Member
from txstore.compaction.profiles import Profile, form_of
from txstore.core import Core
from txstore.crew import Crew
from txstore.errors import NotFoundError
from txstore.index import branches
from txstore.index.engine import read_head
from txstore.index.lookup import NodeRow
from txstore.index.timeline import Timeline
from txstore.names import check_name
from txstore.reader import ArrayView
from txstore.snapshot import Snapshot
from txstore.source import TileSource
from txstore.states import State
from txstore.tree import ROOT_ROW

#: Decoded tiles that are kept for neighbouring chunks. The caches of the store stay as they are.
_CACHE_BYTES = 16 << 20


@dataclass(frozen=True)
class Options:
    """How an export is written: what its bytes depend on, apart from the cells.

    Attributes
    ----------
    path : str
        The array or group in the store; ``""`` is all of it.
    zarr_format : int
        2 or 3.
    layout : str
        ``"chunks"`` or ``"shards"``.
    profile : str
        ``"native"`` or ``"portable"``.
    """

    path: str
    zarr_format: Literal[2, 3]
    layout: Literal["chunks", "shards"]
    profile: Profile


class Plan(NamedTuple):
    """An export, before anything is written.

    Attributes
    ----------
    members : list of Member
        The root first, parents before children, by name.
    arrays : list of (Member, ArrayView)
        Those of them that are arrays, with a view that shares nothing with other readers of the store.
    """

    members: list[Member]
    arrays: list[tuple[Member, ArrayView]]


def plan(core: Core, state: State, timeline: Timeline, options: Options) -> Plan:
    """Gather what is to be exported.

    Raises
    ------
    NotFoundError
        If there is nothing at the path.
    InvalidInputError
        If an array can't be written in this way; the message names it.
    """
    snapshot = Snapshot(core, state, timeline)
    root, found = _nodes(snapshot, options.path)
    # Of one's own: what is loaded for a whole array once is of no use to others, and can be let go on the way.
    with core.index.read() as connection:
        head = read_head(connection)
        private = Timeline(core.index, branches.lineage(connection, state.branch, state.head), head)
    if len(found) > 1:
        private.load_all(state.version)
    source = TileSource(core.index, core.storage, _CACHE_BYTES)

    def attributes(row: NodeRow) -> dict[str, Any]:
        return {key: json.loads(text) for key, text in private.attributes(row.id, state.version).items()}

    members = [Member("", attributes(root) if root is not None else {})]
    arrays = []
    for path, full, row in found:
        if row.kind == "group":
            members.append(Member(path, attributes(row)))
            continue
        view = ArrayView(private, state.version, row, full, source, Crew())
        form = form_of(
            full,
            view.meta,
            view.shape,
            attributes(row),
            profile=options.profile,
            zarr_format=options.zarr_format,
            sharded=options.layout == "shards",
        )
        members.append(Member(path, form.attributes, view.shape, form))
        arrays.append((members[-1], view))
    return Plan(members, arrays)


def _nodes(snapshot: Snapshot, path: str) -> tuple[NodeRow | None, list[tuple[str, str, NodeRow]]]:
    """The group that becomes the root (None: an array is all there is), and (path in the export, in the store, row)."""
    row: NodeRow | None = ROOT_ROW
    for name in check_name(path) if path else ():
        row = snapshot._tree.child(row.id, name) if row is not None and row.kind == "group" else None
    if row is None:
        raise NotFoundError(f"there is no {path!r} at version {snapshot.version}")
    if row.kind == "array":
        return None, [(row.name, path, row)]
    below = snapshot._tree.all_nodes()
    found: list[tuple[str, str, NodeRow]] = []

    def walk(parent: int, prefix: str) -> None:
        for child in below.get(parent, ()):
            relative = prefix + child.name
            found.append((relative, f"{path}/{relative}" if path else relative, child))
            if child.kind == "group":
                walk(child.id, relative + "/")

    walk(row.id, "")
    return row, found


__all__ = ["Options", "Plan", "plan"]
