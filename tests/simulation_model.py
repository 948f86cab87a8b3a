"""What the store should hold, in plain NumPy: the model that ``test_simulation.py`` compares with.

A state is a dictionary of nodes, one NumPy array each. A transaction is a list of effects on states. Committing
applies the effects to the state at the head, once :func:`predict` has said whether the store has to refuse.
Cells written are kept as boolean canvases, larger than any array may grow, so that two sets of cells are compared
with ``&``.
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Coords = tuple[np.ndarray, ...]

#: The largest extents by number of dimensions.
CANVAS: dict[int, tuple[int, ...]] = {0: (), 1: (100,), 2: (36, 36), 3: (12, 12, 12)}

UFUNCS = {"add": np.add, "min": np.minimum, "max": np.maximum}


class Verdict(enum.Enum):
    """Whether a commit has to conflict. MAY: the design leaves it open, so only the effect counts."""

    NO = 0
    MAY = 1
    MUST = 2


@dataclass(frozen=True)
class Spec:
    """How an array is created."""

    dtype: np.dtype[Any]
    fill: Any
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None

    def filled(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array of this dtype that holds nothing but the fill value."""
        values = np.zeros(shape, self.dtype)
        if self.fill is not None:
            values[...] = self.fill
        elif self.dtype.kind in "mM":
            values[...] = "NaT"
        return values


@dataclass
class Node:
    """One array at one version."""

    spec: Spec
    values: np.ndarray
    attrs: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> Node:
        return Node(self.spec, self.values.copy(), dict(self.attrs))


State = dict[str, Node]


def copy_state(state: State) -> State:
    return {name: node.copy() for name, node in state.items()}


@dataclass(frozen=True)
class Cells:
    """Values for cells, in C order of the selection. kind: "set", "add", "min" or "max"."""

    name: str
    kind: str
    coords: Coords
    values: np.ndarray


@dataclass(frozen=True)
class Grow:
    """The end of an axis moves by ``by``: the first half of an append, Cells are the second."""

    name: str
    axis: int
    by: int


@dataclass(frozen=True)
class Resize:
    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Attr:
    """A key is set, or deleted where ``value`` is ``...``."""

    name: str
    key: str
    value: Any


@dataclass(frozen=True)
class Create:
    """A new array takes the name, whatever was there before."""

    name: str
    spec: Spec
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Delete:
    name: str


Effect = Cells | Grow | Resize | Attr | Create | Delete


@dataclass(frozen=True)
class Float:
    """Where appended cells go: indices of ``axis`` at or past ``end`` move by ``shift``."""

    axis: int
    end: int
    shift: int

    def place(self, coords: Coords) -> Coords:
        moved = np.where(coords[self.axis] >= self.end, coords[self.axis] + self.shift, coords[self.axis])
        return (*coords[: self.axis], moved, *coords[self.axis + 1 :])


def resized(node: Node, shape: tuple[int, ...]) -> np.ndarray:
    """The values in another shape: what is cut off is forgotten, what is new is fill."""
    values = node.spec.filled(shape)
    common = tuple(slice(0, min(old, new)) for old, new in zip(node.values.shape, shape, strict=True))
    values[common] = node.values[common]
    return values


def apply(state: State, effect: Effect) -> None:
    """Change ``state`` by one effect."""
    if isinstance(effect, Create):
        state[effect.name] = Node(effect.spec, effect.spec.filled(effect.shape))
        return
    if isinstance(effect, Delete):
        del state[effect.name]
        return
    node = state[effect.name]
    if isinstance(effect, Attr):
        if effect.value is ...:
            node.attrs.pop(effect.key, None)
        else:
            node.attrs[effect.key] = effect.value
    elif isinstance(effect, Grow):
        shape = list(node.values.shape)
        shape[effect.axis] += effect.by
        node.values = resized(node, tuple(shape))
    elif isinstance(effect, Resize):
        node.values = resized(node, effect.shape)
    else:
        inside = np.ones(len(effect.values), bool)
        for index, extent in zip(effect.coords, node.values.shape, strict=True):
            inside &= index < extent
        coords = tuple(index[inside] for index in effect.coords)
        if effect.kind == "set":
            node.values[coords or ...] = effect.values[inside] if coords else effect.values[-1:].reshape(())
        else:
            where: Any = coords or ...
            with np.errstate(invalid="ignore", over="ignore"):
                UFUNCS[effect.kind].at(node.values, where, effect.values[inside] if coords else effect.values[0])


