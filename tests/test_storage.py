"""Files: whole or absent, synced in order, never read past their end; and every call that the system may fail."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts import process, run, says

from txstore import filesystems
from txstore.errors import CorruptionError, StorageError, StoreClosedError
from txstore.filesystems import check_local
from txstore.storage import LocalStorage, MissingFileError, segment_key, segment_of

KEYS = [segment_key(bytes([number]) * 16) for number in range(40)]
KEY = KEYS[0xA % 40]

HOSTILE = [
    "",
    "/",
    "segments",
    "/etc/passwd",
    "../../etc/passwd",
    "segments/../../../etc/passwd",
    "segments/ab/../" + "ab" * 16,
    "segments/ac/" + "ab" * 16,
    "segments/ab/" + "AB" * 16,
    "segments/ab/" + "ab" * 15,
    "segments/ab/" + "ab" * 17,
    "segments/ab/" + "ab" * 16 + "\n",
    "segments/ab/" + "ab" * 16 + "\0",
    "segments/ab/" + "ab" * 16 + ".tmp",
    "segments\\ab\\" + "ab" * 16,
    "./segments/ab/" + "ab" * 16,
    "file:///segments/ab/" + "ab" * 16,
    "segments/\u0660\u0660/" + "\u0660" * 32,
]


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[LocalStorage]:
    (tmp_path / "store").mkdir()
    storage = LocalStorage(tmp_path / "store")
    yield storage
    storage.close()


def write(storage: LocalStorage, key: str, data: bytes) -> None:
    sink = storage.create(key)
    sink.write(data)
    assert sink.commit() == len(data)


def files(storage: LocalStorage) -> list[str]:
    return sorted(str(path.relative_to(storage.root)) for path in Path(storage.root).rglob("*") if path.is_file())


def test_keys() -> None:
    assert segment_key(bytes(range(16))) == "segments/00/000102030405060708090a0b0c0d0e0f"
    assert segment_of(segment_key(bytes(range(16)))) == bytes(range(16))
    with pytest.raises(StorageError):
        segment_key(b"short")


@pytest.mark.parametrize("key", HOSTILE)
def test_hostile_keys(storage: LocalStorage, key: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: segment_of(key),
        lambda: storage.create(key),
        lambda: storage.read(key, 0, 1),
        lambda: storage.read_into(key, 0, memoryview(bytearray(1))),
        lambda: storage.size(key),
        lambda: storage.delete(key),
        lambda: storage.sync_dirs([key]),
    ]
    for call in calls:
        with pytest.raises(StorageError, match="is no key of a segment"):
            call()
    assert not os.listdir(storage.root)


def test_a_file_appears_whole(storage: LocalStorage) -> None:
    sink = storage.create(KEY)
    sink.write(b"abc")
    sink.write(memoryview(bytearray(b"defgh"))[1:3])
    sink.write(b"")
    assert sink.position == 5
    assert sink.read_back(1, 3) == b"bce"
    assert sink.read_back(5, 0) == b""
    with pytest.raises(StorageError, match="not been written"):
        sink.read_back(3, 3)
    assert storage.size(KEY) is None and list(storage.list()) == []
    assert list(storage.list(unfinished=True)) == [KEY]
    with pytest.raises(MissingFileError):
        storage.read(KEY, 0, 1)
    assert sink.commit() == 5
    assert storage.size(KEY) == 5 and list(storage.list()) == [KEY] and list(storage.list(unfinished=True)) == []
    assert storage.read(KEY, 0, 5) == b"abcef"
    buffer = bytearray(4)
    storage.read_into(KEY, 2, memoryview(buffer)[1:])
    assert bytes(buffer) == b"\0cef"
    assert storage.read(KEY, 5, 0) == b""
    sink.abort()
    assert storage.size(KEY) == 5
    for call in (lambda: sink.write(b"x"), lambda: sink.read_back(0, 1), sink.commit):
        with pytest.raises(StorageError, match="no longer being written"):
            call()


def test_abort_leaves_nothing(storage: LocalStorage) -> None:
    sink = storage.create(KEY)
    sink.write(b"abc")
    sink.abort()
    sink.abort()
    assert files(storage) == []
    sink = storage.create(KEY)
    del sink
    assert files(storage) == []


def test_a_key_is_used_once(storage: LocalStorage) -> None:
    sink = storage.create(KEY)
    with pytest.raises(StorageError, match="can't create .*File exists") as raised:  # noqa: RUF043
        storage.create(KEY)
    assert raised.value.errno == errno.EEXIST
    sink.write(b"first")
    sink.commit()
    with pytest.raises(StorageError, match="File exists"):
        storage.create(KEY)
    assert storage.read(KEY, 0, 5) == b"first"
    assert len(files(storage)) == 1


def test_delete(storage: LocalStorage) -> None:
    storage.delete(KEY)
    write(storage, KEY, b"abc")
    assert storage.read(KEY, 0, 3) == b"abc"
    storage.delete(KEY)
    storage.delete(KEY)
    with pytest.raises(MissingFileError):
        storage.read(KEY, 0, 3)
    assert files(storage) == []


def test_a_file_deleted_while_it_is_written_never_appears(storage: LocalStorage) -> None:
    sink = storage.create(KEY)
    sink.write(b"abc")
    storage.delete(KEY)
    with pytest.raises(StorageError, match="can't commit"):
        sink.commit()
    sink.abort()
    assert files(storage) == []


def test_a_file_deleted_elsewhere_stays_readable_where_it_is_open(storage: LocalStorage) -> None:
    write(storage, KEY, b"abc")
    assert storage.read(KEY, 0, 1) == b"a"
    LocalStorage(storage.root).delete(KEY)
    assert storage.read(KEY, 0, 3) == b"abc"
    with pytest.raises(MissingFileError):
        LocalStorage(storage.root).read(KEY, 0, 3)


def room(storage: LocalStorage) -> int:
    """Bytes of files that have been deleted and are open: what the file system can't use again yet."""
    total = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            target, found = os.readlink(f"/proc/self/fd/{number}"), os.stat(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target.startswith(storage.root) and not found.st_nlink:
            total += found.st_size
    return total


def test_files_deleted_elsewhere_give_their_room_back(storage: LocalStorage) -> None:
    for key in KEYS[:5]:
        write(storage, key, bytes(1000))
        assert storage.read(key, 0, 1) == b"\0"
    other = LocalStorage(storage.root)
    for key in KEYS[:3]:
        other.delete(key)
    assert room(storage) == 3000
    storage.maintained(0)
    assert room(storage) == 0
    before = len(os.listdir("/proc/self/fd"))
    for key in KEYS[3:5]:
        assert storage.read(key, 0, 1) == b"\0"
    assert len(os.listdir("/proc/self/fd")) == before, "what is there has stayed open"
    other.delete(KEYS[3])
    storage.maintained(0)  # nothing has happened
    assert room(storage) == 1000
    storage.maintained(1)
    assert room(storage) == 0
    with pytest.raises(MissingFileError):
        storage.read(KEYS[0], 0, 1)


def test_a_file_deleted_here_gives_its_room_back_at_once(storage: LocalStorage) -> None:
    """Also when it is being opened at the same moment, over and over."""
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            for key in KEYS[:8]:
                with contextlib.suppress(MissingFileError):
                    storage.read(key, 0, 1)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            for key in KEYS[:8]:
                write(storage, key, b"abc")
            for key in KEYS[:8]:
                storage.delete(key)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert room(storage) == 0


def test_a_forked_child_has_files_of_its_own(tmp_path: Path) -> None:
    """And a lock of its own: that of its parent may be held by a thread that it does not have."""
    assert run(FORKED, tmp_path) == "good\n"


FORKED = """
import itertools, os, sys, threading
from txstore.storage import LocalStorage, segment_key
storage = LocalStorage(sys.argv[1], sync=False, max_open=2)
counter = itertools.count()
keys = [segment_key(bytes([number]) * 16) for number in range(6)]
for key in keys:
    sink = storage.create(key)
    sink.write(key.encode())
    sink.commit()
stop = threading.Event()
def read():
    while not stop.is_set():
        for key in keys:
            assert storage.read(key, 0, len(key)) == key.encode()
            storage.maintained(next(counter))
threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(100):
    child = os.fork()
    if not child:
        for key in keys:
            assert storage.read(key, 0, len(key)) == key.encode()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
print("good")
"""


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 11), (10, 1), (11, 0), (2**62, 1), (0, 2**50), (2**63, 2**63), (-1, 2), (5, -1)]
)
def test_reading_past_the_end(storage: LocalStorage, offset: int, length: int) -> None:
    write(storage, KEY, b"0123456789")
    tracemalloc.start()
    try:
        with pytest.raises(CorruptionError) as raised:
            storage.read(KEY, offset, length)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert raised.value.place == (KEY, offset, length)
    if 0 <= length < 100:
        with pytest.raises(CorruptionError):
            storage.read_into(KEY, offset, memoryview(bytearray(length)))


