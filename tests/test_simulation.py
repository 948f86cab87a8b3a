"""Random histories against a model that keeps one NumPy array per version.

Two transactions are open at once. The model predicts whether a commit has to conflict; after each step the store is
verified, and what every retained version reads is compared bit for bit, on branches, through tags, by time and
through snapshots held open. ``HYPOTHESIS_PROFILE=nightly`` runs longer histories, and more of them.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from simulation_data import (
    assign,
    box_selections,
    difference,
    fetch,
    numpy_selection,
    random_values,
    selected,
    selections,
    specs,
)
from simulation_model import (
    CANVAS,
    Attr,
    Cells,
    Change,
    Create,
    Delete,
    Effect,
    Grow,
    Resize,
    Spec,
    State,
    Transaction,
    Verdict,
    apply,
    copy_state,
    predict,
    same,
    settle,
)

import txstore
from txstore import chunking
from txstore.chunking import PARTITION_CHUNKS
from txstore.errors import ConflictError, NotFoundError, SnapshotExpiredError

NIGHTLY = "nightly" in (os.environ.get("HYPOTHESIS_PROFILE"), settings.get_current_profile_name())

KEYS = ("units", "source", "n")


class Simulation(RuleBasedStateMachine):
    """The store, its model, and the rules that drive both."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="txstore-simulation-"))
        self.store = txstore.open(self.folder / "store")
        self.states: dict[int, State] = {}
        self.changes: dict[int, dict[str, Change]] = {}
        self.ancestry: dict[int, tuple[int, ...]] = {}
        self.times: dict[int, Any] = {}
        self.home: dict[int, str] = {}
        self.heads: dict[str, int] = {}
        self.dead_branches: dict[str, int] = {}
        self.tags: dict[str, int] = {}
        self.ever_tagged: set[int] = set()
        self.expired: set[int] = set()
        self.expirable: set[int] = set()
        self.slots: dict[int, tuple[Any, Transaction]] = {}
        self.held: list[tuple[Any, int]] = []
        self.top = 0
        self.serial = 0
        self.full_check = False
        self.small_partitions: Any = None

    def teardown(self) -> None:
        try:
            self.drop_transactions()
            if self.states:
                self.check_versions(sorted(self.states))
                assert self.store.verify().ok
        finally:
            if self.small_partitions is not None:
                self.small_partitions.stop()
            self.held.clear()
            self.store.close()
            shutil.rmtree(self.folder)

    # ---- the first commit

    @initialize(first=specs(), second=specs(), partition=st.sampled_from((2, 7, PARTITION_CHUNKS)))
    def create(self, first: tuple[Spec, tuple[int, ...]], second: tuple[Spec, tuple[int, ...]], partition: int) -> None:
        self.small_partitions = patch.object(chunking, "PARTITION_CHUNKS", partition)
        self.small_partitions.start()
        state: State = {}
        with self.store.transaction(message="create") as tx:
            for name, (spec, shape) in (("a", first), ("g/b", second)):
                self.create_array(tx, name, spec, shape)
                apply(state, Create(name, spec, shape))
        assert tx.commit_info is not None
        changes = {name: Change(ndim=node.values.ndim, structure=True) for name, node in state.items()}
        self.record("main", tx.commit_info, state, changes, ())

    def create_array(self, tx: Any, name: str, spec: Spec, shape: tuple[int, ...]) -> None:
        tx.create_array(
            name,
            shape=shape,
            dtype=spec.dtype,
            chunks=spec.chunks,
            shards=spec.shards,
            fill_value=spec.fill,
            overwrite=name in tx,
        )

    def record(self, branch: str, commit: Any, state: State, changes: dict[str, Change], base: tuple[int, ...]) -> None:
        version = commit.version
        assert version > max(self.states, default=0)
        assert commit.branch == branch
        assert all(commit.committed_at > time for time in self.times.values())
        self.states[version] = state
        self.changes[version] = changes
        self.ancestry[version] = (*base, version)
        self.times[version] = commit.committed_at
        self.home[version] = branch
        self.heads[branch] = version
        self.top = version

    # ---- transactions

    @property
    def free_slots(self) -> list[int]:
        return [slot for slot in (0, 1) if slot not in self.slots]

    def begin_in(self, slot: int, branch: str, isolation: str, on_conflict: str, base: int | None) -> None:
        options: dict[str, Any] = {} if base is None else {"base": base}
        real = self.store.transaction(branch=branch, isolation=isolation, on_conflict=on_conflict, **options)
        version = self.heads[branch] if base is None else base
        model = Transaction(branch, version, isolation, on_conflict, self.states[version])
        self.slots[slot] = real, model
        note(f"tx{slot}: begin on {branch} at {version}, {isolation}, {on_conflict}")

    @precondition(lambda self: self.free_slots)
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        slot = self.free_slots[0]
        branch = data.draw(st.sampled_from(sorted(self.heads)))
        isolation = data.draw(st.sampled_from(("snapshot", "snapshot", "serializable")))
        on_conflict = (
            data.draw(st.sampled_from(("raise", "raise", "overwrite"))) if isolation == "snapshot" else "raise"
        )
        base = None
        if data.draw(st.integers(0, 5)) == 0:
            retained = [v for v in self.ancestry[self.heads[branch]] if v not in self.expirable]
            base = data.draw(st.sampled_from(retained)) if retained else None
        self.begin_in(slot, branch, isolation, on_conflict, base)
        for _ in range(data.draw(st.integers(0, 2))):
            self.step(slot, data)

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def work(self, data: st.DataObject) -> None:
        """A step or two in an open transaction."""
        slot = data.draw(st.sampled_from(sorted(self.slots)))
        for _ in range(data.draw(st.integers(1, 4))):
            self.step(slot, data)

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Commit; now and then, abort."""
        slot = data.draw(st.sampled_from(sorted(self.slots)))
        if data.draw(st.integers(0, 7)) == 7:
            real, _ = self.slots.pop(slot)
            real.abort()
            note(f"tx{slot}: abort")
            return
        self.commit_slot(slot)

    @precondition(lambda self: self.free_slots)
    @rule(data=st.data())
    def commit_at_once(self, data: st.DataObject) -> None:
        """A whole transaction, while others may be open: what the open ones conflict with."""
        slot = self.free_slots[-1]
        self.begin_in(slot, data.draw(st.sampled_from(sorted(self.heads))), "snapshot", "raise", None)
        for _ in range(data.draw(st.integers(1, 3))):
            self.step(slot, data)
        self.commit_slot(slot)

    def commit_slot(self, slot: int) -> None:
        real, model = self.slots.pop(slot)
        head = self.heads[model.branch]
        since = [v for v in self.ancestry[head] if v > model.base]
        verdict = predict(model, [self.changes[v] for v in since], self.states[head])
        note(f"tx{slot}: {verdict}, commit {sorted(model.changes)}")
        try:
            commit = real.commit()
        except ConflictError as error:
            assert verdict is not Verdict.NO, f"refused without an overlap: {error}"
            assert error.conflicts
            note(f"  {error}")
            return
        assert verdict is not Verdict.MUST, "committed in spite of an overlap"
        note(f"  version {commit and commit.version}")
        state, changes = settle(model, copy_state(self.states[head]))
        if commit is None:
            assert not any(change.touched for change in changes.values())
            return
        self.record(model.branch, commit, state, changes, self.ancestry[head])
        for appended, (name, lo, hi) in model.appended:
            shift = model.floats(self.states[head]).get(name)
            if shift is not None:
                moved = np.zeros(len(lo), int)
                moved[shift.axis] = shift.shift
                assert tuple(appended.box.lo) == tuple(moved + lo)
                assert tuple(appended.box.hi) == tuple(moved + hi)

    # ---- what a transaction may do

    def step(self, slot: int, data: st.DataObject) -> None:
        real, model = self.slots[slot]
        note(f"tx{slot}:")
        kinds = ["write"] * 6 + ["accumulate"] * 3 + ["append"] * 2 + ["attr", "attr", "clear", "read", "resize"]
        kind = data.draw(st.sampled_from([*kinds, "structure"]))
        if kind == "structure":
            self.restructure(real, model, data)
            return
        name = data.draw(st.sampled_from(sorted(model.local)))
        getattr(self, f"do_{kind}")(real, model, name, data)
        if kind != "read" and data.draw(st.integers(0, 3)) == 0:
            self.do_read(real, model, name, data)

    def do_write(self, real: Any, model: Transaction, name: str, data: st.DataObject) -> None:
        node = model.local[name]
        mode, sel = data.draw(selections(node.values.shape))
        coords, shape = selected(node.values.shape, mode, sel)
        seed = data.draw(st.integers(0, 2**16))
        how = data.draw(st.integers(0, 4))
        if how == 0:
            values = random_values(node.spec.dtype, (), seed)[()]
        elif how == 1:
            values = node.spec.filled(shape)
        elif how == 2 and len(shape) > 1:
            values = random_values(node.spec.dtype, shape[1:], seed)
        else:
            values = random_values(node.spec.dtype, shape, seed)
        note(f"  {name}{model.local[name].values.shape} {mode} [{sel}] = {values!r}")
        assign(real[name], mode, sel, values)
        self.note_observed(model, name, mode)
        spread = np.broadcast_to(np.asarray(values, node.spec.dtype), shape).reshape(-1)
        model.do(Cells(name, "set", coords, spread))

    def do_accumulate(self, real: Any, model: Transaction, name: str, data: st.DataObject) -> None:
        node = model.local[name]
        if node.spec.dtype.kind not in "fiu":
            self.do_write(real, model, name, data)
            return
        mode, sel = data.draw(selections(node.values.shape).filter(lambda found: found[0] in ("box", "basic")))
        coords, shape = selected(node.values.shape, mode, sel)
        op = data.draw(st.sampled_from(("add", "add", "min", "max")))
        if node.spec.dtype.kind != "f" and node.values.size and node.values.ndim and data.draw(st.integers(0, 3)) == 0:
            # Cells named twice count twice; only with integers, for their sums do not depend on the order.
            mode, sel = "basic", [data.draw(st.integers(0, node.values.shape[0] - 1))] * 3
            coords, shape = selected(node.values.shape, mode, sel)
        # Minima of zeros, and sums of them, have a sign that depends on the order: no zeros.
        values = random_values(node.spec.dtype, shape, data.draw(st.integers(0, 2**16)), exact=op != "add")
        values = np.where(values == 0, values.dtype.type(2), values)
        note(f"  {name}{node.values.shape}.accumulate({sel}, {values!r}, {op})")
        real[name].accumulate(sel, values, op=op)
        self.note_observed(model, name, mode)
        model.do(Cells(name, op, coords, values.reshape(-1)))

    def do_append(self, real: Any, model: Transaction, name: str, data: st.DataObject) -> None:
        node = model.local[name]
        shape = node.values.shape
        change = model.change(name)
        if not shape or change.resized or model.on_conflict == "overwrite":
            return
        axis = change.append_axis
        if axis is None:
            axis = data.draw(st.sampled_from((0, 0, len(shape) - 1)))
        count = data.draw(st.integers(1, 5))
        if shape[axis] + 3 * count > CANVAS[len(shape)][axis]:
            return
        block_shape = (*shape[:axis], count, *shape[axis + 1 :])
        block = random_values(node.spec.dtype, block_shape, data.draw(st.integers(0, 2**16)))
        note(f"  {name}{shape}.append({block!r}, axis={axis})")
        appended = real[name].append(block, axis=axis)
        lo = tuple(shape[k] if k == axis else 0 for k in range(len(shape)))
        hi = tuple(shape[k] + count if k == axis else shape[k] for k in range(len(shape)))
        grown = (*shape[:axis], shape[axis] + count, *shape[axis + 1 :])
        sel = tuple(slice(start, stop) for start, stop in zip(lo, hi, strict=True))
        coords, _ = selected(grown, "box", sel)
        model.do(Grow(name, axis, count), Cells(name, "set", coords, block.reshape(-1)))
        model.appended.append((appended, (name, lo, hi)))

    def do_resize(self, real: Any, model: Transaction, name: str, data: st.DataObject) -> None:
        node = model.local[name]
        shape = node.values.shape
        if not shape or model.change(name).append_axis is not None or model.on_conflict == "overwrite":
            return
        new = list(shape)
        for axis in range(len(shape)):
            if data.draw(st.booleans()):
                room = CANVAS[len(shape)][axis] - shape[axis]
                new[axis] = shape[axis] + data.draw(st.integers(-min(6, shape[axis]), min(4, room // 3)))
        if tuple(new) == shape:
            return
        note(f"  {name}{shape}.resize({tuple(new)})")
        real[name].resize(tuple(new))
        model.do(Resize(name, tuple(new)))

    def do_clear(self, real: Any, model: Transaction, name: str, data: st.DataObject) -> None:
        node = model.local[name]
        sel = data.draw(box_selections(node.values.shape))
        coords, shape = selected(node.values.shape, "box", sel)
        note(f"  {name}{node.values.shape}.clear({sel})")
        real[name].clear(sel)
        model.do(Cells(name, "set", coords, node.spec.filled(shape).reshape(-1)))

    def do_attr(self, real: Any, model: Transaction, name: str, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(KEYS))
        if key in model.local[name].attrs and data.draw(st.integers(0, 2)) == 0:
            note(f"  del {name}.attrs[{key}]")
            del real[name].attrs[key]
            model.do(Attr(name, key, ...))
            return
        value = data.draw(st.sampled_from((1, -2.5, "K", None, True, [1, [2, "x"]], {"a": {"b": [1]}})))
        note(f"  {name}.attrs[{key}] = {value}")
        real[name].attrs[key] = value
        model.do(Attr(name, key, value))

    def do_read(self, real: Any, model: Transaction, name: str, data: st.DataObject) -> None:
        """A transaction reads its own writes."""
        values = model.local[name].values
        if data.draw(st.booleans()):
            note(f"  read {name}")
            assert same(real[name][...], values)
            model.read(name, None)
            return
        mode, sel = data.draw(selections(values.shape))
        coords, _ = selected(values.shape, mode, sel)
        note(f"  read {name}{values.shape} {mode} [{sel}]")
        assert same(np.asarray(fetch(real[name], mode, sel)), np.asarray(values[numpy_selection(mode, sel)]))
        model.read(name, coords)
        self.note_observed(model, name, mode)

    def note_observed(self, model: Transaction, name: str, mode: str) -> None:
        if mode != "box":
            model.observed.add(name)

    def restructure(self, real: Any, model: Transaction, data: st.DataObject) -> None:
        """Create, replace or delete ``g/t``."""
        if "g/t" in model.local and data.draw(st.booleans()):
            note("  del g/t")
            del real["g/t"]
            model.do(Delete("g/t"))
            return
        spec, shape = data.draw(specs())
        note(f"  create g/t {spec} {shape}")
        self.create_array(real, "g/t", spec, shape)
        model.do(Create("g/t", spec, shape))

    # ---- branches, tags, snapshots

    @rule(data=st.data())
    def name_something(self, data: st.DataObject) -> None:
        """Branches, tags and held snapshots: in one rule, so that most steps are writes."""
        what = data.draw(st.sampled_from(("branch", "tag", "hold", "let_go", "delete_branch")))
        if what == "branch" and len(self.heads) < 4:
            self.branch(data)
        elif what == "delete_branch":
            self.delete_branch(data)
        elif what == "tag":
            self.tag(data, data.draw(st.sampled_from(("t1", "t2"))))
        elif what == "hold" and len(self.held) < 2:
            branch = data.draw(st.sampled_from(sorted(self.heads)))
            note(f"hold {branch} at {self.heads[branch]}")
            self.held.append((self.store.snapshot(branch=branch), self.heads[branch]))
        elif what == "let_go" and self.held:
            self.held.pop(0)

    def branch(self, data: st.DataObject) -> None:
        name = f"branch{self.serial}"
        self.serial += 1
        retained = [v for v in self.states if v not in self.expirable and self.home[v] in self.heads]
        version = data.draw(st.sampled_from(sorted({*retained, self.heads["main"]})))
        note(f"branch {name} from {version}")
        self.store.create_branch(name, version)
        self.heads[name] = version
        self.top += 1
        assert set(self.store.branches()) == set(self.heads)

    def delete_branch(self, data: st.DataObject) -> None:
        busy = {model.branch for _, model in self.slots.values()}
        idle = sorted(set(self.heads) - {"main"} - busy)
        if not idle:
            return
        name = data.draw(st.sampled_from(idle))
        note(f"delete branch {name}")
        self.store.delete_branch(name)
        self.dead_branches[name] = self.heads.pop(name)
        self.top += 1
        assert set(self.store.branches()) == set(self.heads)

    def tag(self, data: st.DataObject, name: str) -> None:
        if name in self.tags and data.draw(st.booleans()):
            note(f"delete tag {name}")
            self.store.delete_tag(name)
            del self.tags[name]
        else:
            retained = [v for v in self.states if v not in self.expirable and self.home[v] in self.heads]
            version = data.draw(st.sampled_from(sorted({*retained, self.heads["main"]})))
            note(f"tag {name} at {version}")
            self.store.create_tag(name, version, move=name in self.tags)
            self.tags[name] = version
            self.ever_tagged.add(version)
        self.top += 1
        assert set(self.store.tags()) == set(self.tags)

    # ---- maintenance

    @rule(data=st.data())
    def maintain(self, data: st.DataObject) -> None:
        what = data.draw(st.sampled_from(("compact", "compact", "vacuum", "expire", "everything", "reopen")))
        if what in ("compact", "everything"):
            branch = data.draw(st.sampled_from(sorted(self.heads)))
            note(f"compact {branch}")
            self.store.compact(branch=branch)
        if what in ("expire", "everything"):
            self.expire(data.draw(st.integers(1, 8)), fresh=data.draw(st.integers(0, 3)) == 0)
        if what in ("vacuum", "everything"):
            note("vacuum")
            self.store.vacuum()
        if what == "reopen" and data.draw(st.booleans()):
            self.reopen()
        self.full_check = True

    def expire(self, keep: int, fresh: bool) -> None:
        if fresh:
            self.reopen()
        note(f"expire, keep {keep}")
        self.store.expire(keep_last=keep)
        self.expirable |= {v for v in self.states if v <= self.top - keep}
        if not fresh:
            return
        chain = self.ancestry[self.heads["main"]]
        if len(chain) < keep:
            return
        # Nothing is open: below the horizon only tags (moved ones, too, while the time at which they stood there may
        # be asked for), forks and what a branch held at the horizon are read on.
        horizon = chain[-keep]
        kept = {*self.heads.values(), *self.ever_tagged}
        for branch_head in (*self.heads.values(), *self.dead_branches.values()):
            ancestors = self.ancestry[branch_head]
            kept |= {v for v, after in itertools.pairwise(ancestors) if self.home[v] != self.home[after]}
            kept |= {max((v for v in ancestors if v <= horizon), default=0)}
        for version in set(self.states) - kept:
            if version < horizon:
                with pytest.raises(SnapshotExpiredError):
                    self.read_version(version)

    def reopen(self) -> None:
        note("reopen")
        self.drop_transactions()
        self.held.clear()
        self.store.close()
        self.store = txstore.open(self.folder / "store", mode="r+")

    def drop_transactions(self) -> None:
        for real, _ in self.slots.values():
            real.abort()
        self.slots.clear()

    # ---- the comparison

    def read_version(self, version: int) -> None:
        self.compare(self.store.snapshot(version=version), self.states[version])

    def compare(self, snapshot: Any, state: State) -> None:
        for name, node in state.items():
            array = snapshot[name]
            assert array.shape == node.values.shape
            assert array.dtype == node.values.dtype
            assert dict(array.attrs) == node.attrs
            got = array[...]
            if not same(got, node.values):
                pytest.fail(f"{name} at version {snapshot.version}: {difference(got, node.values)}")
        assert "a" in snapshot and ("g/t" in snapshot) == ("g/t" in state)

    def check_versions(self, versions: list[int]) -> None:
        for version in versions:
            if version not in self.expirable:
                self.read_version(version)
                continue
            try:
                self.read_version(version)
            except SnapshotExpiredError:
                self.expired.add(version)
            except NotFoundError:
                assert self.home[version] in self.dead_branches
            else:
                assert version not in self.expired, f"version {version} has come back"

    @invariant()
    def check_step(self) -> None:
        """After each rule: the store is sound, and heads, tags and held snapshots read as the model."""
        if not self.states:
            return
        report = self.store.verify()
        assert report.ok, report.problems
        for branch, version in self.heads.items():
            self.compare(self.store.snapshot(branch=branch), self.states[version])
        for tag, version in self.tags.items():
            self.compare(self.store.snapshot(tag=tag), self.states[version])
        for snapshot, version in list(self.held):
            try:
                self.compare(snapshot, self.states[version])
            except SnapshotExpiredError:
                # Transactions keep their base from expiry, snapshots do not: they are right or they are refused.
                assert version in self.expirable
                self.held.remove((snapshot, version))
        for real, model in self.slots.values():
            if model.isolation == "serializable":
                continue  # to look whether a name is there is to read it
            assert set(model.local) == {name for name in ("a", "g/b", "g/t") if name in real}
        newest = sorted(self.states)
        self.check_versions(newest if self.full_check or NIGHTLY else newest[-3:])
        self.full_check = False
        retained = [v for v in newest if v not in self.expirable]
        if retained:
            version = retained[len(self.states) % len(retained)]
            at = self.store.snapshot(branch=self.home[version], as_of=self.times[version])
            self.compare(at, self.states[version])


def test_effects_apply_as_numpy() -> None:
    """The model itself: an append floats, and a shrink forgets."""
    spec = Spec(np.dtype("i4"), -1, (2,), None)
    base: State = {}
    apply(base, Create("x", spec, (3,)))
    tx = Transaction("main", 1, "snapshot", "raise", base)
    effects: list[Effect] = [Grow("x", 0, 2), Cells("x", "set", (np.array([3, 4]),), np.array([30, 40], "i4"))]
    tx.do(*effects)
    head = copy_state(base)
    apply(head, Resize("x", (5,)))
    state, changes = settle(tx, head)
    assert state["x"].values.tolist() == [-1, -1, -1, -1, -1, 30, 40]
    assert np.flatnonzero(changes["x"].written["set"]).tolist() == [5, 6]
    apply(state, Resize("x", (6,)))
    apply(state, Resize("x", (7,)))
    assert state["x"].values.tolist() == [-1, -1, -1, -1, -1, 30, -1]


TestSimulation = pytest.mark.timeout(0 if NIGHTLY else 300)(Simulation.TestCase)
TestSimulation.settings = settings(
    max_examples=400 if NIGHTLY else 40,
    stateful_step_count=120 if NIGHTLY else 25,
    derandomize=not NIGHTLY,
    print_blob=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
