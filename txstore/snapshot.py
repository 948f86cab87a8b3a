"""One version of the store, for reading."""

from __future__ import annotations

import importlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

from txstore.commits import Commit, to_datetime
from txstore.core import Address, Core
from txstore.errors import NotFoundError, ReadOnlyError
from txstore.group import Group
from txstore.index import branches, commitlog
from txstore.index.edits import ROOT
from txstore.index.lookup import NodeRow
from txstore.index.timeline import Timeline
from txstore.pieces import Selection
from txstore.reader import ArrayView
from txstore.states import State
from txstore.tree import Writer

if TYPE_CHECKING:
    from collections.abc import Callable


#: Who lists more arrays than this will look at them: their shapes and attributes are fetched together.
_MANY = 16


class VersionTree:
    """One version of a branch as what groups and arrays stand on; see Tree.

    Notes
    -----
    Immutable but for what it remembers; safe for threads; travels as address and version.
    """

    def __init__(self, core: Core, state: State, timeline: Timeline) -> None:
        self.core = core
        self.state = state
        self.timeline = timeline
        self._views: dict[int, ArrayView] = {}
        self._below: dict[int, list[NodeRow]] | None = None
        self._listed: int | None = None

    @property
    def version(self) -> int:
        """See Tree."""
        return self.state.commit

    def child(self, parent: int, name: str) -> NodeRow | None:
        """See Tree."""
        self.core.check_open()
        return self.timeline.child(parent, name, self.state.version)

    def children(self, parent: int) -> list[NodeRow]:
        """See Tree."""
        self.core.check_open()
        # Who lists a second group is walking the hierarchy: all of it in one query is cheaper than each part.
        if self._below is None and self._listed not in (None, parent):
            self.all_nodes()
        if self._below is not None:
            return self._below.get(parent, [])
        self._listed = parent
        rows = self.timeline.children(parent, self.state.version)
        if sum(row.kind == "array" for row in rows) > _MANY:
            self.timeline.load_all(self.state.version)
        return rows

    def all_nodes(self) -> dict[int, list[NodeRow]]:
        """See Tree."""
        self.core.check_open()
        if self._below is None:
            below: dict[int, list[NodeRow]] = {}
            for row in sorted(self.timeline.all_nodes(self.state.version), key=lambda row: row.name):
                below.setdefault(row.parent, []).append(row)
            self.timeline.load_all(self.state.version)
            self._below = below
        return self._below

    def attribute_texts(self, node: int) -> dict[str, str]:
        """See Tree."""
        self.core.check_open()
        return self.timeline.attributes(node, self.state.version)

    def attribute_text(self, node: int, key: str) -> str | None:
        """See Tree."""
        return self.attribute_texts(node).get(key)

    def view(self, row: NodeRow, path: str) -> ArrayView:
        """See Tree."""
        self.core.check_open()
        view = self._views.get(row.id)
        if view is None:
            core = self.core
            view = ArrayView(self.timeline, self.state.version, row, path, core.source, core.crew)
            self._views[row.id] = view
        return view

    def observe(self, row: NodeRow, path: str, axes: tuple[bool, ...]) -> None:
        """See Tree; a snapshot conflicts with nobody."""

    def note_read(self, row: NodeRow, path: str, selection: Selection) -> None:
        """See Tree; a snapshot conflicts with nobody."""

    def writer(self, what: str) -> Writer:
        """See Tree."""
        raise ReadOnlyError(
            f"a snapshot is read-only, so {what} can't be written: use "
            "'with store.transaction() as tx:' and write through tx"
        )

    def history(self, row: NodeRow, selection: Selection | None) -> list[Commit]:
        """See Tree."""
        return history(self.core, self.view(row, row.name), selection)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.core.address, self.state)


class Snapshot(Group):
    """Everything visible at a version of a branch; the root group of that version.

    Notes
    -----
    Immutable: whatever is read through it may be cached. Safe for threads; can be pickled (it travels as address
    and version). It does not keep its version from expiring: reads then raise SnapshotExpiredError.
    """

    _tree: VersionTree

    def __init__(self, core: Core, state: State, timeline: Timeline) -> None:
        super().__init__(VersionTree(core, state, timeline))

    @property
    def version(self) -> int:
        """The newest commit that is seen; 0 before the first."""
        return self._tree.state.commit

    @property
    def branch(self) -> str:
        """The branch."""
        return self._tree.state.branch_name

    @property
    def committed_at(self) -> datetime | None:
        """When that commit was made, aware, UTC; None before the first."""
        state = self._tree.state
        return to_datetime(state.committed_at) if state.commit else None

    @property
    def settled(self) -> bool:
        """False where `as_of` lay past the head: later commits may still fall before it."""
        return self._tree.state.settled

    def __reduce__(self) -> tuple[Any, ...]:
        return _snapshot, (self._tree,)


def _snapshot(tree: VersionTree) -> Snapshot:
    return Snapshot(tree.core, tree.state, tree.timeline)


def history(core: Core, view: ArrayView, selection: Selection | None) -> list[Commit]:
    """The commits that wrote into a selection of an array, newest first, as far as the index still has them."""
    versions = view.writers(selection)
    seen = view.timeline.at(view.version)
    with core.index.read() as connection:
        rows = commitlog.commits_by_version(connection, versions)
        names = {row.id: row.name for row in branches.all_branches(connection)} | {ROOT: "main"}
    return [
        Commit.from_row(rows[version], names.get(rows[version].branch or 0, "main"))
        for version in sorted(rows, reverse=True)
        if seen.sees(rows[version].branch or 0, version)
    ]


_opener: Callable[[Address], Core] | None = None


def set_opener(opener: Callable[[Address], Core]) -> None:
    """Tell unpickling how to open a store; called once by :mod:`txstore.store`."""
    global _opener
    _opener = opener


def _reopen(address: Address, state: State) -> VersionTree:
    if _opener is None:
        # A process that has only unpickled has not opened a store yet, and the package loads lazily.
        importlib.import_module("txstore.store")
        assert _opener is not None
    core = _opener(address)
    name = None if state.branch_name == "main" else state.branch_name
    try:
        found, timeline = core.state(branch=name, version=state.commit)
    except NotFoundError:
        found, timeline = core.state(version=state.commit)  # the branch's name is gone, its commits are not
    return VersionTree(core, found._replace(settled=state.settled), timeline)
