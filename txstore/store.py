"""Opening a store, and what one does with a whole store."""

from __future__ import annotations

import atexit
import math
import numbers
import operator
import os
import random
import re
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from txstore.commits import Commit, to_datetime, to_text
from txstore.core import Address, Core
from txstore.creating import create_store, find_store
from txstore.errors import (
    AlreadyExistsError,
    CommitUnknownError,
    ConflictError,
    InvalidInputError,
    StorageError,
    StoreNotFoundError,
)
from txstore.failures import storage_error
from txstore.folders import sync_folder
from txstore.identity import fresh_id
from txstore.index import branches, commitlog, lookup
from txstore.index.commit import commit, resolve
from txstore.index.dialects import SQLiteDialect
from txstore.index.edits import MAIN, Edit, RefEdit
from txstore.index.engine import Index, read_head, require_format
from txstore.names import check_path, check_text, shown
from txstore.snapshot import Snapshot, set_opener
from txstore.storage import LocalStorage
from txstore.transaction import Transaction

if TYPE_CHECKING:
    from txstore.compaction.diff import Diff
    from txstore.compaction.export import ExportReport
    from txstore.compaction.importer import ImportReport
    from txstore.compaction.retention import ExpireReport, VacuumReport
    from txstore.compaction.rewrite import CompactionReport
    from txstore.compaction.verify import VerifyReport

_Result = TypeVar("_Result")

_MODES = ("r", "r+", "a", "x", "w-")
_CONFIG: dict[str, Any] = {
    "cache_bytes": 64 << 20,
    "inline_bytes": 512 << 10,
    "workers": None,
    "durability": "full",
    "lock_timeout_s": 60.0,
}
_REF_NAME = re.compile(r"[^\x00-\x1f\x7f\\:~^?*\[ ]+")
_LOG_PAGE = 256

_open_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def open(
    root: str | os.PathLike[str],
    *,
    index: str | None = None,
    mode: str = "a",
    storage_options: dict[str, Any] | None = None,
    **config: Any,
) -> Store:
    """Open a store, or make one.

    Parameters
    ----------
    root : str or path
        The directory of the data.
    index : str, optional
        The URL of the index; by default ``index.sqlite`` in the directory.
    mode : {"a", "r", "r+", "x", "w-"}
        ``"r"`` reads, ``"r+"`` reads and writes what exists, ``"a"`` makes a store where there is nothing yet (only
        in an absent or empty directory), ``"x"`` and ``"w-"`` insist on making one.
    storage_options : dict, optional
        For roots that are not local directories.
    **config
        ``cache_bytes``: decoded tiles kept in memory (64 MiB). ``inline_bytes``: encoded bytes up to which a
        transaction keeps its tiles in the index instead of a file (512 KiB). ``workers``: threads that encode and
        decode (the number of cores). ``durability``: ``"full"``, or ``"os"``, which leaves it to the operating system
        when commits reach the disk. ``lock_timeout_s``: how long a commit waits for its turn (60).

    Returns
    -------
    Store

    Raises
    ------
    StoreNotFoundError
        If there is no store and `mode` does not make one.
    AlreadyExistsError
        If there is something already, and `mode` insists on making a store; or something else than a store.
    FormatError
        If the store was written by a newer txstore, or by one so old that it has to be upgraded first.
    TypeError
        For an unknown key of the configuration.
    InvalidInputError
        For other arguments that can't be used.
    """
    unknown = sorted(set(config) - set(_CONFIG))
    if unknown:
        raise TypeError(f"open() got an unexpected keyword argument {unknown[0]!r}; there are {', '.join(_CONFIG)}")
    if mode not in _MODES:
        raise InvalidInputError(f"mode={mode!r} must be one of {', '.join(map(repr, _MODES))}")
    address = Address(_local(root), index, mode, tuple(sorted(config.items())))
    if storage_options:
        raise InvalidInputError("storage_options are for roots that are not local directories")
    if index is not None:
        # The URL may hold a password, so it is not repeated.
        raise InvalidInputError("index=: only the embedded index is available, leave it out")
    return Store(_open_core(address, create=True))


def _local(root: str | os.PathLike[str]) -> str:
    text = os.fspath(root)
    if not isinstance(text, str) or not text or "\x00" in text:
        raise InvalidInputError(f"root {text!r} is no path of a directory")
    _check_place("root", text)
    if text.startswith("file://"):
        text = text[len("file://") :]
    if "://" in text:
        raise InvalidInputError(f"root {text!r}: only local directories are available")
    return os.path.abspath(os.path.expanduser(text))


