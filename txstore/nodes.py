"""The hierarchy as a transaction sees it: what it started from, and what it has made, moved and deleted."""

from __future__ import annotations

from collections.abc import Iterable

from txstore.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from txstore.index.edits import ROOT, NodeCreate, NodeDelete, NodeEdit, NodeMove
from txstore.index.lookup import NodeRow
from txstore.index.timeline import Timeline
from txstore.names import check_name, shown

#: The version of staged rows.
_STAGED = 2**62


class StagedNodes:
    """Staged changes of the hierarchy over one version of a branch.

    Parameters
    ----------
    timeline : Timeline
        The branch.
    version : int
        The version that the transaction started from.

    Notes
    -----
    Not safe for threads by itself: the transaction holds its lock around every call.
    """

    def __init__(self, timeline: Timeline, version: int) -> None:
        self._timeline = timeline
        self._version = version
        self._names: dict[tuple[int, str], NodeRow | None] = {}
        self._rows: dict[int, NodeRow] = {}  # where nodes that were met hang now
        self._gone: set[int] = set()
        self._next = -1
        self.edits: list[NodeEdit] = []

    def child(self, parent: int, name: str) -> NodeRow | None:
        """The member of a group with that name."""
        key = (parent, name)
        if key in self._names:
            return self._names[key]
        if parent < ROOT:
            return None
        row = self._timeline.child(parent, name, self._version)
        if row is None:
            return None
        # A node that was moved away by its identity is found under its new name only.
        return self._rows.setdefault(row.id, row) if self._rows.get(row.id, row) == row else None

    def children(self, parent: int) -> list[NodeRow]:
        """The members of a group, by name."""
        rows = {}
        if parent >= ROOT:
            rows = {row.name: row for row in self._timeline.children(parent, self._version)}
        for (above, name), row in self._names.items():
            if above == parent:
                if row is None:
                    rows.pop(name, None)
                else:
                    rows[name] = row
        found = [rows[name] for name in sorted(rows)]
        self._met(found)
        return found

    def _met(self, rows: Iterable[NodeRow]) -> None:
        """Remember where nodes hang that are given out, so that a deletion above them is told to their handles."""
        for row in rows:
            self._rows.setdefault(row.id, row)

    def all_nodes(self) -> dict[int, list[NodeRow]]:
        """Every node, by parent."""
        rows = {(row.parent, row.name): row for row in self._timeline.all_nodes(self._version)}
        for key, row in self._names.items():
            if row is None:
                rows.pop(key, None)
            else:
                rows[key] = row
        below: dict[int, list[NodeRow]] = {}
        for key in sorted(rows, key=lambda key: key[1]):
            below.setdefault(key[0], []).append(rows[key])
        self._met(rows[key] for key in rows)
        return below

    def require(self, node: int) -> None:
        """Raise NotFoundError when a handle's node, or a group above it, has been deleted."""
        if not self._gone:
            return
        current = self._rows.get(node)
        while current is not None:
            if current.id in self._gone:
                name = self._rows[node].name
                raise NotFoundError(f"{name!r} has been deleted in this transaction; look it up again")
            current = self._rows.get(current.parent)

    def create(
        self,
        parent: NodeRow,
        path: str,
        prefix: str,
        kind: str,
        *,
        metadata: str | None = None,
        partition: str | None = None,
        overwrite: bool = False,
        implicit: bool = False,
    ) -> tuple[NodeRow, str]:
        """Stage a node and the groups above it that are missing.

        Raises
        ------
        AlreadyExistsError
            If there is something already, or an array above it.
        InvalidInputError
            If the path is none.
        """
        parts = check_name(path)
        above = parent
        for depth, name in enumerate(parts[:-1]):
            full = "/".join((*([prefix] if prefix else []), *parts[: depth + 1]))
            row = self.child(above.id, name)
            if row is None:
                row = self._add(above, name, full, "group", None, None, True)
            elif row.kind != "group":
                raise AlreadyExistsError(f"{full!r} is an array: nothing can be made below it")
            above = row
        full = "/".join((*([prefix] if prefix else []), *parts))
        present = self.child(above.id, parts[-1])
        if present is not None:
            if not overwrite:
                raise AlreadyExistsError(
                    f"there is {_article(present.kind)} at {full!r}; delete it or use overwrite=True"
                )
            self._remove(present, full)
        return self._add(above, parts[-1], full, kind, metadata, partition, implicit), full

    def _add(
        self,
        above: NodeRow,
        name: str,
        path: str,
        kind: str,
        metadata: str | None,
        partition: str | None,
        implicit: bool,
    ) -> NodeRow:
        row = NodeRow(self._next, kind, above.id, name, metadata, partition, _STAGED)
        self._next -= 1
        self._names[above.id, name] = row
        self._rows[row.id] = row
        self.edits.append(NodeCreate(row.id, kind, above.id, name, path, metadata, partition, implicit))
        return row

    def delete(self, parent: NodeRow, path: str, prefix: str) -> None:
        """Stage a deletion.

        Raises
        ------
        NotFoundError
            If there is nothing.
        """
        row, _, full = self._locate(parent, path, prefix)
        if row is None:
            raise NotFoundError(f"there is no {shown(full)} to delete")
        self._remove(row, full)

    def _remove(self, row: NodeRow, path: str) -> None:
        self._names[row.parent, row.name] = None
        self._gone.add(row.id)
        self.edits.append(NodeDelete(row.id, path))

    def move(self, parent: NodeRow, source: str, target: str, prefix: str) -> None:
        """Stage a move.

        Raises
        ------
        NotFoundError, AlreadyExistsError
            If there is nothing at `source`, or something at `target`.
        InvalidInputError
            If `target` lies below `source`.
        """
        row, _, full_source = self._locate(parent, source, prefix)
        if row is None:
            raise NotFoundError(f"there is no {shown(full_source)} to move")
        parts = check_name(target)
        found, _, full_target = self._locate(parent, target, prefix)
        if found is not None:
            raise AlreadyExistsError(f"there is {_article(found.kind)} at {full_target!r} already")
        if f"{full_target}/".startswith(f"{full_source}/"):
            raise InvalidInputError(f"{full_source!r} can't be moved below itself, to {full_target!r}")
        above = parent
        if len(parts) > 1:
            group = "/".join(parts[:-1])
            present, _, full = self._locate(parent, group, prefix)
            if present is not None and present.kind != "group":
                raise AlreadyExistsError(f"{full!r} is an array: nothing can be moved below it")
            above = present or self.create(parent, group, prefix, "group", implicit=True)[0]
        moved = row._replace(parent=above.id, name=parts[-1], version=_STAGED)
        self._names[row.parent, row.name] = None
        self._names[above.id, parts[-1]] = moved
        self._rows[row.id] = moved
        self.edits.append(NodeMove(row.id, above.id, parts[-1], full_target, full_source))

    def _locate(self, parent: NodeRow, path: str, prefix: str) -> tuple[NodeRow | None, NodeRow, str]:
        parts = check_name(path)
        full = "/".join((*([prefix] if prefix else []), *parts))
        row: NodeRow | None = parent
        above = parent
        for name in parts:
            if row is None or row.kind != "group":
                return None, above, full
            above = row
            row = self.child(row.id, name)
        return row, above, full


def _article(kind: str) -> str:
    return "an array" if kind == "array" else "a group"


__all__ = ["StagedNodes"]
