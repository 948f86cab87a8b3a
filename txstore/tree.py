"""What groups and arrays stand on: a snapshot, or a transaction with what it has staged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from txstore.index.edits import ROOT
from txstore.index.lookup import NodeRow
from txstore.names import check_name
from txstore.reader import ArrayView

if TYPE_CHECKING:
    from txstore.commits import Commit
    from txstore.fragment import Fragment
    from txstore.pieces import Selection

#: The root group as a row: it is there before anything is written.
ROOT_ROW = NodeRow(ROOT, "group", -1, "", None, None, 0)


class Tree(Protocol):
    """One state of the hierarchy, addressed by node identities.

    Notes
    -----
    Implementations are safe for threads.
    """

    @property
    def version(self) -> int:
        """The version that is read (for a transaction: the one that it started from)."""

    def child(self, parent: int, name: str) -> NodeRow | None:
        """The member of a group with that name."""

    def children(self, parent: int) -> list[NodeRow]:
        """The members of a group, by name."""

    def all_nodes(self) -> dict[int, list[NodeRow]]:
        """Every node below the root, by the id of its parent; in a constant number of queries."""

    def attribute_texts(self, node: int) -> dict[str, str]:
        """All attributes of a node as JSON texts."""

    def attribute_text(self, node: int, key: str) -> str | None:
        """One attribute as a JSON text."""

    def view(self, row: NodeRow, path: str) -> ArrayView:
        """One array, for reading; raises NotFoundError when it has been deleted meanwhile."""

    def observe(self, row: NodeRow, path: str, axes: tuple[bool, ...]) -> None:
        """Note that the extent of these axes has been looked at."""

    def note_read(self, row: NodeRow, path: str, selection: Selection) -> None:
        """Note which cells are read."""

    def writer(self, what: str) -> Writer:
        """Whoever takes writes; raises ReadOnlyError that says how to write `what`."""

    def history(self, row: NodeRow, selection: Selection | None) -> list[Commit]:
        """The commits that wrote an array, newest first."""


class Writer(Protocol):
    """What a transaction offers to the handles that it has given out."""

    def write(self, row: NodeRow, path: str, selection: Selection, values: Any, casting: str | None) -> None:
        """Stage cells."""

    def adopt(self, row: NodeRow, path: str, fragment: Fragment) -> None:
        """Stage a fragment whose tiles are in the transaction's segment already."""

    def accumulate(self, row: NodeRow, path: str, selection: Selection, values: Any, op: str) -> None:
        """Stage an accumulation."""

    def append(self, row: NodeRow, path: str, values: Any, axis: int, casting: str | None) -> Any:
        """Stage cells past the end of an axis."""

    def resize(self, row: NodeRow, path: str, shape: Any) -> None:
        """Stage a new shape."""

    def clear(self, row: NodeRow, path: str, selection: Selection) -> None:
        """Stage a return to fill."""

    def set_attribute(self, node: int, path: str, key: str, text: str | None) -> None:
        """Stage one attribute as JSON text; None deletes it."""

    def create(self, parent: NodeRow, parent_path: str, path: str, **options: Any) -> Any:
        """Stage an array or a group."""

    def delete(self, parent: NodeRow, parent_path: str, path: str) -> None:
        """Stage a deletion."""

    def move(self, parent: NodeRow, parent_path: str, source: str, target: str) -> None:
        """Stage a move."""


def find(tree: Tree, path: str, above: NodeRow = ROOT_ROW) -> NodeRow | None:
    """What is at a path below a group, or None.

    Raises
    ------
    InvalidInputError
        If the path is none.
    """
    row: NodeRow | None = above
    for name in check_name(path):
        if row is None or row.kind != "group":
            return None
        row = tree.child(row.id, name)
    return row