def test_a_file_that_was_cut_after_it_was_opened(storage: LocalStorage) -> None:
    write(storage, KEY, b"0123456789")
    assert storage.read(KEY, 0, 10) == b"0123456789"
    os.truncate(f"{storage.root}/{KEY}", 4)
    for offset in (0, 4, 6):
        with pytest.raises(CorruptionError, match="said to be in it"):
            storage.read(KEY, offset, 4 if offset else 10)
        with pytest.raises(CorruptionError):
            storage.read_into(KEY, offset, memoryview(bytearray(4 if offset else 10)))


@given(st.binary(max_size=200), st.integers(1, 7), st.data())
def test_reads_and_writes_that_the_system_cuts_short(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, most: int, data: st.DataObject
) -> None:
    storage = LocalStorage(tmp_path_factory.mktemp("store"), sync=False)
    write_all, pread, preadv = os.write, os.pread, os.preadv
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", lambda number, view: write_all(number, view[:most]))
        patch.setattr(os, "pread", lambda number, length, at: pread(number, min(length, most), at))
        patch.setattr(os, "preadv", lambda number, views, at: preadv(number, [views[0][:most]], at))
        sink = storage.create(KEY)
        sink.write(content)
        assert sink.read_back(0, len(content)) == content
        sink.commit()
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, len(content) - start))
        assert storage.read(KEY, start, length) == content[start : start + length]
        buffer = bytearray(length)
        storage.read_into(KEY, start, memoryview(buffer))
        assert bytes(buffer) == content[start : start + length]
    storage.close()


