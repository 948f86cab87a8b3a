"""What a commit is asked to do, as one frozen value.

Writers, tags, branches and compaction all hand an :class:`Edit` to
:func:`txstore.index.commit.commit`; nothing else changes the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import msgpack

from txstore.boxes import Box
from txstore.errors import CorruptionError
from txstore.fragment import Fragment
from txstore.grid import Grid

#: The id of the root group, which has no row in ``node_versions``.
ROOT = 0
#: The id of the branch ``main``.
MAIN = 0


class Change:
    """What a commit did to a node, as bits; stored in ``commits.touched``, so the numbers never change.

    Plain integers: every reader goes through those of every commit that it has not seen, and flags of the standard
    library take ten times as long.
    """

    STRUCTURE: Final = 1  # made, moved, deleted
    SHAPE: Final = 2
    ATTRIBUTES: Final = 4
    CELLS: Final = 8
    ALL: Final = (STRUCTURE, SHAPE, ATTRIBUTES, CELLS)


@dataclass(frozen=True, slots=True)
class Touched:
    """The summary of a commit: enough to know what of a cache is still true.

    Attributes
    ----------
    nodes : dict of int to int
        Every node that changed, and how: bits of :class:`Change`.
    paths : tuple of str
        Their paths as they were called in that commit.
    hulls : dict of int to Box
        Of each array whose cells were written, the smallest box around them.
    appended : tuple of (str, Box)
        Where each append landed.
    """

    nodes: Mapping[int, int]
    paths: tuple[str, ...] = ()
    appended: tuple[tuple[str, Box], ...] = ()
    hulls: Mapping[int, Box] = field(default_factory=dict)

    @property
    def structural(self) -> bool:
        """Whether any node was made, moved or deleted."""
        return any(change & Change.STRUCTURE for change in self.nodes.values())

    def encode(self) -> bytes:
        """The msgpack value of ``commits.touched``, see docs/index-schema.md."""
        data: bytes = msgpack.packb(
            [
                1,
                list(self.nodes.items()),
                self.paths,
                [[path, box.lo, box.hi] for path, box in self.appended],
                [[node, box.lo, box.hi] for node, box in self.hulls.items()],
            ]
        )
        return data

    @classmethod
    def decode(cls, data: bytes) -> Touched:
        """The inverse of :meth:`encode`.

        Raises
        ------
        CorruptionError
            If the value is not of that form.
        """
        try:
            nodes, paths, appended, hulls = _summary(data)
            if type(paths) is not tuple or set(map(type, paths)) - {str}:
                raise ValueError("no paths")
            return cls(
                dict(nodes),
                paths,
                tuple([(path, _box(lo, hi)) for path, lo, hi in appended]) if appended else (),
                {node: _box(lo, hi) for node, lo, hi in hulls},
            )
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise _malformed(error) from error

    @staticmethod
    def changes(data: bytes) -> dict[int, int]:
        """Only :attr:`nodes` of an encoded summary: all that those want to know who have nothing to commit.

        Raises
        ------
        CorruptionError
            If the value is not of that form.
        """
        try:
            return dict(_summary(data)[0])
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise _malformed(error) from error


def _summary(data: bytes) -> tuple[Any, Any, Any, Any]:
    form, nodes, paths, appended, hulls = msgpack.unpackb(data, use_list=False)
    if form != 1:
        raise ValueError(f"form {form}")
    if set(map(type, chain.from_iterable(nodes))) - {int}:
        raise ValueError("no nodes")
    return nodes, paths, appended, hulls


def _malformed(error: Exception) -> CorruptionError:
    return CorruptionError(f"the summary of a commit is malformed: {error}")


def _box(lo: Any, hi: Any) -> Box:
    if type(lo) is not tuple or type(hi) is not tuple or set(map(type, lo + hi)) - {int}:
        raise ValueError(f"no box: {lo}, {hi}")
    return Box(lo, hi)


@dataclass(frozen=True, slots=True)
class NodeCreate:
    """Make a node. Staged nodes have negative ids until the commit gives them their own."""

    node: int
    kind: str
    parent: int
    name: str
    path: str
    metadata: str | None = None
    partition: str | None = None
    implicit: bool = False  # a missing parent: whoever is first makes it


@dataclass(frozen=True, slots=True)
class NodeMove:
    """Hang a node under another parent or name."""

    node: int
    parent: int
    name: str
    path: str
    old_path: str


@dataclass(frozen=True, slots=True)
class NodeDelete:
    """Take a node, and with it everything below, out of sight."""

    node: int
    path: str


NodeEdit = NodeCreate | NodeMove | NodeDelete


@dataclass(frozen=True, slots=True)
class AttributeEdit:
    """Set one attribute to a JSON text, or delete it (None)."""

    node: int
    path: str
    key: str
    value: str | None


@dataclass(frozen=True, slots=True)
class StagedFragment:
    """A fragment that waits for its version, and for its place along the axes on which it floats."""

    fragment: Fragment
    floating: bool = False


@dataclass(frozen=True, slots=True)
class ArrayEdit:
    """Everything that one transaction did to the cells and the shape of one array.

    Attributes
    ----------
    node : int
        The array; negative when the same transaction makes it.
    path : str
        For messages.
    grid : Grid
        Its chunks, shards and partitions.
    base_shape : tuple of int
        The shape that the transaction started from (for a new array: the shape it was made with).
    steps : tuple of (int, tuple of int)
        Each new shape in order, with its rank, as the transaction sees them.
    appended : tuple of int
        Cells appended along each axis.
    appends : tuple of Box
        Where each append lies in the transaction's own coordinates, in order.
    pinned : frozenset of int
        Axes whose end the transaction has observed.
    shrinks : bool
        Whether any step is smaller than the one before along some axis.
    fragments : tuple of StagedFragment
        In order of rank.
    """

    node: int
    path: str
    grid: Grid
    base_shape: tuple[int, ...]
    steps: tuple[tuple[int, tuple[int, ...]], ...] = ()
    appended: tuple[int, ...] = ()
    appends: tuple[Box, ...] = ()
    pinned: frozenset[int] = frozenset()
    shrinks: bool = False
    fragments: tuple[StagedFragment, ...] = ()


@dataclass(frozen=True, slots=True)
class RefEdit:
    """Give a name a meaning: a tag, or a branch. `target` None takes the name away."""

    kind: str  # "tag" or "branch"
    name: str
    target: int | None  # a version; for a new branch the version that it starts from
    target_branch: int | None = None  # the branch on which the target is read
    move: bool = False  # a tag that exists may be moved


@dataclass(slots=True)
class Reads:
    """What a serializable transaction has looked at; grows while it runs.

    Attributes
    ----------
    cells : dict of int to list of Fragment
        Regions read of each array, as fragments without bytes (``clip``, or the cells of a mask in memory).
    extents : dict of int to set of int
        Axes whose extent was observed.
    names : dict of (int, str) to int or None
        What each (parent, name) was found to be.
    listings : set of int
        Groups whose members were listed.
    attributes : set of (int, str or None)
        Attribute keys read; None: all keys of the node.
    paths : dict of int to str
        What the nodes were called, for messages.
    """

    cells: dict[int, list[ReadCells]] = field(default_factory=dict)
    extents: dict[int, set[int]] = field(default_factory=dict)
    names: dict[tuple[int, str], int | None] = field(default_factory=dict)
    listings: set[int] = field(default_factory=set)
    attributes: set[tuple[int, str | None]] = field(default_factory=set)
    paths: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReadCells:
    """A region that was read: a box, and where it is none, the cells of it in packed bits (C order)."""

    box: Box
    mask: bytes | None = None


@dataclass(frozen=True, slots=True)
class SegmentEdit:
    """A file that was announced and is now complete and synced."""

    uuid: bytes
    size: int


@dataclass(frozen=True, slots=True)
class BaseEdit:
    """The whole state of one partition at `version`, made by compaction."""

    node: int
    partition: bytes
    branch: int
    version: int
    uuid: bytes
    fragment: Fragment


@dataclass(frozen=True, slots=True)
class LeaseCheck:
    """The lease under which a base was made: published only while it still holds."""

    name: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of the store. See the modules that make them: transaction, store, compaction.rewrite."""

    txid: bytes = b""
    branch: int | None = None
    branch_name: str = "main"
    base: int = 0
    parent: int = 0  # the newest commit of the branch at the base
    author: str | None = None
    message: str | None = None
    properties: str | None = None
    overwrite: bool = False
    nodes: tuple[NodeEdit, ...] = ()
    attributes: tuple[AttributeEdit, ...] = ()
    arrays: tuple[ArrayEdit, ...] = ()
    refs: tuple[RefEdit, ...] = ()
    reads: Reads | None = None
    blob: tuple[bytes, bytes] | None = None
    segments: tuple[SegmentEdit, ...] = ()
    bytes_written: int = 0
    bases: tuple[BaseEdit, ...] = ()
    lease: LeaseCheck | None = None