def _open_core(address: Address, *, create: bool = False) -> Core:
    config = {**_CONFIG, **dict(address.config)}
    if config["durability"] not in ("full", "os"):
        raise InvalidInputError(f"durability={config['durability']!r} must be 'full' or 'os'")
    for key in ("cache_bytes", "inline_bytes"):
        config[key] = _whole(key, config[key], 0, "a number of bytes")
    if config["workers"] is not None:
        config["workers"] = _whole("workers", config["workers"], 1)
    _check_seconds("lock_timeout_s", config["lock_timeout_s"])
    root = Path(address.root)
    read_only = address.mode == "r"
    sync = config["durability"] == "full"
    there = find_store(root)
    if there and address.mode in ("x", "w-") and create:
        raise AlreadyExistsError(f"there is a store at {root} already; open it with mode='r+'")
    if not there:
        if address.mode in ("r", "r+") or not create:
            raise StoreNotFoundError(f"there is no store at {root}; mode='a' makes one")
        create_store(root, exclusive=address.mode in ("x", "w-"), timeout_s=config["lock_timeout_s"])
    dialect = SQLiteDialect(
        str(root / "index.sqlite"),
        str(root / "locks" / "commit"),
        read_only=read_only,
        sync=sync,
        timeout_s=config["lock_timeout_s"],
    )
    unsynced = root / "locks" / "unsynced"
    if not sync and not read_only:
        try:
            unsynced.touch()
            sync_folder(str(unsynced.parent))  # it must outlast what it warns of
        except OSError as error:
            raise storage_error(f"make {unsynced}", error) from error
    index = Index(dialect)
    core = Core(
        address,
        index,
        LocalStorage(root, sync=sync),
        str(root / "locks" / "holders"),
        read_only=read_only,
        cache_bytes=config["cache_bytes"],
        inline_bytes=config["inline_bytes"],
        workers=config["workers"] or os.cpu_count() or 1,
    )
    try:
        with index.read() as connection:
            require_format(connection, str(root))
            head = read_head(connection)
            core.known_head, index.identity = head.head, head.identity
    except BaseException:
        core.close()
        raise
    return core


_reopened: weakref.WeakValueDictionary[Address, Core] = weakref.WeakValueDictionary()


def _reopen_core(address: Address) -> Core:
    """The store of something that was pickled; one per process and address."""
    core = _reopened.get(address)
    if core is None or core.closed:
        readable = address._replace(mode="r" if address.mode == "r" else "r+")
        core = _open_core(readable)
        _reopened[address] = core
        _open_stores.add(Store(core))
    return core


set_opener(_reopen_core)


