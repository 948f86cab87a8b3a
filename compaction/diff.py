"""What changed from one version to another, told from the index alone: boxes say what was written, not what differs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from txstore.boxes import Box
from txstore.errors import InvalidInputError, NotFoundError, SnapshotExpiredError
from txstore.index import lookup
from txstore.index.branches import Lineage
from txstore.index.engine import read_head
from txstore.index.lookup import NodeRow
from txstore.names import check_path
from txstore.snapshot import Snapshot

if TYPE_CHECKING:
    from txstore.core import Core
    from txstore.store import Store


@dataclass(frozen=True)
class Diff:
    """What changed between two versions.

    Attributes
    ----------
    added, removed : tuple of str
        Paths that are only in the newer, or only in the older one.
    moved : tuple of (str, str)
        (old path, new path) of nodes that hang elsewhere.
    resized : Mapping of str to (tuple, tuple)
        Old and new shape, by the newer path.
    attrs : Mapping of str to tuple of str
        Attribute keys that differ, by the newer path.
    boxes : Mapping of str to tuple of Box
        What was written into arrays that are in both, half-open, by the newer path: a box for each write, cut at
        partitions, in order of the commits. They may overlap, where cells were written more than once or a mask is
        given by its bounding box; count cells of their union, not their volumes. Cells may have been written with the
        value that they had.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    moved: tuple[tuple[str, str], ...]
    resized: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    attrs: Mapping[str, tuple[str, ...]]
    boxes: Mapping[str, tuple[Box, ...]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.moved or self.resized or self.attrs or self.boxes)

    def to_dict(self) -> dict[str, Any]:
        """The difference as a JSON-able dict."""
        return {
            "added": list(self.added),
            "removed": list(self.removed),
            "moved": [list(pair) for pair in self.moved],
            "resized": {path: [list(old), list(new)] for path, (old, new) in self.resized.items()},
            "attrs": {path: list(keys) for path, keys in self.attrs.items()},
            "boxes": {path: [[list(box.lo), list(box.hi)] for box in boxes] for path, boxes in self.boxes.items()},
        }


def diff(store: Store, a: Any, b: Any, path: str = "") -> Diff:
    """What changed from `a` to `b`; see ``Store.diff``."""
    one, other = _snapshot(store, a), _snapshot(store, b)
    path = check_path(path)
    before, after = _paths(one, path), _paths(other, path)
    if path and not before and not after:
        raise NotFoundError(f"there is no {path!r} at version {one.version}, nor at version {other.version}")
    both = [node for node in after if node in before]
    resized, attrs, boxes = {}, {}, {}
    for node in both:
        name = after[node][0]
        if after[node][1].kind == "array":
            old, new = (
                snapshot._tree.view(rows[node][1], name).shape for snapshot, rows in ((one, before), (other, after))
            )
            if old != new:
                resized[name] = old, new
        old_texts, new_texts = one._tree.attribute_texts(node), other._tree.attribute_texts(node)
        keys = [key for key in sorted({*old_texts, *new_texts}) if not _same(old_texts.get(key), new_texts.get(key))]
        if keys:
            attrs[name] = tuple(keys)
    arrays = [node for node in both if after[node][1].kind == "array"]
    for node, written in _written(store, one, other, arrays).items():
        boxes[after[node][0]] = written
    root_attrs = _root_attrs(one, other) if not path else ()
    if root_attrs:
        attrs[""] = root_attrs
    return Diff(
        tuple(sorted(after[node][0] for node in after if node not in before)),
        tuple(sorted(before[node][0] for node in before if node not in after)),
        tuple(sorted((before[node][0], after[node][0]) for node in both if before[node][0] != after[node][0])),
        MappingProxyType(resized),
        MappingProxyType(attrs),
        MappingProxyType(boxes),
    )


def _same(old: str | None, new: str | None) -> bool:
    if old is None or new is None:
        return old is new
    return old == new or json.loads(old) == json.loads(new)


def _root_attrs(one: Snapshot, other: Snapshot) -> tuple[str, ...]:
    old, new = one._tree.attribute_texts(0), other._tree.attribute_texts(0)
    return tuple(key for key in sorted({*old, *new}) if not _same(old.get(key), new.get(key)))


def _snapshot(store: Store, reference: Any) -> Snapshot:
    if isinstance(reference, Snapshot):
        core = reference._tree.core
        if core is not store._core and _uuid(core) != _uuid(store._core):
            raise InvalidInputError(f"{reference!r} is of another store, {core.address.root}, not of {store.root}")
        return reference
    if isinstance(reference, bool) or not hasattr(reference, "__index__"):
        raise InvalidInputError(f"diff takes versions or snapshots, not {reference!r}")
    return store.snapshot(version=reference)


def _uuid(core: Core) -> bytes:
    with core.index.read() as connection:
        return read_head(connection).uuid


def _paths(snapshot: Snapshot, path: str) -> dict[int, tuple[str, NodeRow]]:
    """(path, row) of every node at or below a path, by identity."""
    found: dict[int, tuple[str, NodeRow]] = {}
    below = snapshot._tree.all_nodes()
    todo: list[tuple[int, str]] = [(0, "")]
    while todo:
        parent, prefix = todo.pop()
        for row in below.get(parent, ()):
            full = f"{prefix}/{row.name}" if prefix else row.name
            todo.append((row.id, full))
            if not path or full == path or full.startswith(path + "/"):
                found[row.id] = full, row
    return found


def _written(store: Store, one: Snapshot, other: Snapshot, nodes: list[int]) -> dict[int, tuple[Box, ...]]:
    """Boxes of the fragments that only one of the two versions sees."""
    if not nodes:
        return {}
    first, second = one._tree.timeline.at(one._tree.state.version), other._tree.timeline.at(other._tree.state.version)
    common = _common(first, second)
    found: dict[int, list[Box]] = {}
    with store._core.index.read() as connection:
        head = read_head(connection)
        if common < head.conflict_horizon and common < min(one.version, other.version):
            raise SnapshotExpiredError(
                f"what happened since version {common} can't be told any more: the conflict horizon is "
                f"{head.conflict_horizon}"
            )
        if min(one.version, other.version) < head.conflict_horizon and one.version != other.version:
            raise SnapshotExpiredError(
                f"what happened since version {min(one.version, other.version)} can't be told any more: the conflict "
                f"horizon is {head.conflict_horizon}"
            )
        for seen, unseen in ((first, second), (second, first)):
            for node, row in lookup.fragments_since(connection, seen, nodes, common):
                if not unseen.sees(row.branch, row.version):
                    found.setdefault(node, []).append(Box.from_bytes(row.clip, len(row.clip) // 16))
    return {node: tuple(dict.fromkeys(boxes)) for node, boxes in found.items()}


def _common(first: Lineage, second: Lineage) -> int:
    """The newest version up to which two lineages are the same."""
    shared = 0
    for branch, upto in first.parts:
        for other_branch, other_upto in second.parts:
            if branch == other_branch:
                shared = max(shared, min(upto, other_upto))
    return shared
