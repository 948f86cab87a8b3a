"""Which partitions wait for compaction, on main and on every live branch.

The first look is at everything; each later one at what has been written since, so that an idle store costs one
query a round however large it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from txstore.compaction.backoff import Backoff
from txstore.compaction.planner import Task, frame_of
from txstore.compaction.rewrite import array_rows, tasks_in, tasks_of
from txstore.core import Core
from txstore.errors import NotFoundError
from txstore.grid import WHOLE
from txstore.index import branches, loads, lookup
from txstore.index import engine as clock
from txstore.index.connection import Connection
from txstore.index.edits import MAIN, ROOT
from txstore.index.engine import read_head
from txstore.index.lookup import NodeRow
from txstore.index.timeline import Timeline
from txstore.reader import ArrayView
from txstore.snapshot import Snapshot
from txstore.states import State

#: An old state gets a base where its fragments take so many times the room.
_OUTWEIGHS = 2


class Job(NamedTuple):
    """A partition of an array on a branch that waits.

    Attributes
    ----------
    branch, branch_name : int, str
        The branch.
    task : Task
        The partition, and how many fragments it had when it was planned.
    """

    branch: int
    branch_name: str
    task: Task

    @property
    def key(self) -> tuple[int, int, bytes]:
        """What the job is about."""
        return self.branch, self.task.node, self.task.partition

    @property
    def lease(self) -> str:
        """The name of its lease."""
        return f"compact/{self.task.node}/{self.task.partition.hex()}/{self.branch}"


class Backlog:
    """The jobs that wait.

    Parameters
    ----------
    core : Core
        The store.
    min_fragments : int
        From how many fragments on a partition waits.
    backoff : Backoff
        When to look again at an array that could not be looked at, by (branch, node).
    failed : callable
        Told of such an array: its path, (branch, node), the error. What it raises comes out.
    pause : callable
        Called with 0 before each array; may raise to end the work.

    Attributes
    ----------
    jobs : dict
        By key, a job each.

    Notes
    -----
    Belongs to one thread. Others compact, too, so that a job is only a guess until :meth:`measured`.
    """

    def __init__(
        self,
        core: Core,
        min_fragments: int,
        backoff: Backoff,
        failed: Callable[[str, tuple[int, int], Exception], None],
        pause: Callable[[int], None],
    ) -> None:
        self.jobs: dict[tuple[int, int, bytes], Job] = {}
        self._core = core
        self._min_fragments = min_fragments
        self._backoff = backoff
        self._failed = failed
        self._pause = pause
        self._planned: dict[int, int] = {}  # branch: the version up to which it has been looked at
        self._missed: dict[int, set[int]] = {}  # branch: arrays that could not be looked at

    def refresh(self) -> list[Job]:
        """Look at what is new; every job, those first where a reader gains most.

        Raises
        ------
        StorageError, FormatError, CorruptionError
            If the index fails.
        """
        with self._core.index.read() as connection:
            head = read_head(connection).head
            names = _names(connection, head)
        self._planned = {branch: upto for branch, upto in self._planned.items() if branch in names}
        self._missed = {branch: nodes for branch, nodes in self._missed.items() if branch in names and nodes}
        self.jobs = {key: job for key, job in self.jobs.items() if job.branch in names}
        for branch, name in names.items():
            if self._planned.get(branch) != head or branch in self._missed:
                self._look_at(branch, name)
        return sorted(self.jobs.values(), key=lambda job: (-job.task.fragments, job.key))

    def _look_at(self, branch: int, name: str) -> None:
        try:
            with self._core.pinned(branch=name) as (state, timeline):
                if state.branch == branch:  # else it has been deleted and made anew since
                    self._look_at_state(state, timeline)
        except NotFoundError:
            return  # the branch was deleted meanwhile

    def _look_at_state(self, state: State, timeline: Timeline) -> None:
        after = self._planned.get(state.branch)
        touched: dict[int, set[bytes]] | None = None
        if after is not None:
            with self._core.index.read() as connection:
                touched = loads.touched(connection, timeline.at(state.version), after)
            for node in self._missed.get(state.branch, ()):
                if self._backoff.ready((state.branch, node)):
                    touched.setdefault(node, set()).add(WHOLE)
        snapshot = Snapshot(self._core, state, timeline)
        if touched is None:
            for row, path in array_rows(snapshot, ""):
                self._look_at_array(snapshot, state, row, path, None)
        else:
            for node, keys in touched.items():
                found = located(snapshot, timeline, state.version, node)
                if found is not None:
                    self._look_at_array(snapshot, state, *found, None if WHOLE in keys else keys)
        self._planned[state.branch] = state.version

    def _look_at_array(
        self, snapshot: Snapshot, state: State, row: NodeRow, path: str, keys: set[bytes] | None
    ) -> None:
        self._pause(0)
        missed = self._missed.setdefault(state.branch, set())
        missed.discard(row.id)
        try:
            view = snapshot._tree.view(row, path)
            tasks = tasks_in(snapshot, view, self._min_fragments) if keys is None else self._among(view, keys)
        except Exception as error:
            missed.add(row.id)
            self._failed(path, (state.branch, row.id), error)
            return
        self._backoff.succeeded((state.branch, row.id))
        for task in tasks:
            job = Job(state.branch, state.branch_name, task)
            self.jobs[job.key] = job

    def _among(self, view: ArrayView, keys: set[bytes]) -> list[Task]:
        seen = view.timeline.at(view.version)
        found = []
        with self._core.index.read() as connection:
            for key in sorted(keys):
                count = loads.load(connection, seen, view.node, key)
                if count >= self._min_fragments and frame_of(view.grid, key, view.shape) is not None:
                    found.append(Task(view.node, view.path, key, count))
        return found

    def measured(self, job: Job, state: State, timeline: Timeline) -> tuple[ArrayView, Task] | None:
        """The job as it stands in a state of its branch; None: nothing is left to do, and it is forgotten.

        Raises
        ------
        StorageError, CorruptionError
            If the index fails.
        """
        snapshot = Snapshot(self._core, state, timeline)
        task = job.task
        found = located(snapshot, timeline, state.version, task.node) if state.branch == job.branch else None
        if found is not None:
            view = snapshot._tree.view(*found)
            with self._core.index.read() as connection:
                count = loads.load(connection, timeline.at(state.version), task.node, task.partition)
            if count >= self._min_fragments and frame_of(view.grid, task.partition, view.shape) is not None:
                return view, Task(task.node, view.path, task.partition, count)
        self.done(job)
        return None

    def idle(self, idle_s: float) -> tuple[int, list[str]]:
        """The horizon, and the branches that reach below it, where nothing has come into the store for so long.

        Only then does a base at the horizon pay: as long as versions come, the horizon passes the bases that are there.

        Raises
        ------
        StorageError, FormatError, CorruptionError
            If the index fails.
        """
        with self._core.index.read() as connection:
            head = read_head(connection)
            if not head.horizon or clock.now_us() - head.head_at < idle_s * 1e6:
                return head.horizon, []
            rows = {row.id: row.created for row in branches.all_branches(connection)} | {MAIN: 0}
            names = _names(connection, head.head)
        return head.horizon, [name for branch, name in names.items() if rows[branch] <= head.horizon]

    def outweighed(self, state: State, timeline: Timeline) -> Iterator[tuple[Job, ArrayView]]:
        """Partitions whose fragments, which a state needs, take much more room than a base for it would.

        What a base takes is guessed from the newest one. Where there is none, one there is waited for first.
        """
        snapshot = Snapshot(self._core, state, timeline)
        for view, task in tasks_of(snapshot, "", self._min_fragments):
            held, newest = (
                timeline.table(view.node, task.partition, view.grid, view.meta.dtype.itemsize, version)
                for version in (state.version, timeline.upto)
            )
            if newest.base is None or newest.after <= state.version:
                continue
            fragments = [one for one in held.fragments(state.version) if one.version > held.after]
            room = sum(one.directory(view.grid.chunks).nbytes for one in fragments if not one.stripped)
            if room >= _OUTWEIGHS * newest.base.directory(view.grid.chunks).nbytes:
                yield Job(state.branch, state.branch_name, task), view

    def done(self, job: Job) -> None:
        """Forget a job."""
        self.jobs.pop(job.key, None)


def _names(connection: Connection, head: int) -> dict[int, str]:
    """The live branches, main among them."""
    named = branches.references(connection, "branch", head)
    return {MAIN: "main", **{branch: name for name, (branch, _) in named.items()}}


def located(snapshot: Snapshot, timeline: Timeline, version: int, node: int) -> tuple[NodeRow, str] | None:
    """A node by its identity, with its path; None when it, or a group above it, is deleted."""
    seen = timeline.at(version)
    names: list[str] = []
    with snapshot._tree.core.index.read() as connection:
        row = found = lookup.node(connection, seen, node)
        while row is not None:
            names.append(row.name)
            if row.parent == ROOT:
                break
            row = lookup.node(connection, seen, row.parent)
    if found is None or row is None:
        return None
    return found, "/".join(reversed(names))


__all__ = ["Backlog", "Job", "located"]