def test_any_contiguous_buffer_is_filled(storage: LocalStorage) -> None:
    import numpy as np

    values = np.arange(12, dtype="<i8").reshape(3, 4)
    write(storage, KEY, values.tobytes())
    found = np.zeros((3, 4), "<i8")
    storage.read_into(KEY, 0, found.data)
    assert (found == values).all()


def test_few_descriptors_are_kept(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path, sync=False, max_open=4)
    for number, key in enumerate(KEYS):
        write(storage, key, bytes([number]) * 10)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        for number, key in enumerate(KEYS):
            assert storage.read(key, 3, 2) == bytes([number]) * 2
            assert storage.read(KEYS[0], 0, 1) == b"\0"
            assert len(os.listdir("/proc/self/fd")) <= before + 4
    # What is read again and again is not opened again and again.
    assert KEYS[0] in storage._files._files
    storage.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_threads_read_while_descriptors_come_and_go(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path, sync=False, max_open=2)
    for number, key in enumerate(KEYS):
        write(storage, key, bytes([number]) * 5000)
    wrong: list[Any] = []

    def read(start: int) -> None:
        try:
            for step in range(600):
                number = (start + step * 7) % len(KEYS)
                if storage.read(KEYS[number], 100, 4000) != bytes([number]) * 4000:
                    wrong.append(number)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_list(storage: LocalStorage) -> None:
    assert list(storage.list()) == []
    for key in KEYS[:5]:
        write(storage, key, b"x")
    sink = storage.create(KEYS[7])
    folder = Path(storage.root, "segments")
    (folder / "notes.txt").write_text("")
    (folder / "00" / "other").write_text("")
    assert list(storage.list()) == KEYS[:5]
    assert list(storage.list("segments/02")) == list(storage.list("segments/02/")) == [KEYS[2]]
    assert list(storage.list("segments/ff")) == []
    assert list(storage.list(unfinished=True)) == [KEYS[7]]
    for prefix in ("", "..", "segments/..", "segments/0", "/"):
        with pytest.raises(StorageError):
            list(storage.list(prefix))
    sink.abort()