@dataclass
class Change:
    """What a transaction did to one array, as far as conflicts go."""

    ndim: int = 0
    written: dict[str, np.ndarray] = field(default_factory=dict)
    smallest: tuple[int, ...] | None = None  # the smallest extents, where anything was cut
    resized: bool = False
    final: tuple[int, ...] = ()
    append_axis: int | None = None
    append_end: int = 0  # the end of that axis in the base
    keys: set[str] = field(default_factory=set)
    structure: bool = False

    @property
    def shape_changed(self) -> bool:
        return self.resized or self.append_axis is not None

    @property
    def touched(self) -> bool:
        return bool(self.written or self.keys or self.structure or self.shape_changed)

    def add_cells(self, kind: str, coords: Coords) -> None:
        canvas = self.written.setdefault(kind, np.zeros(CANVAS[self.ndim], bool))
        canvas[coords or ...] = True

    def cut(self, base: tuple[int, ...]) -> np.ndarray:
        """The cells at or past the cut of a shrink, without end, along the axes on which ``base`` reached that far."""
        cells = np.zeros(CANVAS[self.ndim], bool)
        assert self.smallest is not None
        for axis, extent in enumerate(self.smallest):
            if extent < base[axis]:
                cells[(slice(None),) * axis + (slice(extent, None),)] = True
        return cells

    def all_cells(self) -> np.ndarray:
        cells = np.zeros(CANVAS[self.ndim], bool)
        for canvas in self.written.values():
            cells |= canvas
        return cells


