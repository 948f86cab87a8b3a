"""Conflicts of structure: names, deletions and moves against what others did to the hierarchy."""

from __future__ import annotations

from txstore.errors import Conflict
from txstore.index import lookup
from txstore.index.branches import Lineage
from txstore.index.connection import Connection
from txstore.index.edits import ROOT, Edit, NodeCreate, NodeDelete, NodeMove
from txstore.index.since import Since


class Tree:
    """Parents of nodes on one lineage, looked up when asked for."""

    def __init__(self, connection: Connection, seen: Lineage) -> None:
        self._connection = connection
        self._seen = seen
        self._nodes: dict[int, lookup.NodeRow | None] = {}

    def node(self, node: int) -> lookup.NodeRow | None:
        if node not in self._nodes:
            self._nodes[node] = lookup.node(self._connection, self._seen, node)
        return self._nodes[node]

    def chain(self, node: int) -> tuple[list[int], bool]:
        """The node and all above it, and whether the chain reaches the root (False: something is deleted)."""
        chain = []
        while node != ROOT:
            chain.append(node)
            row = self.node(node)
            if row is None or len(chain) > 10_000:
                return chain, False
            node = row.parent
        return chain, True

    def path(self, node: int) -> str | None:
        """Where the node hangs; None where it, or something above it, is deleted."""
        chain, reaches = self.chain(node)
        rows = [self.node(one) for one in reversed(chain)]
        return "/".join([row.name for row in rows if row is not None]) if reaches else None

    def child(self, parent: int, name: str) -> lookup.NodeRow | None:
        return lookup.child(self._connection, self._seen, parent, name)


def _touches(edit: Edit) -> dict[int, str]:
    """The nodes that must still be there for the edit to mean anything, with a path for messages."""
    nodes: dict[int, str] = {array.node: array.path for array in edit.arrays}
    nodes.update((change.node, change.path) for change in edit.attributes)
    for change in edit.nodes:
        if isinstance(change, NodeCreate | NodeMove):
            nodes.setdefault(change.parent, change.path.rpartition("/")[0])
        if isinstance(change, NodeMove | NodeDelete):
            nodes[change.node] = change.path
    return {node: path for node, path in nodes.items() if node > ROOT}


def implicit_groups(connection: Connection, seen: Lineage, edit: Edit) -> dict[int, int]:
    """Missing parents that somebody else has made meanwhile: staged id to the id at the head.

    Not those that the edit moves or deletes again: they are its own, and somebody else's must not go with them.
    """
    there: dict[int, int] = {}
    gone = {change.node for change in edit.nodes if isinstance(change, NodeDelete | NodeMove)}
    for change in edit.nodes:
        if isinstance(change, NodeCreate) and change.implicit and change.node not in gone:
            parent = there.get(change.parent, change.parent)
            row = lookup.child(connection, seen, parent, change.name) if parent >= ROOT else None
            # What the edit itself takes away is not there for what it makes afterwards.
            if row is not None and row.kind == "group" and row.id not in gone:
                there[change.node] = row.id
    return there


def _below_itself(node: int, edit: Edit, there: dict[int, int], head: Tree) -> bool:
    """Whether a node would hang below itself once all that the edit makes and moves stands on the head."""
    parents = {
        change.node: there.get(change.parent, change.parent)
        for change in edit.nodes
        if isinstance(change, NodeCreate | NodeMove) and change.node not in there
    }
    passed = {node}
    current = parents[node]
    while current != ROOT:
        if current in passed:
            return True
        passed.add(current)
        row = None if current in parents else head.node(current)
        if current not in parents and row is None:
            return False  # deleted: case 1
        current = parents[current] if row is None else row.parent
    return False


def structure_conflicts(connection: Connection, edit: Edit, since: Since) -> list[Conflict]:
    """Every conflict of structure."""
    found: list[Conflict] = []
    head, base = Tree(connection, since.seen), Tree(connection, since.seen.at(since.after))
    there = implicit_groups(connection, since.seen, edit)
    changed = {node: version for node, version, _ in lookup.nodes_changed(connection, since.seen, since.after)}
    newest = since.touched[-1][0]
    gone = {change.node for change in edit.nodes if isinstance(change, NodeDelete | NodeMove)}
    # Case 1: something that this edit stands on has been deleted, itself or above it.
    for node, path in _touches(edit).items():
        chain, reaches = head.chain(node)
        if not reaches:
            found.append(Conflict("structure", path, None, None, changed.get(chain[-1], newest)))
    # Case 2: a name that this edit gives is taken, unless by what this edit itself takes away.
    for change in edit.nodes:
        if isinstance(change, NodeDelete):
            continue
        parent = there.get(change.parent, change.parent)
        taken = head.child(parent, change.name) if parent >= ROOT else None
        if taken is None or taken.id in gone or taken.id in (change.node, there.get(change.node)):
            continue
        found.append(Conflict("structure", change.path, None, change.name, taken.version))
    for change in edit.nodes:
        if isinstance(change, NodeMove):
            # Case 3: two moves of one node, or moves that together would hang a group below itself.
            if change.node in changed or _below_itself(change.node, edit, there, head):
                found.append(
                    Conflict("structure", change.old_path, None, change.name, changed.get(change.node, newest))
                )
        elif isinstance(change, NodeDelete) and change.node > ROOT:
            # Case 4: somebody worked below what this edit deletes, where it is now or where it was.
            for version, touched in since.touched:
                if any(
                    change.node in head.chain(node)[0] or change.node in base.chain(node)[0]
                    for node in touched.nodes
                    if node > ROOT
                ):
                    found.append(Conflict("structure", change.path, None, None, version))
                    break
    return found
