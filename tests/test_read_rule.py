"""The read rule, simulated: 1-D histories of one array against a list of states.

docs/decisions/0001-the-read-rule.md says what the rules are and why. Here they stand as plain
functions, which the index mirrors; under them a store in miniature whose actors interleave and
die; and an oracle that replays every commit naively and keeps one state a branch and version.
A planted fault replaces one rule at a time, to prove that the simulation would see it.

``READ_RULE_HISTORIES`` sets how many random histories are run. A failure names its seed;
``Simulation(seed).run()`` runs it again.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import pytest

Kind = Literal["set", "fill", "add", "max"]
Position = tuple[int, int]  # (version, rank): the order in which everything is applied
Root = tuple[int, int]  # (branch, version): a state that somebody may read
Lineage = tuple[Root, ...]  # (branch, up to version), the nearest branch first

MAIN = 0
WHOLE = -1  # the partition of rows that are read with every partition
CHUNK, PARTITION, LONGEST = 3, 6, 17
PARTITIONS = range(-(-LONGEST // PARTITION))
LAST_RANK = 1 << 31  # a base holds every rank of its version
BEGINNING: Position = (0, -1)
FILL_VALUE = 0.3

# ------------------------------------------------------------------------------------- rows


@dataclass(frozen=True, slots=True)
class Branch:
    parent: int | None
    fork: int
    created: int
    deleted: int | None = None


class Tile(NamedTuple):
    """Bytes of the cells ``lo <= i < hi``, stored with padding as ``frame_lo <= i < frame_hi``."""

    lo: int
    hi: int
    frame_lo: int
    frame_hi: int
    segment: int
    slot: int


@dataclass(slots=True, eq=False)
class Fragment:
    partition: int
    branch: int
    version: int
    rank: int
    kind: Kind
    masked: bool
    lo: int
    hi: int
    value: float | None
    tiles: tuple[Tile, ...] | None  # None: the bytes have been vacuumed, the row is left for conflict checks

    @property
    def position(self) -> Position:
        return self.version, self.rank


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """The whole state of one partition as chunk tiles; None: a chunk that is all fill."""

    partition: int
    branch: int
    version: int
    tiles: tuple[Tile | None, ...]

    @property
    def position(self) -> Position:
        return self.version, LAST_RANK


class Shape(NamedTuple):
    version: int
    rank: int
    extent: int
    branch: int


class TagRow(NamedTuple):
    """What a tag meant from a version on; None: nothing, it was deleted."""

    name: str
    version: int
    target: Root | None


class Shown(NamedTuple):
    """A fragment and the cells of it that show in one partition: never empty."""

    row: Fragment
    lo: int
    hi: int


Fragments = Mapping[tuple[int, int], Sequence[Fragment]]  # by (partition, branch), in (version, rank) order
Bases = Mapping[tuple[int, int], Mapping[int, Base]]  # by (partition, branch), then by version

# ------------------------------------------------------------------------------------ rules


def lineage(branches: Mapping[int, Branch], branch: int, version: int) -> Lineage:
    """The (branch, up to version) pairs that are seen from `version` of `branch`, nearest first."""
    links = [(branch, version)]
    parent = branches[branch].parent
    while parent is not None:
        version = min(version, branches[branch].fork)
        branch = parent
        links.append((branch, version))
        parent = branches[branch].parent
    return tuple(links)


def visible(line: Lineage, branch: int, version: int) -> bool:
    """Whether a row (fragment, base or shape) of `branch` at `version` is seen on the lineage."""
    return any(branch == link and version <= upto for link, upto in line)


def shapes_for(shapes: Iterable[Shape], line: Lineage) -> list[Shape]:
    """The visible rows of the shape log in order (version, rank)."""
    return sorted(row for row in shapes if visible(line, row.branch, row.version))


def extent_before(log: Sequence[Shape], position: Position) -> int:
    """The extent in force just before `position`."""
    return next((row.extent for row in reversed(log) if (row.version, row.rank) < position), 0)


def clip_for(log: Sequence[Shape], position: Position, lo: int, hi: int) -> tuple[int, int]:
    """The part of ``lo <= i < hi``, written at `position`, inside every shape recorded after it."""
    later = [row.extent for row in log if (row.version, row.rank) > position]
    return lo, max(lo, min([hi, *later]))


def base_for(bases: Bases, line: Lineage, partition: int) -> Base | None:
    """The newest base on the lineage; of two at one version, that of the nearest branch."""
    best: Base | None = None
    for branch, upto in line:
        for version, base in bases.get((partition, branch), {}).items():
            if version <= upto and (best is None or version > best.version):
                best = base
    return best


def covering_fill(fragments: Fragments, log: Sequence[Shape], line: Lineage) -> Position:
    """Where the newest visible WHOLE fill stands that covers all of the extent then in force.

    A fill staged as the whole may land after somebody's append and cover less: its clip is
    asked, never its partition key.
    """
    rows = [
        row.position
        for branch, upto in line
        for row in fragments.get((WHOLE, branch), ())
        if row.version <= upto
        and row.kind == "fill"
        and not row.masked
        and row.lo == 0
        and row.hi >= extent_before(log, row.position)
    ]
    return max(rows, default=BEGINNING)


def floor_for(
    fragments: Fragments, bases: Bases, log: Sequence[Shape], line: Lineage, partition: int
) -> tuple[Position, Base | None]:
    """Where a read of `partition` starts: a position, below which nothing matters, and the base if it is one."""
    base = base_for(bases, line, partition)
    fill = covering_fill(fragments, log, line)
    if base is not None and base.position > fill:
        return base.position, base
    return fill, None


def fragments_for(
    fragments: Fragments, log: Sequence[Shape], line: Lineage, partition: int, floor: Position
) -> list[Shown]:
    """What is applied on top of the floor, in order, each cut to what shows of it."""
    first, last = partition * PARTITION, (partition + 1) * PARTITION
    found = []
    for branch, upto in line:
        for key in (partition, WHOLE):
            for row in fragments.get((key, branch), ()):
                if row.version <= upto and row.position >= floor:
                    lo, hi = clip_for(log, row.position, max(row.lo, first), min(row.hi, last))
                    if lo < hi:
                        found.append(Shown(row, lo, hi))
    return sorted(found, key=lambda shown: shown.row.position)


def retained_roots(
    head: int, horizon: int, branches: Mapping[int, Branch], tags: Sequence[TagRow], pins: Iterable[Root]
) -> set[Root]:
    """Every (branch, version) that must stay readable."""
    roots = set(pins)
    for number, branch in branches.items():
        # The version of a deletion itself is the first at which the branch is not there.
        last = head if branch.deleted is None else branch.deleted - 1
        roots.update((number, version) for version in range(max(horizon, branch.created), last + 1))
        if branch.deleted is None and branch.parent is not None:
            roots.add((branch.parent, branch.fork))
    until: dict[str, int] = {}
    for name, version, target in reversed(tags):
        # In force at some version of the window: the next row of that name lies above the horizon.
        if target is not None and until.get(name, head + 1) > horizon:
            roots.add(target)
        until[name] = version
    return roots


def needed(
    fragments: Fragments, bases: Bases, shapes: Sequence[Shape], lines: Iterable[Lineage]
) -> tuple[set[Fragment], set[Base]]:
    """The fragments and bases that a read of some root uses: all others are garbage."""
    rows: set[Fragment] = set()
    used: set[Base] = set()
    for line in lines:
        log = shapes_for(shapes, line)
        for partition in PARTITIONS:
            floor, base = floor_for(fragments, bases, log, line, partition)
            if base is not None:
                used.add(base)
            rows.update(shown.row for shown in fragments_for(fragments, log, line, partition, floor))
    return rows, used


def base_key(fragments: Fragments, log: Sequence[Shape], line: Lineage, partition: int) -> Root | None:
    """The branch and version under which compaction publishes: those of the newest row that it folds in.

    A shrink counts, a grow does not: it changes no cell of the partition. So every version from
    that row on can use the base, racing compactions meet under one key, and a branch without
    commits of its own names the branch that it inherits from.
    """
    rows = [(row.version, row.branch) for key in (partition, WHOLE) for row in _on(fragments, key, line)]
    rows += [(b.version, b.branch) for a, b in itertools.pairwise(log) if b.extent < a.extent]
    if not rows:
        return None
    version, branch = max(rows)
    return branch, version


def _on(fragments: Fragments, partition: int, line: Lineage) -> Iterator[Fragment]:
    for branch, upto in line:
        yield from (row for row in fragments.get((partition, branch), ()) if row.version <= upto)


# ------------------------------------------------------------------------- a store in miniature

Fault = Literal[
    "",
    "retired marks",
    "base above the fork",
    "shapes without rank",
    "accumulates folded without the base",
    "a whole fill is taken to cover a grown array",
    "vacuum forgets what branches inherit",
    "vacuum ignores fork points",
    "vacuum ignores pins",
    "vacuum ignores moved tags",
    "vacuum ignores deleted branches",
    "vacuum ignores the state at the horizon",
    "vacuum sweeps live intents",
    "vacuum deletes rows above the conflict horizon",
    "vacuum drops masks",
    "publication trusts its plan",
    "racing bases: the last wins",
    "stale tiles taken over",
]


class MissingBytesError(Exception):
    """The tiles of a row are gone."""


class Refused(Exception):
    """The store answers no, and has changed nothing."""


@dataclass(slots=True)
class Segment:
    state: Literal["intent", "live", "doomed"]
    holder: int
    refs: int = 0  # rows of fragments and bases that point here
    tiles: list[tuple[float | None, ...]] = field(default_factory=list)


class Op(NamedTuple):
    """One staged operation: "resize" to `hi`, "append" of values, or a kind of fragment."""

    what: Kind | Literal["resize", "append"]
    lo: int
    hi: int
    values: tuple[float | None, ...] = ()
    value: float | None = None
    whole: bool = False
    tiles: tuple[Tile, ...] = ()


@dataclass(slots=True, eq=False)
class Transaction:
    holder: int
    branch: int
    base: int
    extent: int
    ops: list[Op] = field(default_factory=list)
    segment: int | None = None


@dataclass(slots=True, eq=False)
class Compaction:
    """A plan made at `root`, which it pins; what it reads was loaded then and may be stale."""

    holder: int
    root: Root
    partition: int
    key: Root
    base: Base | None
    base_hi: int
    shown: list[Shown]
    segment: int | None = None
    tiles: tuple[Tile | None, ...] = ()


Cells = tuple[Kind, frozenset[int]]


class Store:
    """The index and the segments, and beside them the oracle."""

    def __init__(self, fault: Fault = "", extent: int = 10) -> None:
        self.fault = fault
        self.head = self.horizon = self.conflict_horizon = 1
        self.branches = {MAIN: Branch(None, 0, 1)}
        self.tags: list[TagRow] = []
        self.pins: dict[int, Root] = {}
        self.transactions: dict[int, Transaction] = {}
        self.shapes = [Shape(1, 0, extent, MAIN)]
        self.fragments: dict[tuple[int, int], list[Fragment]] = {}
        self.bases: dict[tuple[int, int], dict[int, Base]] = {}
        self.segments: dict[int, Segment] = {}
        self.holders: set[int] = set()
        self.serial = 0
        self.retired: dict[Fragment, int] = {}  # only for the fault of that name
        # The oracle: states by (branch, version), and the exact cells of every commit.
        self.current = {MAIN: [FILL_VALUE] * extent}
        self.states: dict[Root, tuple[float, ...]] = {(MAIN, 1): tuple(self.current[MAIN])}
        self.written: dict[tuple[int, int, int], Cells] = {}  # by (branch, version, rank)

    # -- names and versions

    def new(self) -> int:
        self.serial += 1
        return self.serial

    def hold(self) -> int:
        holder = self.new()
        self.holders.add(holder)
        return holder

    def release(self, holder: int) -> None:
        """The holder ends or dies: the store does not learn which."""
        self.holders.discard(holder)
        self.pins.pop(holder, None)
        self.transactions.pop(holder, None)

    def live(self) -> list[int]:
        return [number for number, branch in self.branches.items() if branch.deleted is None]

    def roots(self) -> set[Root]:
        return retained_roots(self.head, self.horizon, self.branches, self.tags, self.pins.values())

    def line(self, root: Root) -> Lineage:
        return lineage(self.branches, *root)

    def _advance(self) -> int:
        self.head += 1
        return self.head

    def _settle(self) -> None:
        for number in self.live():
            self.states[number, self.head] = tuple(self.current[number])

    # -- branches, tags and pins

    def fork(self, root: Root) -> int:
        number = self.new()
        version = self._advance()
        self.branches[number] = Branch(root[0], root[1], version)
        self.current[number] = list(self.states[root])
        self._settle()
        return number

    def delete_branch(self, number: int) -> None:
        old = self.branches[number]
        self.branches[number] = Branch(old.parent, old.fork, old.created, self._advance())
        self._settle()

    def tag(self, name: str, target: Root | None) -> None:
        self.tags.append(TagRow(name, self._advance(), target))
        self._settle()

    def pin(self, root: Root) -> int:
        # One step here. In the index: pin first, then read the horizons, or vacuum may pass between.
        if root not in self.roots():
            raise Refused("expired")
        holder = self.hold()
        self.pins[holder] = root
        return holder

    # -- reading

    def fetch(self, tile: Tile) -> tuple[float | None, ...]:
        if tile.segment not in self.segments:
            raise MissingBytesError(f"segment {tile.segment} is gone")
        return self.segments[tile.segment].tiles[tile.slot]

    def load(self, root: Root, partition: int) -> tuple[Base | None, int, list[Shown]]:
        """The rows that a read of one partition uses: the base, where it is cut, the fragments."""
        line = self.line(root)
        log = shapes_for(self.shapes, line)
        floor, base = floor_for(self.fragments, self.bases, log, line, partition)
        first, last = partition * PARTITION, (partition + 1) * PARTITION
        if self.fault == "base above the fork":
            base = base_for(self.bases, tuple((branch, root[1]) for branch, _ in line), partition)
            floor = floor if base is None else base.position
        elif self.fault == "a whole fill is taken to cover a grown array":
            floor = max([floor, *(row.position for row in _on(self.fragments, WHOLE, line))])
            base = None if base is None or base.position < floor else base
        shown = fragments_for(self.fragments, log, line, partition, floor)
        if self.fault == "retired marks":
            shown = [s for s in shown if self.retired.get(s.row, root[1] + 1) > root[1]]
        elif self.fault == "shapes without rank":
            cut = [(s.row, max(s.row.lo, first), min(s.row.hi, last)) for s in shown]
            shown = [Shown(row, *clip_for(log, (row.version, LAST_RANK), lo, hi)) for row, lo, hi in cut]
        base_hi = clip_for(log, base.position, first, last)[1] if base is not None else first
        return base, base_hi, shown

    def merge(self, partition: int, base: Base | None, base_hi: int, shown: list[Shown]) -> list[float]:
        """The cells of a partition from the rows that were loaded for it."""
        origin = partition * PARTITION
        cells = [FILL_VALUE] * PARTITION
        for tile in base.tiles if base is not None else ():
            if tile is not None and tile.lo < base_hi:
                for i, value in enumerate(self.fetch(tile)[: base_hi - tile.lo], tile.lo - origin):
                    assert value is not None
                    cells[i] = value
        pending: dict[int, float] = {}
        for row, lo, hi in shown:
            for i, value in self.values_of(row, lo, hi):
                i -= origin
                if row.kind == "add" and self.fault == "accumulates folded without the base":
                    pending[i] = pending.get(i, 0.0) + value
                elif row.kind == "add":
                    cells[i] += value
                elif row.kind == "max":
                    cells[i] = max(cells[i], value)
                else:
                    cells[i] = value
                    pending.pop(i, None)
        for i, value in pending.items():
            cells[i] += value
        return cells

    def values_of(self, row: Fragment, lo: int, hi: int) -> Iterator[tuple[int, float]]:
        """The cells of a fragment in ``lo <= i < hi``; those outside of its mask are left out."""
        if row.tiles is None:
            raise MissingBytesError(f"the row at {row.position} has lost its bytes")
        if row.value is not None:
            yield from ((i, row.value) for i in range(lo, hi))
        for tile in row.tiles:
            first, last = max(lo, tile.lo), min(hi, tile.hi)
            if first < last:
                values = self.fetch(tile)[first - tile.frame_lo : last - tile.frame_lo]
                yield from ((i, value) for i, value in enumerate(values, first) if value is not None)

    def read(self, root: Root) -> tuple[float, ...]:
        extent = extent_before(shapes_for(self.shapes, self.line(root)), (root[1], LAST_RANK))
        cells: list[float] = []
        for partition in range(-(-extent // PARTITION)):
            cells += self.merge(partition, *self.load(root, partition))
        return tuple(cells[:extent])

    # -- transactions

    def begin(self, branch: int, base: int | None = None) -> Transaction:
        # The base is the head of the store, not the branch's newest commit, which may lie far
        # below the conflict horizon although nothing has happened since.
        base = self.head if base is None else base
        holder = self.pin((branch, base))
        if base < self.conflict_horizon:
            self.release(holder)
            raise Refused("the base lies below the conflict horizon")
        tx = Transaction(holder, branch, base, len(self.states[branch, base]))
        self.transactions[holder] = tx
        return tx

    def _announce(self, holder: int) -> int:
        number = self.new()
        self.segments[number] = Segment("intent", holder)
        return number

    def _put(self, segment: int, values: Iterable[float | None]) -> int:
        """Write a tile; a doomed or deleted segment swallows it, as an unlinked file would."""
        if segment not in self.segments:
            return 0
        self.segments[segment].tiles.append(tuple(values))
        return len(self.segments[segment].tiles) - 1

    def stage(self, tx: Transaction, op: Op) -> None:
        tiles = []
        if op.values:
            if tx.segment is None:
                tx.segment = self._announce(tx.holder)
            for lo in sorted({op.lo, *range(-(-op.lo // CHUNK) * CHUNK, op.hi, CHUNK)}):
                chunk = lo // CHUNK * CHUNK
                hi = min(op.hi, chunk + CHUNK)
                values = list(op.values[lo - op.lo : hi - op.lo])
                frame_hi = hi
                if op.what == "set" and lo == chunk and hi == tx.extent:
                    frame_hi = chunk + CHUNK  # the array's edge: padded to a whole chunk, and recorded so
                    values += [FILL_VALUE] * (frame_hi - hi)
                tiles.append(Tile(lo, hi, lo, frame_hi, tx.segment, self._put(tx.segment, values)))
        if op.what in ("resize", "append"):
            tx.extent = op.hi
        tx.ops.append(op._replace(tiles=tuple(tiles)))

    def since(self, tx: Transaction) -> dict[tuple[int, int, int], Cells]:
        """What others wrote since the base of `tx`, as the index still knows it."""
        found: dict[tuple[int, int, int], Cells] = {}
        line = self.line((tx.branch, self.head))
        for partition in (*PARTITIONS, WHOLE):
            for row in _on(self.fragments, partition, line):
                if row.version > tx.base:
                    cells: Iterable[int] = range(row.lo, row.hi)
                    if row.masked and row.tiles is not None:
                        cells = (i for i, _ in self.values_of(row, row.lo, row.hi))
                    key = row.branch, row.version, row.rank
                    found[key] = row.kind, found.get(key, (row.kind, frozenset()))[1] | frozenset(cells)
        return found

    def truly_since(self, tx: Transaction) -> dict[tuple[int, int, int], Cells]:
        """What others wrote since the base of `tx`, by the oracle."""
        line = self.line((tx.branch, self.head))
        return {key: cells for key, cells in self.written.items() if key[1] > tx.base and visible(line, key[0], key[1])}

    def conflicts(self, tx: Transaction) -> bool:
        extent = len(self.states[tx.branch, tx.base])
        theirs = self.since(tx)
        assert theirs == self.truly_since(tx), "the conflict check of an open transaction is blind"
        line = self.line((tx.branch, self.head))
        their_shapes = [row.extent for row in shapes_for(self.shapes, line) if row.version > tx.base]
        my_shapes = [op.hi for op in tx.ops if op.what == "resize"]
        their_cut, my_cut = min(their_shapes, default=LONGEST), min(my_shapes, default=LONGEST)
        if my_shapes and their_shapes and min(my_cut, their_cut) < extent:
            return True  # grow meets grow peacefully, nothing else does
        for op in tx.ops:
            if op.what in ("resize", "append"):
                continue
            mine = {i for i, value in enumerate(op.values, op.lo) if value is not None} or set(range(op.lo, op.hi))
            if any(i >= their_cut for i in mine):
                return True
            for kind, cells in theirs.values():
                if mine & cells and not (kind == op.what and kind in ("add", "max")):
                    return True
        return any(i >= my_cut for _, cells in theirs.values() for i in cells)

    def commit(self, tx: Transaction) -> int:
        """One step under the store's lock: check, place, insert, move the head."""
        try:
            if self.branches[tx.branch].deleted is not None:
                raise Refused("the branch is gone")
            if tx.segment is not None and (
                tx.segment not in self.segments or self.segments[tx.segment].state != "intent"
            ):
                assert tx.holder not in self.holders, "vacuum made the commit of a live writer fail"
                raise Refused("the intent was swept")
            if tx.base < self.conflict_horizon:
                raise Refused("the base lies below the conflict horizon")
            if self.conflicts(tx):
                raise Refused("conflict")
            state = self.current[tx.branch]
            if len(state) + sum(len(op.values) for op in tx.ops if op.what == "append") > LONGEST:
                raise Refused("as long as this simulation goes")
            grew = any(row.version > tx.base for row in shapes_for(self.shapes, self.line((tx.branch, self.head))))
            version = self._advance()
            for rank, op in enumerate(tx.ops):
                self._apply(tx, op, version, 2 * rank, grew)
            if tx.segment is not None:
                self.segments[tx.segment].state = "live"
        finally:
            self.release(tx.holder)
        self._settle()
        return version

    def _apply(self, tx: Transaction, op: Op, version: int, rank: int, grew: bool) -> None:
        state = self.current[tx.branch]
        if op.what in ("resize", "append"):
            end = len(state)
            # A grow that meets a grow takes the larger: a smaller row would cut the other's cells.
            extent = end + len(op.values) if op.what == "append" else max(end, op.hi) if grew else op.hi
            self.shapes.append(Shape(version, rank, extent, tx.branch))
            state[extent:] = []
            state.extend([FILL_VALUE] * (extent - len(state)))
            if op.what == "resize":
                return
            by = end - op.lo
            tiles = tuple(t._replace(lo=t.lo + by, hi=t.hi + by, frame_lo=t.frame_lo + by) for t in op.tiles)
            tiles = tuple(t._replace(frame_hi=t.frame_hi + by) for t in tiles)
            op, rank = op._replace(what="set", lo=end, hi=extent, tiles=tiles), rank + 1
        kind: Kind = op.what  # type: ignore[assignment]  # the others are dealt with above
        masked = None in op.values
        whole = range(WHOLE, WHOLE + 1)
        for partition in whole if op.whole else range(op.lo // PARTITION, -(-op.hi // PARTITION)):
            lo = op.lo if op.whole else max(op.lo, partition * PARTITION)
            hi = op.hi if op.whole else min(op.hi, (partition + 1) * PARTITION)
            mine = tuple(tile for tile in op.tiles if tile.lo < hi and lo < tile.hi)  # a tile may lie in two rows
            row = Fragment(partition, tx.branch, version, rank, kind, masked, lo, hi, op.value, mine)
            self.fragments.setdefault((partition, tx.branch), []).append(row)
            self._count(mine, 1)
        # The oracle.
        cells = op.values or (op.value,) * (op.hi - op.lo)
        for i, value in enumerate(cells, op.lo):
            if value is not None:
                state[i] = state[i] + value if kind == "add" else max(state[i], value) if kind == "max" else value
        exact = frozenset(i for i, value in enumerate(cells, op.lo) if value is not None)
        self.written[tx.branch, version, rank] = kind, exact

    def _count(self, tiles: Iterable[Tile | None], by: int) -> None:
        for number in {tile.segment for tile in tiles if tile is not None}:
            self.segments[number].refs += by

    # -- compaction: plan, write, publish

    def plan(self, root: Root, partition: int, key: Root | None = None) -> Compaction:
        """Load what a base of `partition` at `root` needs; `key` only to publish under an unusual one."""
        line = self.line(root)
        newest = base_key(self.fragments, shapes_for(self.shapes, line), line, partition)
        base, base_hi, shown = self.load(root, partition)
        if newest is None or (base is not None and base.version >= newest[1]):
            raise Refused("nothing to fold")
        return Compaction(self.pin(root), root, partition, key or newest, base, base_hi, shown)

    def write(self, task: Compaction, rewrite: bool = False) -> None:
        """Take over clean tiles by place, merge and write the others, or all of them; not published yet."""
        task.segment = self._announce(task.holder)
        cells: list[float] = []
        tiles: list[Tile | None] = []
        origin = task.partition * PARTITION
        for lo in range(origin, origin + PARTITION, CHUNK):
            below = task.base.tiles[(lo - origin) // CHUNK] if task.base is not None else None
            clean, tile = self._clean(task, below, lo)
            if rewrite or not clean:
                cells = cells or self.merge(task.partition, task.base, task.base_hi, task.shown)
                slot = self._put(task.segment, cells[lo - origin : lo - origin + CHUNK])
                tile = Tile(lo, lo + CHUNK, lo, lo + CHUNK, task.segment, slot)
            tiles.append(tile)
        task.tiles = tuple(tiles)

    def _clean(self, task: Compaction, below: Tile | None, lo: int) -> tuple[bool, Tile | None]:
        """Whether one stored tile is, padding and all, the whole chunk at `lo`; and which."""
        hi = lo + CHUNK
        touching = [shown for shown in task.shown if shown.lo < hi and lo < shown.hi]
        if not touching:
            return below is None or hi <= task.base_hi or self.fault == "stale tiles taken over", below
        row, first, last = touching[-1]
        if row.kind != "set" or row.masked:
            return False, None
        for tile in row.tiles or ():
            framed = (tile.frame_lo, tile.frame_hi) == (lo, hi)
            # A cell that a shrink has cut away is in the bytes still: such a tile is dirty.
            uncut = (first <= tile.lo and tile.hi <= last) or self.fault == "stale tiles taken over"
            alone = tile.hi == hi or (len(touching) == 1 and below is None)
            if framed and uncut and alone:
                return True, tile._replace(hi=hi)
        return False, None

    def publish(self, task: Compaction) -> None:
        """One step under the store's lock. A refusal leaves an intent, which the next vacuum takes."""
        self.release(task.holder)
        assert task.segment is not None
        others = {tile.segment for tile in task.tiles if tile is not None} - {task.segment}
        if task.segment not in self.segments or self.segments[task.segment].state != "intent":
            raise Refused("the intent was swept")
        if self.fault != "publication trusts its plan" and any(
            number not in self.segments or self.segments[number].state != "live" for number in others
        ):
            # The pin keeps the state, not the rows that were loaded: a racing base may have made
            # them garbage, and what they pointed to.
            raise Refused("a tile that was taken over is gone")
        rows = self.bases.setdefault((task.partition, task.key[0]), {})
        if task.key[1] in rows and self.fault != "racing bases: the last wins":
            raise Refused("somebody was first")
        rows[task.key[1]] = Base(task.partition, *task.key, task.tiles)
        self.segments[task.segment].state = "live"
        self._count((tile for tile in task.tiles if tile is not None and tile.segment in self.segments), 1)
        if self.fault == "retired marks":
            for shown in task.shown:
                self.retired.setdefault(shown.row, task.root[1])

    # -- retention

    def expire(self, horizon: int) -> None:
        self.horizon = max(self.horizon, min(horizon, self.head))

    def doom(self) -> None:
        """The first phase of vacuum, one step under the store's lock: rows let go, segments doomed."""
        pins = () if self.fault == "vacuum ignores pins" else self.pins.values()
        branches = {
            number: Branch(b.parent, b.fork, b.created, b.deleted)
            for number, b in self.branches.items()
            if b.deleted is None or self.fault != "vacuum ignores deleted branches"
        }
        tags = self.tags
        if self.fault == "vacuum ignores moved tags":
            tags = list({row.name: row for row in tags}.values())
        roots = retained_roots(self.head, self.horizon, branches, tags, pins)
        if self.fault == "vacuum ignores fork points":
            roots -= {(b.parent or 0, b.fork) for b in self.branches.values() if b.fork < self.horizon}
        elif self.fault == "vacuum ignores the state at the horizon":
            commits = {(branch, version) for branch, version, _ in self.written}
            roots = {root for root in roots if root in commits or root[1] in (self.head, self.branches[root[0]].fork)}
        lines = [self.line(root) for root in roots]
        if self.fault == "vacuum forgets what branches inherit":
            lines = [line[:1] for line in lines]
        rows, used = needed(self.fragments, self.bases, self.shapes, lines)
        oldest = min((tx.base for tx in self.transactions.values()), default=self.horizon)
        self.conflict_horizon = max(self.conflict_horizon, min(self.horizon, oldest))
        for fragments in self.fragments.values():
            for row in fragments.copy():
                if row in rows:
                    continue
                blinding = self.fault == "vacuum deletes rows above the conflict horizon"
                gone = row.version <= self.conflict_horizon or blinding
                # What a mask leaves out must stay known for as long as the row is asked for conflicts.
                if row.tiles is not None and (gone or not row.masked or self.fault == "vacuum drops masks"):
                    self._count(row.tiles, -1)
                    row.tiles = None
                if gone:
                    fragments.remove(row)
        for bases in self.bases.values():
            for base in [base for base in bases.values() if base not in used]:
                self._count(base.tiles, -1)
                del bases[base.version]
        sweeping = self.fault == "vacuum sweeps live intents"
        for segment in self.segments.values():
            dead = segment.state == "intent" and (segment.holder not in self.holders or sweeping)
            if dead or (segment.state == "live" and segment.refs == 0):
                segment.state = "doomed"

    def sweep(self) -> None:
        """The second phase: files first, then their rows; it can stop anywhere and be run again."""
        self.segments = {number: s for number, s in self.segments.items() if s.state != "doomed"}

    # -- what must always hold

    def check(self) -> None:
        """Every retained read, every open transaction's view of what came since, every count."""
        for root in sorted(self.roots()):
            try:
                got: object = self.read(root)
            except MissingBytesError as error:
                got = str(error)
            assert got == self.states[root], f"branch {root[0]} at version {root[1]}"
        for tx in self.transactions.values():
            assert self.since(tx) == self.truly_since(tx), "the conflict check of an open transaction is blind"
        self.check_segments()

    def check_segments(self) -> None:
        refs = dict.fromkeys(self.segments, 0)
        directories: list[Iterable[Tile | None]] = [row.tiles or () for f in self.fragments.values() for row in f]
        directories += [base.tiles for bases in self.bases.values() for base in bases.values()]
        for tiles in directories:
            for number in {tile.segment for tile in tiles if tile is not None}:
                assert number in self.segments, f"a row points to segment {number}, which is gone"
                refs[number] += 1
        for number, segment in self.segments.items():
            assert segment.refs == refs[number], f"segment {number} is counted wrongly"
            assert segment.state == "live" or not segment.refs, f"segment {number} is in use and {segment.state}"


# -------------------------------------------------------------------------------- random histories

NUMBERS = (0.1, 0.2, 0.7, 1e16, -1e16, 3.0, 1 / 3)  # whose sums depend on the order


class Simulation:
    """One random history. Actors are interleaved step by step, and any of them may die at any step.

    A third of the histories races compactions and vacuums over little, a third resizes much.
    """

    def __init__(self, seed: int, fault: Fault = "", steps: int = 45) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.steps = steps
        self.racing, self.elastic = seed % 3 == 1, seed % 3 == 2
        self.store = Store(fault, extent=self.random.choice((4, 8, 10)))
        self.open: list[Transaction] = []
        self.tasks: list[Compaction] = []
        self.readers: list[tuple[int, Root, list[tuple[Base | None, int, list[Shown]]]]] = []

    def run(self) -> None:
        actions: list[tuple[Callable[[], None], int]] = [
            (self.write, 30),
            (self.begin, 14),
            (self.commit, 14),
            (self.plan, 60 if self.racing else 16),
            (self.work, 80 if self.racing else 22),
            (self.die, 3),
            (self.fork, 1 if self.racing else 4),
            (self.delete_branch, 1),
            (self.tag, 1 if self.racing else 7),
            (self.read, 2 if self.racing else 6),
            (self.expire, 20 if self.racing else 6),
            (self.vacuum, 20 if self.racing else 9),
            (self.store.sweep, 3),
        ]
        calls, weights = zip(*actions, strict=True)
        try:
            for action in self.random.choices(calls, weights, k=self.steps):
                try:
                    action()
                except Refused:
                    pass
            self.store.check()
            self.finish()
        except (AssertionError, MissingBytesError) as error:
            raise AssertionError(f"seed {self.seed}: {error}") from error

    def finish(self) -> None:
        """When every actor is gone, two vacuums at the head leave what the roots need and nothing else."""
        for holder in list(self.store.holders):
            self.store.release(holder)
        self.store.expire(self.store.head)
        for _ in range(2):
            self.store.doom()
            self.store.sweep()
        self.store.check()
        assert all(segment.refs for segment in self.store.segments.values()), "vacuum left bytes that nobody needs"

    def root(self) -> Root:
        return self.random.choice(sorted(self.store.roots()))

    def op(self, extent: int, plain: bool) -> Op:
        what = self.random.choice(("set",) * 4 + ("mask", "fill", "whole", "add", "add", "max", "resize", "append"))
        if self.elastic and not plain and self.random.random() < 0.4:
            what = "resize"
        lo = self.random.randint(0, max(0, extent - 1))
        hi = min(extent, lo + self.random.randint(1, 8))
        numbers = self.random.choices(NUMBERS, k=8)
        if what == "resize" and not plain:
            return Op("resize", 0, self.random.randint(0, LONGEST - 3))
        if what == "append" and plain and extent + 4 < LONGEST:
            block = tuple(numbers[: self.random.randint(1, 4)])
            return Op("append", extent, extent + len(block), block)
        if what == "whole" or lo >= hi:
            return Op("fill", 0, extent, value=numbers[0], whole=True)
        if what == "fill":
            return Op("fill", lo, hi, value=numbers[0])
        if what == "mask":
            values = tuple(number if self.random.random() < 0.5 else None for number in numbers[: hi - lo])
            return Op("set" if numbers[0] < 1 else "add", lo, hi, (*values[:-1], numbers[0]))
        if what in ("add", "max"):
            return Op("add" if what == "add" else "max", lo, hi, tuple(numbers[: hi - lo]))
        if self.random.random() < 0.6:  # whole chunks, so that there is something to take over
            lo, hi = lo // CHUNK * CHUNK, min(extent, -(-hi // CHUNK) * CHUNK)
        return Op("set", lo, hi, tuple((numbers * 2)[: hi - lo]))

    def begin(self) -> None:
        branch, base = self.random.choice(self.store.live()), None
        if self.random.random() < 0.2:
            branch, base = self.root()
        tx = self.store.begin(branch, base)
        self.open.append(tx)
        # Appends float and resizes do not: never both in one transaction.
        plain = self.random.random() < (0.2 if self.elastic else 0.7)
        for _ in range(self.random.choice((1, 1, 2, 5))):
            if plain and tx.ops and tx.ops[-1].what == "append":
                break
            self.store.stage(tx, self.op(tx.extent, plain))

    def commit(self) -> None:
        if self.open:
            self.store.commit(self.open.pop(self.random.randrange(len(self.open))))

    def write(self) -> None:
        self.begin()
        self.store.commit(self.open.pop())

    def plan(self) -> None:
        if self.racing:
            self.store.tag("elsewhere", None)  # the head moves on, this array does not
        root = self.root()
        if self.random.random() < 0.6:
            root = self.random.choice(self.store.live()), self.store.head
        key: Root | None = None
        partition = 0 if self.racing else self.random.choice((0, 0, *PARTITIONS))
        if self.racing and self.tasks and self.random.random() < 0.7:
            other = self.random.choice(self.tasks)
            root, partition = other.root, other.partition
        if self.random.random() < (0.7 if self.racing else 0.4):
            # Whatever key names the same state must do: the branch itself, and any version since the newest row.
            line = self.store.line(root)
            newest = base_key(self.store.fragments, shapes_for(self.store.shapes, line), line, partition)
            key = root[0], self.random.randint(newest[1], root[1]) if newest else root[1]
        self.tasks.append(self.store.plan(root, partition, key))

    def work(self) -> None:
        """The next step of a compaction, of any age."""
        if not self.tasks:
            return
        task = self.random.choice((*self.tasks, self.tasks[-1]))
        if task.segment is None:
            try:
                self.store.write(task, rewrite=self.random.random() < 0.4)
            except MissingBytesError:  # what it loaded became garbage through a racing base: it starts again
                self.tasks.remove(task)
                if task.holder in self.store.holders:
                    assert self.store.read(task.root) == self.store.states[task.root]
                self.store.release(task.holder)
        else:
            self.tasks.remove(task)
            self.store.publish(task)

    def die(self) -> None:
        """A writer or a compaction dies, or is taken for dead and goes on all the same."""
        actors: list[Transaction | Compaction] = [*self.open, *self.tasks]
        if actors:
            actor = self.random.choice(actors)
            self.store.release(actor.holder)
            if self.random.random() < 0.5:
                return
            if isinstance(actor, Transaction):
                self.open.remove(actor)
            else:
                self.tasks.remove(actor)

    def fork(self) -> None:
        if len(self.store.branches) < 6:
            self.store.fork(self.root())

    def delete_branch(self) -> None:
        others = self.store.live()[1:]
        if others:
            self.store.delete_branch(self.random.choice(others))

    def tag(self) -> None:
        root = min(self.root(), self.root(), key=lambda root: root[1])  # old versions, which little else keeps
        self.store.tag("ab"[self.random.random() < 0.3], root if self.random.random() < 0.8 else None)

    def read(self) -> None:
        """A reader pins a root and loads its rows; later it reads by them, or reloads once."""
        store = self.store
        if not self.readers or self.random.random() < 0.5:
            root = self.root()
            self.readers.append((store.pin(root), root, [store.load(root, p) for p in PARTITIONS]))
            return
        holder, root, loaded = self.readers.pop()
        try:
            got = [cell for p in PARTITIONS for cell in store.merge(p, *loaded[p])]
        except MissingBytesError:
            got = list(store.read(root))
        state = store.states[root]
        assert tuple(got[: len(state)]) == state, f"a pinned reader of {root}"
        store.release(holder)

    def expire(self) -> None:
        self.store.expire(self.store.head - (0 if self.racing else self.random.choice((0, 1, 3, 8))))

    def vacuum(self) -> None:
        self.store.doom()
        if self.random.random() < 0.7:
            self.store.sweep()
            self.store.check()


HISTORIES = int(os.environ.get("READ_RULE_HISTORIES", "2000"))
BLOCK = 100


@pytest.mark.parametrize("first", range(0, HISTORIES, BLOCK))
def test_every_retained_read_of_random_histories(first: int) -> None:
    for seed in range(first, first + BLOCK):
        Simulation(seed).run()


@pytest.mark.parametrize("fault", get_args(Fault)[1:])
def test_a_planted_fault_is_seen(fault: Fault) -> None:
    for seed in range(2000):
        try:
            Simulation(seed, fault).run()
        except AssertionError:
            return
    pytest.fail(f"no history shows it: {fault}")


# --------------------------------------------------------------------------------- directed cases


def put(lo: int, *values: float | None, what: Kind = "set") -> Op:
    return Op(what, lo, lo + len(values), values)


def wipe(extent: int, value: float) -> Op:
    return Op("fill", 0, extent, value=value, whole=True)


def resize(extent: int) -> Op:
    return Op("resize", 0, extent)


def commit(store: Store, branch: int, *ops: Op) -> int:
    tx = store.begin(branch)
    for op in ops:
        store.stage(tx, op)
    return store.commit(tx)


def compact(store: Store, root: Root, partition: int = 0) -> Compaction:
    task = store.plan(root, partition)
    store.write(task)
    store.publish(task)
    return task


def vacuum(store: Store) -> None:
    store.doom()
    store.sweep()
    store.check()


def rows(store: Store) -> int:
    return sum(row.tiles is not None for fragments in store.fragments.values() for row in fragments)


F = FILL_VALUE


def test_compaction_of_the_parent_leaves_its_branches_alone() -> None:
    store = Store(extent=6)
    commit(store, MAIN, put(0, 1.0, 2.0))
    branch = store.fork((MAIN, store.head))
    commit(store, MAIN, put(1, 3.0))
    compact(store, (MAIN, store.head))
    assert store.read((branch, store.head)) == (1.0, 2.0, F, F, F, F)
    assert store.load((branch, store.head), 0)[0] is None
    store.expire(store.head)
    vacuum(store)


def test_shrink_compact_grow_on_a_branch_brings_nothing_back() -> None:
    store = Store(extent=6)
    commit(store, MAIN, put(0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    branch = store.fork((MAIN, store.head))
    commit(store, branch, resize(2))
    task = compact(store, (branch, store.head))
    assert task.key[0] == branch, "the shrink is the branch's own, so the base must be"
    commit(store, branch, resize(6))
    assert store.read((branch, store.head)) == (1.0, 2.0, F, F, F, F)
    assert store.read((MAIN, store.head)) == (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    store.check()


def test_one_commit_writes_shrinks_grows_and_writes_again() -> None:
    store = Store(extent=6)
    commit(store, MAIN, put(0, *[1.0] * 6), resize(2), resize(5), put(4, 2.0))
    assert store.read((MAIN, store.head)) == (1.0, 1.0, F, F, 2.0)
    task = compact(store, (MAIN, store.head))
    assert all(tile is not None and tile.segment == task.segment for tile in task.tiles), "cut tiles are dirty"
    store.check()


def test_expiry_does_not_blind_an_open_transaction() -> None:
    store = Store(extent=6)
    old = store.begin(MAIN)
    store.stage(old, put(0, 1.0))
    commit(store, MAIN, put(0, 2.0, None, 2.0))
    compact(store, (MAIN, store.head))
    store.expire(store.head)
    vacuum(store)
    assert store.conflict_horizon == old.base
    with pytest.raises(Refused, match="conflict"):
        store.commit(old)
    vacuum(store)
    assert not any(store.fragments.values())


def test_a_branch_without_commits_shares_the_base_of_what_it_inherited() -> None:
    store = Store(extent=6)
    written = commit(store, MAIN, put(0, 0.1, what="add"))
    first, second = store.fork((MAIN, written)), store.fork((MAIN, written))
    for _ in range(3):
        commit(store, MAIN, put(0, 0.2, what="add"))
    assert compact(store, (first, store.head)).key == (MAIN, written)
    with pytest.raises(Refused, match="nothing to fold"):
        store.plan((second, store.head), 0)
    store.expire(store.head)
    vacuum(store)
    # Its base is the head of the store, though nothing was committed there since the fork.
    tx = store.begin(second)
    store.stage(tx, put(0, 1e16, what="add"))
    store.commit(tx)
    store.check()


def test_of_bases_at_one_version_readers_and_vacuum_choose_the_nearest() -> None:
    store = Store(extent=6)
    written = commit(store, MAIN, put(0, 1.0))
    branch = store.fork((MAIN, written))
    tasks = [store.plan((branch, store.head), 0, key) for key in ((MAIN, written), (branch, written))]
    for task in tasks:
        store.write(task)
        store.publish(task)
    assert store.load((branch, store.head), 0)[0] is store.bases[0, branch][written]
    assert store.load((MAIN, store.head), 0)[0] is store.bases[0, MAIN][written]
    store.check()


def test_a_late_base_serves_only_old_versions() -> None:
    store = Store(extent=6)
    old = commit(store, MAIN, put(0, 1.0))
    commit(store, MAIN, put(0, 2.0))
    store.tag("old", (MAIN, old))
    late = store.plan((MAIN, old), 0)
    new = compact(store, (MAIN, store.head))
    store.expire(store.head)
    vacuum(store)
    store.write(late)
    store.publish(late)
    bases = store.bases[0, MAIN]
    assert store.load((MAIN, store.head), 0)[0] is bases[new.key[1]]
    assert store.load((MAIN, old), 0)[0] is bases[old]
    vacuum(store)
    store.tag("old", None)
    store.expire(store.head)
    vacuum(store)
    assert list(bases) == [new.key[1]]


def test_tiles_taken_over_may_be_gone_when_a_pinned_compaction_publishes() -> None:
    store = Store(extent=6)
    commit(store, MAIN, put(0, 1.0, 1.0, 1.0))
    between = store.head
    commit(store, MAIN, put(3, 2.0, what="add"))
    slow = store.plan((MAIN, store.head), 0)
    store.write(slow)
    assert slow.tiles[0] is not None and slow.tiles[0].segment != slow.segment
    racing = store.plan((MAIN, between), 0)
    store.write(racing, rewrite=True)
    store.publish(racing)
    store.expire(store.head)
    vacuum(store)  # the version that `slow` has pinned is whole, through the other base
    with pytest.raises(Refused, match="taken over"):
        store.publish(slow)
    vacuum(store)
    assert len(store.bases[0, MAIN]) == 1


def test_an_append_straddles_chunks_and_partitions() -> None:
    store = Store(extent=4)
    tx = store.begin(MAIN)
    store.stage(tx, Op("append", 4, 8, (1.0, 2.0, 3.0, 4.0)))  # tiles [4, 6) and [6, 8)
    commit(store, MAIN, Op("append", 4, 5, (9.0,)))
    store.commit(tx)  # placed at [5, 9): the first tile lies in both partitions
    assert rows(store) == 3
    assert store.segments[tx.segment or 0].refs == 2
    for partition in (0, 1):
        compact(store, (MAIN, store.head), partition)
    store.expire(store.head)
    vacuum(store)
    assert rows(store) == 0
    assert store.read((MAIN, store.head)) == (F, F, F, F, 9.0, 1.0, 2.0, 3.0, 4.0)


def test_a_tile_padded_at_the_edge_is_no_whole_chunk_of_a_grown_array() -> None:
    store = Store(extent=5)
    commit(store, MAIN, put(3, 1.0, 2.0))
    commit(store, MAIN, resize(6), put(5, 3.0))
    task = compact(store, (MAIN, store.head))
    assert task.tiles[1] is not None and task.tiles[1].segment == task.segment
    store.check()


def test_a_fill_staged_as_the_whole_does_not_cover_what_was_appended_meanwhile() -> None:
    store = Store(extent=4)
    tx = store.begin(MAIN)
    store.stage(tx, wipe(4, 7.0))
    commit(store, MAIN, Op("append", 4, 6, (1.0, 2.0)))
    store.commit(tx)
    store.expire(store.head)
    vacuum(store)
    assert store.read((MAIN, store.head)) == (7.0, 7.0, 7.0, 7.0, 1.0, 2.0)
    commit(store, MAIN, wipe(6, 8.0))
    store.expire(store.head)
    vacuum(store)
    assert rows(store) == 1, "one fill of the whole frees all that lies below, without compaction"


def test_a_whole_fill_lives_until_every_partition_that_it_shows_in_has_a_newer_base() -> None:
    store = Store(extent=12)
    commit(store, MAIN, wipe(12, 7.0))
    for partition, left in ((0, 1), (1, 0)):
        compact(store, (MAIN, store.head), partition)
        vacuum(store)
        assert rows(store) == left
    assert store.read((MAIN, store.head)) == (7.0,) * 12


def test_a_moved_tag_and_a_deleted_branch_answer_for_as_long_as_the_window_reaches() -> None:
    store = Store(extent=6)
    first = commit(store, MAIN, put(0, 1.0))
    store.tag("t", (MAIN, first))
    branch = store.fork((MAIN, first))
    last = commit(store, branch, put(0, 2.0))
    commit(store, MAIN, put(0, 3.0))
    compact(store, (MAIN, store.head))
    store.tag("t", (MAIN, store.head))
    moved = store.head
    store.delete_branch(branch)
    store.expire(moved - 1)
    vacuum(store)
    assert {(MAIN, first), (branch, moved)} < store.roots()
    assert (branch, last) not in store.roots() and store.read((branch, moved))[0] == 2.0
    store.expire(store.head)
    vacuum(store)
    assert {root for root in store.roots() if root[1] < store.head} == {(MAIN, moved - 1)}
    assert rows(store) == 0


def test_accumulates_fold_from_the_base() -> None:
    store = Store(extent=6)
    commit(store, MAIN, put(0, 1e16))
    for _ in range(2):
        commit(store, MAIN, put(0, 1.0, what="add"))
        compact(store, (MAIN, store.head))
    assert store.read((MAIN, store.head))[0] == (1e16 + 1.0) + 1.0 != 1e16 + (1.0 + 1.0)


def test_a_writer_taken_for_dead_fails_cleanly_and_a_vacuum_may_stop_between_its_phases() -> None:
    store = Store(extent=6)
    tx = store.begin(MAIN)
    store.stage(tx, put(0, 1.0))
    store.release(tx.holder)  # its lease lapses, it goes on
    store.doom()
    with pytest.raises(Refused, match="swept"):
        store.commit(tx)
    vacuum(store)
    assert not store.segments and store.read((MAIN, store.head)) == (F,) * 6