def test_close(storage: LocalStorage) -> None:
    write(storage, KEY, b"abc")
    storage.read(KEY, 0, 3)
    storage.close()
    storage.close()
    calls: list[Callable[[], Any]] = [
        lambda: storage.read(KEY, 0, 3),
        lambda: storage.create(KEYS[1]),
        lambda: storage.size(KEY),
        lambda: storage.delete(KEY),
        lambda: list(storage.list()),
    ]
    for call in calls:
        with pytest.raises(StoreClosedError):
            call()


# -- durability


def record(monkeypatch: pytest.MonkeyPatch, storage: LocalStorage) -> list[tuple[str, str]]:
    """What is asked of the system from now on: the call, and the path below the root."""
    calls: list[tuple[str, str]] = []

    def name(what: Any) -> str:
        path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.fspath(what)
        return os.path.relpath(path, storage.root)

    def watch(module: Any, function: str) -> None:
        original = getattr(module, function)

        def watched(*arguments: Any) -> Any:
            calls.append((original.__name__, name(arguments[0])))
            return original(*arguments)

        monkeypatch.setattr(module, function, watched)

    for function in ("write", "rename", "fsync"):
        watch(os, function)
    watch(__import__("txstore.sink", fromlist=["sink"]), "_sync_data")
    return calls


def test_the_order_of_syncs(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = record(monkeypatch, storage)
    write(storage, KEY, b"abc")
    folder = os.path.dirname(KEY)
    first = [("write", KEY + ".tmp"), ("fdatasync", KEY + ".tmp"), ("rename", KEY + ".tmp"), ("fsync", folder)]
    assert calls[:4] == first
    # Names of folders as well, though others may have made them: they may have died before their sync.
    assert calls[4:] == [("fsync", "segments"), ("fsync", "."), ("fsync", "..")]
    calls.clear()
    storage.delete(KEY)
    write(storage, KEY, b"abc")
    assert calls == first
    calls.clear()
    write(storage, KEYS[20], b"abc")
    assert calls[3:] == [("fsync", os.path.dirname(KEYS[20])), ("fsync", "segments")]


def test_without_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path, sync=False)
    calls = record(monkeypatch, storage)
    write(storage, KEY, b"abc")
    assert [call for call, _ in calls] == ["write", "rename"]
    assert storage.read(KEY, 0, 3) == b"abc"


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system has no such hint")
@pytest.mark.parametrize("sync", [True, False])
def test_the_disk_begins_early_with_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool) -> None:
    begun: list[tuple[int, int]] = []

    def refuse(number: int, offset: int, length: int, advice: int) -> None:
        begun.append((offset, length))
        raise OSError(errno.EINVAL, "Invalid argument")  # it is but a hint

    monkeypatch.setattr("txstore.sink._EARLY_BYTES", 10)
    monkeypatch.setattr(os, "posix_fadvise", refuse)
    storage = LocalStorage(tmp_path, sync=sync)
    sink = storage.create(KEY)
    for number in range(9):
        sink.write(b"%d" % number * 4)
    sink.commit()
    assert begun == ([(0, 12), (12, 12), (24, 12)] if sync else [])
    assert storage.read(KEY, 0, 36) == b"".join(b"%d" % number * 4 for number in range(9))