@dataclass
class Transaction:
    """What one open transaction has done so far."""

    branch: str
    base: int
    isolation: str
    on_conflict: str
    origin: State
    local: State = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    changes: dict[str, Change] = field(default_factory=dict)
    observed: set[str] = field(default_factory=set)  # arrays whose end may have been observed
    saw_shape: set[str] = field(default_factory=set)  # arrays whose shape surely was
    read_cells: dict[str, np.ndarray] = field(default_factory=dict)
    read_nodes: set[str] = field(default_factory=set)
    appended: list[tuple[Any, tuple[str, tuple[int, ...], tuple[int, ...]]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.local = copy_state(self.origin)

    def change(self, name: str) -> Change:
        ndim = self.local[name].values.ndim if name in self.local else 0
        return self.changes.setdefault(name, Change(ndim=ndim))

    def do(self, *effects: Effect) -> None:
        """Record effects, and apply them to what this transaction sees."""
        for effect in effects:
            self.effects.append(effect)
            change = self.change(effect.name)
            if isinstance(effect, Cells):
                if len(effect.values):
                    change.add_cells(effect.kind, effect.coords)
            elif isinstance(effect, Grow):
                if change.append_axis is None:
                    change.append_axis = effect.axis
                    change.append_end = self.local[effect.name].values.shape[effect.axis]
            elif isinstance(effect, Resize):
                change.resized = True
                old = self.local[effect.name].values.shape
                if any(new < extent for new, extent in zip(effect.shape, old, strict=True)):
                    before = change.smallest or old
                    change.smallest = tuple(map(min, before, old, effect.shape))
                change.final = effect.shape
            elif isinstance(effect, Attr):
                change.keys.add(effect.key)
            elif isinstance(effect, Create):
                self.changes[effect.name] = Change(ndim=len(effect.shape), structure=True)
            else:
                change.structure = True
            apply(self.local, effect)

    def read(self, name: str, coords: Coords | None) -> None:
        """Record that cells were read; None: all of them, by an open selection."""
        self.read_nodes.add(name)
        values = self.local[name].values
        seen = np.zeros(CANVAS[values.ndim], bool)
        if coords is None:
            self.observed.add(name)
            self.saw_shape.add(name)
            seen[tuple(slice(0, extent) for extent in values.shape)] = True
        else:
            seen[coords or ...] = True
        change = self.changes.get(name)
        if change is not None and change.structure:
            return
        if change is not None and change.append_axis is not None:
            # Cells at or past the end are this transaction's own: nobody else can change them.
            own = [slice(None)] * values.ndim
            own[change.append_axis] = slice(change.append_end, None)
            seen[tuple(own)] = False
        self.read_cells[name] = self.read_cells[name] | seen if name in self.read_cells else seen

    def floats(self, head: State) -> dict[str, Float]:
        """Where appended cells go when this is committed on ``head``."""
        found = {}
        for name, change in self.changes.items():
            if change.append_axis is not None and not change.structure and name in head:
                end = head[name].values.shape[change.append_axis]
                found[name] = Float(change.append_axis, change.append_end, end - change.append_end)
        return found

    def placed(self, head: State) -> list[Effect]:
        """The effects as they show on ``head``."""
        floats = self.floats(head)
        final: list[Effect] = []
        for effect in self.effects:
            if isinstance(effect, Cells) and effect.name in floats:
                effect = dataclasses.replace(effect, coords=floats[effect.name].place(effect.coords))
            elif isinstance(effect, Resize) and effect.name in head:
                change = self.changes[effect.name]
                if change.smallest is None and not change.structure:
                    extents = zip(effect.shape, self.origin[effect.name].values.shape, strict=True)
                    grown = [extent if extent > before else 0 for extent, before in extents]
                    effect = Resize(effect.name, tuple(map(max, grown, head[effect.name].values.shape)))
            final.append(effect)
        return final


def settle(tx: Transaction, head: State) -> tuple[State, dict[str, Change]]:
    """The state after the commit, and what it did in the coordinates of that state."""
    replay = Transaction(tx.branch, tx.base, tx.isolation, tx.on_conflict, head)
    for effect in tx.placed(head):
        replay.do(effect)
    return replay.local, replay.changes


def _cells_conflict(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> bool:
    for kind, cells in mine.items():
        for other, taken in theirs.items():
            if (kind != other or kind == "set") and bool((cells & taken).any()):
                return True
    return False


def _fixed(change: Change) -> dict[str, np.ndarray]:
    """The cells whose place does not depend on where an append lands."""
    if change.append_axis is None:
        return change.written
    keep = [slice(None)] * change.ndim
    keep[change.append_axis] = slice(0, change.append_end)
    fixed = {}
    for kind, canvas in change.written.items():
        fixed[kind] = np.zeros_like(canvas)
        fixed[kind][tuple(keep)] = canvas[tuple(keep)]
    return fixed


def _predict_array(tx: Transaction, name: str, mine: Change, theirs: Change) -> Verdict:
    """Cells and attributes of one array that is the same on both sides."""
    overwrite = tx.on_conflict == "overwrite"
    base = tx.origin[name].values.shape
    if mine.keys & theirs.keys and not overwrite:
        return Verdict.MUST
    fixed = _fixed(mine)
    if _cells_conflict(fixed, theirs.written) and not overwrite:
        return Verdict.MUST
    if mine.smallest is not None and (theirs.all_cells() & mine.cut(base)).any():
        return Verdict.MUST
    if theirs.smallest is not None:
        cut = theirs.cut(base)
        if any((canvas & cut).any() for canvas in fixed.values()):
            return Verdict.MAY if overwrite else Verdict.MUST
    return Verdict.NO


def _predict_shape(tx: Transaction, name: str, theirs: list[Change], head: tuple[int, ...]) -> Verdict:
    """The shape of one array: what counts is where it stood in the base and where it stands at the head."""
    mine, base = tx.changes[name], tx.origin[name].values.shape
    if not mine.shape_changed or not any(change.shape_changed for change in theirs):
        return Verdict.NO
    moved = {axis for axis, extent in enumerate(head) if extent != base[axis]}
    if mine.smallest is not None:
        return Verdict.MUST if moved else Verdict.MAY
    if mine.append_axis is not None:
        if moved - {mine.append_axis}:
            return Verdict.MUST
        if name not in tx.observed:
            return Verdict.NO
        # Pinned by having seen the end, surely so where serializable; otherwise the store may know better.
        return Verdict.MUST if moved and tx.isolation == "serializable" and name in tx.saw_shape else Verdict.MAY
    if any(mine.final[axis] > base[axis] > head[axis] for axis in moved):
        return Verdict.MUST
    return Verdict.MAY if any(change.smallest is not None for change in theirs) else Verdict.NO


def _predict_reads(tx: Transaction, name: str, theirs: Change) -> Verdict:
    """What a serializable transaction has read of an array that somebody else has changed."""
    if theirs.structure:
        return Verdict.MUST
    cells = tx.read_cells.get(name)
    if cells is not None:
        if (cells & theirs.all_cells()).any():
            return Verdict.MUST
        if theirs.smallest is not None and (cells & theirs.cut(tx.origin[name].values.shape)).any():
            return Verdict.MUST
    if theirs.shape_changed:
        return Verdict.MUST if name in tx.saw_shape else Verdict.MAY
    return Verdict.NO


def predict(tx: Transaction, since: list[dict[str, Change]], head: State) -> Verdict:
    """Whether committing ``tx`` has to conflict with the commits ``since`` its base.

    A transaction that has changed nothing commits nothing and never conflicts, but that a serializable one which
    has only read is left open.
    """
    verdicts = [Verdict.NO]
    replaced: set[str] = set()
    for theirs_all in since:
        for name, theirs in theirs_all.items():
            if not theirs.touched or name in replaced:
                continue
            if theirs.structure:
                replaced.add(name)  # what follows concerns another array of that name
            mine = tx.changes.get(name)
            if mine is not None and mine.touched:
                if mine.structure or theirs.structure:
                    # A name that came and went again is as free as it was.
                    came_and_went = name not in tx.origin and name not in head
                    verdicts.append(Verdict.MAY if came_and_went else Verdict.MUST)
                else:
                    verdicts.append(_predict_array(tx, name, mine, theirs))
            if tx.isolation == "serializable" and name in tx.read_nodes:
                verdicts.append(_predict_reads(tx, name, theirs))
            if tx.isolation == "serializable" and name in tx.observed and theirs.shape_changed:
                verdicts.append(Verdict.MAY)  # a write through an open slice or a mask has looked at the shape, too
    for name, mine in tx.changes.items():
        if name in head and name in tx.origin and not mine.structure and name not in replaced:
            theirs_of_name = [changes[name] for changes in since if name in changes]
            verdicts.append(_predict_shape(tx, name, theirs_of_name, head[name].values.shape))
    worst = max(verdicts, key=lambda verdict: verdict.value)
    if worst is Verdict.MUST and not any(change.touched for change in tx.changes.values()):
        return Verdict.MAY
    return worst


def same(real: np.ndarray, model: np.ndarray) -> bool:
    """Equal in shape, dtype and every bit: NaN is NaN, and -0.0 is not 0.0."""
    real = np.asarray(real)
    return (
        real.shape == model.shape
        and real.dtype == model.dtype
        and np.ascontiguousarray(real).tobytes() == np.ascontiguousarray(model).tobytes()
    )