class Store:
    """One open store: a directory of segments and the index that says what they mean.

    Notes
    -----
    Safe for threads. After a fork the child may go on using it. Can be pickled: it travels as its address. As a
    context manager it closes itself.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        _open_stores.add(self)

    @property
    def root(self) -> str:
        """The directory."""
        return self._core.address.root

    @property
    def read_only(self) -> bool:
        """Whether it was opened with mode ``"r"``."""
        return self._core.read_only

    def __repr__(self) -> str:
        return f"<txstore.Store {self.root!r}{' (closed)' if self._core.closed else ''}>"

    def __enter__(self) -> Store:
        self._core.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self._core.address,)

    def close(self) -> None:
        """Abort open transactions and give back connections, threads and files; idempotent."""
        if self._core.closed:
            return
        for transaction in list(self._core.open_transactions):
            transaction.abort()
        self._core.close()

    # --- reading --------------------------------------------------------------------------------

    def snapshot(
        self,
        *,
        branch: str | None = None,
        version: int | None = None,
        as_of: datetime | str | None = None,
        tag: str | None = None,
    ) -> Snapshot:
        """Everything visible at a version.

        Parameters
        ----------
        branch : str, optional
            The branch, ``"main"`` by default.
        version : int, optional
            Alone: the state after that commit, on the branch that it was made on. With a branch: that branch then.
        as_of : datetime or str, optional
            The state at a moment, inclusive: an aware datetime, or ISO 8601 with an offset.
        tag : str, optional
            The version that a tag names (with `as_of`: named then).

        Raises
        ------
        NotFoundError
            If there is no such version, branch or tag.
        SnapshotExpiredError
            If the version has expired.
        InvalidInputError
            If the time is naive or in the future, or the arguments exclude each other.
        """
        _check_texts(branch=branch, tag=tag)
        state, timeline = self._core.state(branch=branch, version=_version(version), as_of=as_of, tag=tag)
        return Snapshot(self._core, state, timeline)

    def __getitem__(self, path: str) -> Any:
        """``store.snapshot()[path]``: pinned to the newest version of main, read-only."""
        return self.snapshot()[path]

    def __contains__(self, path: object) -> bool:
        return path in self.snapshot()

    def __iter__(self) -> Iterator[str]:
        # Every step of a loop would look at the newest version anew.
        raise TypeError("a store has no members of its own: iterate over store.snapshot()")

    def __len__(self) -> int:
        raise TypeError("a store has no members of its own: use len(store.snapshot())")

    def __bool__(self) -> bool:
        return True

    def log(self, *, branch: str = "main", path: str | None = None, limit: int | None = None) -> Iterator[Commit]:
        """The commits of a branch, newest first, with those that it inherited.

        Parameters
        ----------
        branch : str
            The branch.
        path : str, optional
            Only commits that changed this array or group, or something below it, under that name; none where
            nothing ever had it.
        limit : int, optional
            At most so many.

        Raises
        ------
        NotFoundError
            If there is no such branch.
        """
        if limit is not None:
            limit = _whole("limit", limit, 0)
        _check_texts(branch=branch)
        path = None if path is None else check_path(path)
        state, timeline = self._core.state(branch=branch)
        return self._log(timeline.at(state.version), path, limit)

    def _log(self, seen: branches.Lineage, path: str | None, limit: int | None) -> Iterator[Commit]:
        before: int | None = None
        left = -1 if limit is None else limit
        while left:
            self._core.check_open()
            with self._core.index.read() as connection:
                rows = commitlog.commits(connection, seen, before=before, limit=_LOG_PAGE)
                names = {row.id: row.name for row in branches.all_branches(connection)} | {MAIN: "main"}
            for row in rows:
                found = Commit.from_row(row, names.get(row.branch or MAIN, "main"))
                if path and not any(f"{one}/".startswith(f"{path}/") for one in found.paths):
                    continue
                yield found
                left -= 1
                if not left:
                    return
            if len(rows) < _LOG_PAGE:
                return
            before = rows[-1].version

    def diff(self, a: Any, b: Any, path: str = "") -> Diff:
        """What changed from one version to another.

        Parameters
        ----------
        a, b : int or Snapshot
            Versions, or snapshots.
        path : str
            Only this array or group and what lies below it.

        Raises
        ------
        NotFoundError
            If a version is not there, or neither of them has anything at `path`.
        SnapshotExpiredError
            If it can't be told any more, because `a` lies below the conflict horizon.
        InvalidInputError
            For a snapshot of another store.
        """
        from txstore.compaction.diff import diff

        return diff(self, a, b, path)

    # --- writing --------------------------------------------------------------------------------

    def transaction(
        self,
        *,
        branch: str = "main",
        base: int | None = None,
        txid: uuid.UUID | str | None = None,
        message: str | None = None,
        author: str | None = None,
        properties: dict[str, Any] | None = None,
        isolation: str = "snapshot",
        on_conflict: str = "raise",
        allow_empty: bool = False,
    ) -> Transaction:
        """Begin a transaction.

        Parameters
        ----------
        branch : str
            The branch to commit to.
        base : int, optional
            Start from this version of it instead of the newest.
        txid : UUID, optional
            Its id, for those who must find out after a crash whether it landed.
        message, author : str, optional
            Kept with the commit.
        properties : dict, optional
            JSON values, kept with the commit.
        isolation : {"snapshot", "serializable"}
            Conflict with what others wrote where this one writes; or also with what it has read.
        on_conflict : {"raise", "overwrite"}
            Last writer wins for cells and attributes with ``"overwrite"``; structure still conflicts.
        allow_empty : bool
            Commit also when nothing was staged.

        Raises
        ------
        ReadOnlyError
            If the store was opened for reading.
        NotFoundError
            If there is no such branch or version.
        InvalidInputError
            If an argument can't be used.
        """
        core = self._core
        core.require_writable("write")
        for what, value, allowed in (
            ("isolation", isolation, ("snapshot", "serializable")),
            ("on_conflict", on_conflict, ("raise", "overwrite")),
        ):
            if value not in allowed:
                raise InvalidInputError(f"{what}={value!r} must be one of {', '.join(map(repr, allowed))}")
        _check_texts(message=message, author=author, branch=branch)
        base = _version(base, "base")
        # Pin first, then look: expiry looks at the pins after it has taken the lock, so one sees the other.
        pin = core.holder.pin(core.known_head if base is None else min(base, core.known_head))
        try:
            state, timeline = core.state_pinned(branch=branch, version=base)
            return Transaction(
                core,
                state,
                timeline,
                pin,
                txid=_txid(txid),
                message=message,
                author=author,
                properties=properties,
                serializable=isolation == "serializable",
                overwrite=on_conflict == "overwrite",
                allow_empty=allow_empty,
            )
        except BaseException:
            core.holder.unpin(pin)
            raise

    def run(
        self,
        fn: Callable[[Transaction], _Result],
        *,
        attempts: int | None = None,
        timeout: float | None = 60,
        **options: Any,
    ) -> _Result:
        """Run a function in a transaction, again when somebody else was first.

        Parameters
        ----------
        fn : callable
            Called with a fresh transaction each time; what it returns is returned. It should have no other effects.
        attempts : int, optional
            How often at most; None: until the time is up.
        timeout : float, optional
            Seconds after which no new attempt begins; None: for ever.
        **options
            As :meth:`transaction`.

        Raises
        ------
        ConflictError
            The last one, when attempts or time have run out.
        CommitUnknownError
            If the index can't be reached to settle a commit whose reply was lost.
        """
        if attempts is not None:
            attempts = _whole("attempts", attempts, 1)
        deadline = None if timeout is None else time.monotonic() + timeout
        tried = 0
        given = options.pop("txid", None)
        while True:
            tried += 1
            # A transaction that was refused has left no trace, so the caller's id serves the next attempt as well.
            tx = self.transaction(txid=given, **options)
            try:
                with tx:
                    result = fn(tx)
                return result
            except ConflictError:
                if self._enough(tried, attempts, deadline):
                    raise
            except CommitUnknownError as unknown:
                try:
                    landed = self.resolve(tx.txid) is not None
                except StorageError:
                    raise unknown from None
                if landed:
                    return result
                if given is not None or self._enough(tried, attempts, deadline):
                    raise StorageError(
                        f"transaction {tx.txid} has not landed and never will; run it again with another txid"
                    ) from unknown
            # Full jitter: many writers of one place spread out instead of meeting again.
            time.sleep(random.uniform(0, min(0.1, 0.0005 * 2 ** min(tried, 8))))

    @staticmethod
    def _enough(tried: int, attempts: int | None, deadline: float | None) -> bool:
        late = deadline is not None and time.monotonic() >= deadline
        return late or (attempts is not None and tried >= attempts)

    def resolve(self, txid: uuid.UUID | str) -> Commit | None:
        """What became of a transaction; None: it has not committed and never will.

        Raises
        ------
        StorageError
            If the index can't be reached.
        ReadOnlyError
            If the store was opened for reading: an answer of None has to be made true.
        """
        self._core.require_writable("resolve")
        row = resolve(self._core.index, _txid(txid).bytes)
        if row is None:
            return None
        with self._core.index.read() as connection:
            found = branches.branch(connection, row.branch) if row.branch else None
        return Commit.from_row(row, found.name if found else "main")

    # --- tags and branches ----------------------------------------------------------------------

    def create_tag(self, name: str, version: int | None = None, *, move: bool = False) -> None:
        """Name a version (None: the newest of main); it is kept from expiring.

        Raises
        ------
        AlreadyExistsError
            If there is such a tag and `move` is False.
        NotFoundError, SnapshotExpiredError
            If the version is not there, or not any more.
        InvalidInputError
            If the name can't be used.
        """
        self._core.require_writable("tag")
        _ref_name(name)
        with self._core.pinned(version=_version(version)) as (state, _):
            self._refer(RefEdit("tag", name, state.commit, state.branch, move))

    def delete_tag(self, name: str) -> None:
        """Take a tag away; its past stays visible to ``as_of``.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        self._core.require_writable("tag")
        self._refer(RefEdit("tag", _ref_name(name), None))

    def tags(self) -> dict[str, int]:
        """Tags by name, with their versions."""
        return {name: target for name, (target, _) in self._references("tag").items()}

    def create_branch(self, name: str, version: int | None = None) -> None:
        """Begin a branch at a version (None: the newest of main).

        Raises
        ------
        AlreadyExistsError
            If there is such a branch.
        NotFoundError, SnapshotExpiredError
            If the version is not there, or not any more.
        InvalidInputError
            If the name can't be used.
        """
        self._core.require_writable("branch")
        if name == "main":
            raise AlreadyExistsError("the branch 'main' exists already")
        _ref_name(name)
        with self._core.pinned(version=_version(version)) as (state, _):
            self._refer(RefEdit("branch", name, state.commit, state.branch))

    def delete_branch(self, name: str) -> None:
        """Take a branch away; ``as_of`` still answers what it held.

        Raises
        ------
        NotFoundError
            If there is none.
        InvalidInputError
            For main, which stays.
        """
        self._core.require_writable("branch")
        if name == "main":
            raise InvalidInputError("the branch 'main' can't be deleted")
        self._refer(RefEdit("branch", _ref_name(name), None))

    def branches(self) -> dict[str, int]:
        """Branches by name, with their newest versions."""
        self._core.check_open()
        with self._core.index.read() as connection:
            head = read_head(connection).head
            found = {"main": commitlog.newest_commit(connection, branches.lineage(connection, MAIN, head))}
            for name, (branch_id, _) in branches.references(connection, "branch", head).items():
                found[name] = commitlog.newest_commit(connection, branches.lineage(connection, branch_id, head))
        return found

    def _references(self, kind: str) -> dict[str, tuple[int, int | None]]:
        self._core.check_open()
        with self._core.index.read() as connection:
            head = read_head(connection).head
            return branches.references(connection, kind, head)

    def _refer(self, edit: RefEdit) -> None:
        commit(self._core.index, Edit(fresh_id().bytes, refs=(edit,)))

    # --- maintenance ----------------------------------------------------------------------------

    def compact(
        self,
        path: str = "",
        *,
        branch: str = "main",
        executor: Any = None,
        dry_run: bool = False,
        progress: Callable[[Any], None] | None = None,
    ) -> CompactionReport:
        """Rewrite fragments into chunk tiles, partition by partition; changes nothing that a reader sees.

        Reads and encodes in the threads of `executor`; by default in ones that, on Linux, give way to whoever else
        wants the processor.

        Raises
        ------
        NotFoundError
            If there is nothing at `path`.
        ReadOnlyError, StorageError
            If the store can't be written; a dry run needs not to.
        """
        from txstore.compaction.rewrite import compact

        if not dry_run:
            self._core.require_writable("compact")
        self._core.check_open()
        _check_work(executor, progress)
        _check_texts(branch=branch, path=path)
        return compact(self, path, branch=branch, executor=executor, dry_run=dry_run, progress=progress)

    def expire(self, *, older_than: Any = None, keep_last: int | None = None, dry_run: bool = False) -> ExpireReport:
        """Let old versions go: those that neither rule keeps. Heads, tags and running transactions are always kept.

        Parameters
        ----------
        older_than : timedelta or datetime, optional
            Keep what was the newest version at any time since then.
        keep_last : int, optional
            Keep so many of the newest versions of main.

        Raises
        ------
        InvalidInputError
            If neither rule is given, or one can't be used.
        """
        from txstore.compaction.retention import expire

        self._core.require_writable("expire")
        return expire(self, older_than=older_than, keep_last=keep_last, dry_run=dry_run)

    def vacuum(self, *, dry_run: bool = False) -> VacuumReport:
        """Delete the bytes that no retained version needs, and what dead processes left behind.

        Raises
        ------
        CorruptionError
            If, in a store that was written with ``durability="os"``, files that are read in the stead of what would go
            have been cut: that is kept, and all else is gone.
        """
        from txstore.compaction.retention import vacuum

        self._core.require_writable("vacuum")
        return vacuum(self, dry_run=dry_run)

    def verify(
        self, path: str = "", *, executor: Any = None, progress: Callable[[Any], None] | None = None
    ) -> VerifyReport:
        """Read and check every byte and every row of the index; changes nothing."""
        from txstore.compaction.verify import verify

        self._core.check_open()
        _check_work(executor, progress)
        check_path(path)
        return verify(self, path, executor=executor, progress=progress)

    def export(
        self,
        dest: str | os.PathLike[str],
        *,
        path: str = "",
        version: int | None = None,
        branch: str | None = None,
        zarr_format: int = 3,
        layout: str = "chunks",
        profile: str = "native",
        consolidated: bool = True,
        chunks: Any = None,
        overwrite: bool = False,
        incremental: bool = False,
        executor: Any = None,
        progress: Callable[[Any], None] | None = None,
    ) -> ExportReport:
        """Write a version as plain Zarr that needs no txstore to open; see docs/guide-export.md.

        Raises
        ------
        AlreadyExistsError
            If there is something at `dest`.
        NotFoundError, SnapshotExpiredError
            If path or version is not there, or not any more.
        InvalidInputError
            If the profile can't hold an array; the message names it and the profile that can.
        """
        from txstore.compaction.export import export

        self._core.check_open()
        _check_work(executor, progress)
        _check_texts(branch=branch, path=path)
        _check_place("dest", dest)
        return export(
            self,
            dest,
            path=path,
            version=_version(version),
            branch=branch,
            zarr_format=zarr_format,
            layout=layout,
            profile=profile,
            consolidated=consolidated,
            chunks=chunks,
            overwrite=overwrite,
            incremental=incremental,
            executor=executor,
            progress=progress,
        )

    def import_zarr(
        self,
        src: str | os.PathLike[str],
        *,
        path: str = "",
        branch: str = "main",
        message: str | None = None,
        progress: Callable[[Any], None] | None = None,
    ) -> ImportReport:
        """Bring a Zarr v2 or v3 hierarchy in, in one commit.

        Raises
        ------
        NotFoundError
            If there is no Zarr at `src`.
        AlreadyExistsError
            If there is something at `path` already.
        InvalidInputError
            If something can't be held; the message names the array.
        """
        from txstore.compaction.importer import import_zarr

        self._core.require_writable("import")
        _check_work(None, progress)
        _check_texts(branch=branch, path=path, message=message)
        _check_place("src", src)
        return import_zarr(self, src, path=path, branch=branch, message=message, progress=progress)

    def info(self) -> dict[str, Any]:
        """Facts about the store as a JSON-able dict: versions, sizes, counts."""
        self._core.check_open()
        with self._core.index.read() as connection:
            head = read_head(connection)
            counts = lookup.counts(connection)
        return {
            "root": self.root,
            "uuid": str(uuid.UUID(bytes=head.uuid)),
            "format": head.format,
            "version": head.head,
            "committed_at": to_text(to_datetime(head.head_at)) if head.head else None,
            "horizon": head.horizon,
            "conflict_horizon": head.conflict_horizon,
            "branches": self.branches(),
            "tags": self.tags(),
            **counts,
            "index_bytes": self._core.index.dialect.size_bytes(),
        }