def test_a_failed_sync_is_not_tried_again(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def fail(number: int) -> None:
        tries.append(number)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("txstore.sink._sync_data", fail)
    sink = storage.create(KEY)
    sink.write(b"abc")
    with pytest.raises(StorageError, match=r"can't commit segments/.*: Input/output error") as raised:
        sink.commit()
    assert raised.value.errno == errno.EIO
    for call in (sink.commit, lambda: sink.write(b"x"), lambda: sink.read_back(0, 1)):
        with pytest.raises(StorageError, match="no longer"):
            call()
    assert len(tries) == 1 and storage.size(KEY) is None
    sink.abort()
    assert files(storage) == []


def test_the_kth_call_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call in turn fails, once; there is a typed error, and no file is left or half there."""
    k = 0
    while True:
        (tmp_path / str(k)).mkdir()
        storage = LocalStorage(tmp_path / str(k))
        left = k

        def guard(original: Callable[..., Any]) -> Callable[..., Any]:
            def guarded(*arguments: Any, **keywords: Any) -> Any:
                nonlocal left
                left -= 1
                if left == -1:
                    raise OSError(errno.EIO, "Input/output error")
                return original(*arguments, **keywords)

            return guarded

        with monkeypatch.context() as patch:
            for name in ("open", "write", "rename", "fsync", "mkdir", "pread"):
                patch.setattr(os, name, guard(getattr(os, name)))
            patch.setattr("txstore.sink._sync_data", guard(os.fdatasync))
            sink = None
            try:
                sink = storage.create(KEY)
                sink.write(b"abc")
                sink.read_back(0, 3)
                sink.commit()
                assert storage.read(KEY, 0, 3) == b"abc"
                failed = False
            except StorageError as error:
                assert (error.errno == errno.EIO and KEY.split("/")[0] in str(error)) or str(tmp_path) in str(error)
                failed = True
                if sink is not None:
                    sink.abort()
        if left >= 0:
            assert not failed and k >= 12
            break
        assert failed
        # A failed read says nothing about the file; every failure before it means that there is none.
        assert files(storage) == [] or (left == -1 and storage.read(KEY, 0, 3) == b"abc")
        storage.close()
        k += 1


FULL = """
import resource, signal, sys
from txstore.errors import StorageError
from txstore.storage import LocalStorage, segment_key
storage = LocalStorage(sys.argv[1])
key = segment_key(bytes(16))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sink = storage.create(key)
try:
    for _ in range(20):
        sink.write(bytes(10_001))
except StorageError as error:
    print(error)
sink.abort()
print(sink.position, list(storage.list()), list(storage.list(unfinished=True)))
"""


def test_no_room(tmp_path: Path) -> None:
    lines = run(FULL, tmp_path).splitlines()
    assert lines == [f"can't write {segment_key(bytes(16))}: File too large", "100000 [] []"]


DIES = """
import os, sys
from txstore.storage import LocalStorage, segment_key
storage = LocalStorage(sys.argv[1])
kept = storage.create(segment_key(bytes(16)))
kept.write(b"abc")
kept.commit()
sink = storage.create(segment_key(bytes([1]) * 16))
sink.write(b"abc")
print("written", flush=True)
sys.stdin.readline()
"""


def test_what_a_dead_writer_leaves(storage: LocalStorage) -> None:
    with process(DIES, storage.root) as writer:
        assert says(writer) == "written"
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    assert list(storage.list()) == [KEYS[0]] and storage.read(KEYS[0], 0, 3) == b"abc"
    assert list(storage.list(unfinished=True)) == [KEYS[1]]
    with pytest.raises(MissingFileError):
        storage.read(KEYS[1], 0, 1)
    storage.delete(KEYS[1])
    assert files(storage) == [KEYS[0]]


FORK = """
import os, sys
from txstore.errors import StorageError
from txstore.storage import LocalStorage, segment_key
storage = LocalStorage(sys.argv[1])
keys = [segment_key(bytes([number]) * 16) for number in range(3)]
def write(key):
    sink = storage.create(key)
    sink.write(key.encode())
    sink.commit()
write(keys[0])
assert storage.read(keys[0], 0, 8) == b"segments"
before = storage._files._files[keys[0]].number
sink = storage.create(keys[1])
sink.write(b"abc")
child = os.fork()
if not child:
    try:
        assert storage.read(keys[0], 0, 8) == b"segments"
        for call in (lambda: sink.write(b"x"), sink.commit):
            try:
                call()
            except StorageError:
                pass
            else:
                raise AssertionError
        sink.abort()
        del sink
        write(keys[2])
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
sink.write(b"def")
assert sink.commit() == 6
assert storage.read(keys[1], 0, 6) == b"abcdef"
assert storage.read(keys[2], 0, 8) == b"segments"
print("good")
"""


def test_fork(tmp_path: Path) -> None:
    assert run(FORK, tmp_path) == "good\n"


# -- file systems


def test_a_local_root_is_fine(tmp_path: Path) -> None:
    check_local(tmp_path)
    check_local(tmp_path / "not" / "there" / "yet")
    assert filesystems.file_system_type(str(tmp_path)) is not None
    assert filesystems.file_system_type(str(tmp_path / "absent")) is None


@pytest.mark.parametrize(("number", "name"), [(0x6969, "NFS"), (0xFE534D42, "SMB"), (0x0BD00BD0, "Lustre")])
def test_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, name: str
) -> None:
    monkeypatch.setattr(filesystems, "file_system_type", lambda path: number)
    with pytest.raises(StorageError, match=rf"network file system \({name}\).*local disk.*index="):
        check_local(tmp_path / "new")