def _unpickle(address: Address) -> Store:
    return Store(_reopen_core(address))


def _txid(value: uuid.UUID | str | None) -> uuid.UUID:
    if value is None:
        return fresh_id()
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise InvalidInputError(f"txid={value!r} is no UUID") from None


def _check_texts(**given: Any) -> None:
    for what, text in given.items():
        if text is not None:
            check_text(what, text)


def _check_place(what: str, place: Any) -> None:
    try:
        os.fsencode(place)
    except UnicodeEncodeError:
        raise InvalidInputError(f"{what} {shown(os.fspath(place))} can't be written as UTF-8") from None


def _check_work(executor: Any, progress: Any) -> None:
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise InvalidInputError(f"executor={executor!r} must have submit(), as those of concurrent.futures do")
    if progress is not None and not callable(progress):
        raise InvalidInputError(f"progress={progress!r} must be callable")


def _check_seconds(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value) or value < 0:
        raise InvalidInputError(f"{what}={value!r} must be a number of seconds, 0 or more")


def _version(value: Any, what: str = "version") -> int | None:
    return None if value is None else _whole(what, value, 0)


def _whole(what: str, value: Any, least: int, kind: str = "an integer") -> int:
    """An integer of any library as Python's own; a truth is none."""
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if number >= 2**63:
        raise InvalidInputError(f"{what}: {shown(number)} is too large")
    if number < least:
        raise InvalidInputError(f"{what}={value!r} must be {kind}, {least} or more")
    return number


def _ref_name(name: str) -> str:
    if not isinstance(name, str) or not _REF_NAME.fullmatch(name) or name.startswith("-") or name.isdigit():
        raise InvalidInputError(
            f"{name!r} can't name a tag or a branch: no spaces or control characters, none of \\ : ~ ^ ? * [, "
            "no leading -, not digits only"
        )
    return check_text("name", name)


@atexit.register
def _close_all() -> None:
    """Close in order what a program leaves open, so that the last checkpoint happens under the lock."""
    for store in list(_open_stores):
        try:
            store.close()
        except Exception:
            pass


__all__ = ["Store", "open"]
