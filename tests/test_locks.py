"""The store's lock: exclusion, order of arrival, time-outs, death and fork of who holds it. Real processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from scripts import eventually, process, run, says, tell

from txstore import locks, waiting
from txstore.errors import StorageError
from txstore.locks import FileLock

#: Of a lock: its file, that of the line, and, where there is a bell, its file and the memory that it lies in.
DESCRIPTORS = 2 if waiting._FUTEX is None else 4

HOLD = """
import sys, time
from txstore.locks import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.readline()
lock.release()
print("released", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "commit.lock"


def test_acquire_and_release(path: Path) -> None:
    lock = FileLock(path)
    assert not lock.held
    with lock:
        assert lock.held
    assert not lock.held
    lock.acquire()
    lock.release()


def test_it_is_not_reentrant(path: Path) -> None:
    lock, other = FileLock(path), FileLock(path)
    with lock:
        for again in (lock, other):
            with pytest.raises(StorageError, match="this thread holds the lock"):
                again.acquire()
        assert lock.held
    with other:
        assert lock.held and other.held


def test_only_the_holder_releases(path: Path) -> None:
    lock, other = FileLock(path), FileLock(path)
    with pytest.raises(StorageError, match="does not hold"):
        lock.release()
    with lock:
        with pytest.raises(StorageError, match="does not hold"):
            other.release()
        failures = []

        def release() -> None:
            try:
                lock.release()
            except StorageError as error:
                failures.append(error)

        thread = threading.Thread(target=release)
        thread.start()
        thread.join()
        assert failures and lock.held


def test_objects_of_one_process_exclude_each_other(path: Path) -> None:
    link = path.parent / "link"
    link.symlink_to(path.parent)
    locks = [FileLock(path), FileLock(link / path.name), FileLock(str(path))]
    value = 0

    def add(lock: FileLock) -> None:
        nonlocal value
        for _ in range(200):
            with lock:
                seen = value
                time.sleep(0)
                value = seen + 1

    threads = [threading.Thread(target=add, args=(lock,)) for lock in locks for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value == 1200


def test_threads_are_served_in_order(path: Path) -> None:
    lock = FileLock(path)
    served: list[int] = []

    def take(number: int) -> None:
        with lock:
            served.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    with lock:
        for number, thread in enumerate(threads, 1):
            thread.start()
            eventually(lambda number=number: len(lock._mutex._waiting) == number)  # type: ignore[misc]
    # Whoever has just released it stands at the end, too.
    take(6)
    for thread in threads:
        thread.join()
    assert served == list(range(7))


def test_time_out_among_threads(path: Path) -> None:
    lock = FileLock(path)
    errors: list[StorageError] = []

    def wait() -> None:
        impatient = FileLock(path, timeout_s=0.05)
        try:
            impatient.acquire()
        except StorageError as error:
            errors.append(error)

    with lock:
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    assert "0.05 s" in str(errors[0]) and str(path) in str(errors[0])
    with lock:
        pass


def test_time_out_among_processes(path: Path) -> None:
    with process(HOLD, path) as holder:
        assert says(holder) == "held"
        lock = FileLock(path, timeout_s=0.1)
        for _ in range(2):
            before = time.monotonic()
            with pytest.raises(StorageError) as raised:
                lock.acquire()
            assert 0.1 <= time.monotonic() - before < 5
            assert str(path) in str(raised.value) and f"held by process {holder.pid}" in str(raised.value)
            assert not lock.held
        tell(holder)
        assert says(holder) == "released"
        lock.timeout_s = 20
        for _ in range(3):
            with lock:
                pass


def wait_for_another(lock: FileLock, path: Path, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Take the lock while another process holds it, which gives it up a little later."""
    with process(HOLD, path) as holder:
        assert says(holder) == "held"
        meanwhile()
        threading.Timer(0.05, tell, (holder,)).start()
        with lock:
            assert says(holder) == "released"


@pytest.mark.parametrize("bell", ["there", "missing"])
def test_whoever_waits_gets_it_with_a_bell_and_without(path: Path, monkeypatch: pytest.MonkeyPatch, bell: str) -> None:
    if bell == "missing":
        monkeypatch.setattr(waiting, "_FUTEX", None)
    lock = FileLock(path)
    for _ in range(5):
        wait_for_another(lock, path)


def test_a_bell_that_nobody_can_hear(path: Path) -> None:
    Path(f"{path}.bell").mkdir()
    lock = FileLock(path)
    wait_for_another(lock, path)


def test_a_bell_that_somebody_cuts_while_it_is_used(path: Path) -> None:
    lock = FileLock(path)
    with lock:
        pass
    Path(f"{path}.bell").write_bytes(b"")
    with lock:
        pass
    wait_for_another(lock, path, lambda: Path(f"{path}.bell").write_bytes(b""))


def test_a_bell_that_can_not_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = FileLock(path, timeout_s=0.1)
    with lock:
        pass
    pread, bell = os.pread, os.stat(f"{path}.bell").st_ino if DESCRIPTORS > 2 else 0

    def refuse(number: int, length: int, offset: int) -> bytes:
        if os.fstat(number).st_ino == bell:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(number, length, offset)

    monkeypatch.setattr("os.pread", refuse)
    with lock:  # to release it fails neither,
        pass
    with process(HOLD, path) as holder:
        assert says(holder) == "held"
        with pytest.raises(StorageError, match=r"waited 0\.1 s"):  # nor to wait,
            lock.acquire()
    lock.timeout_s = 20
    wait_for_another(lock, path)  # which leaves nothing locked


@pytest.mark.parametrize("bell", ["untouched", "cut"])
def test_whoever_waits_takes_no_processor_time(path: Path, bell: str) -> None:
    lock = FileLock(path)

    def meanwhile() -> None:
        if bell == "cut":
            Path(f"{path}.bell").write_bytes(b"")

    with lock:
        pass
    with process(HOLD, path) as holder:
        assert says(holder) == "held"
        threading.Timer(0.1, meanwhile).start()
        threading.Timer(0.6, tell, (holder,)).start()
        before = time.thread_time()
        with lock:
            assert time.thread_time() - before < 0.2


def test_a_killed_holder_gives_the_lock_away(path: Path) -> None:
    with process(HOLD, path) as holder:
        assert says(holder) == "held"
        got = threading.Event()

        def wait() -> None:
            with FileLock(path):
                got.set()

        thread = threading.Thread(target=wait)
        thread.start()
        assert not got.wait(0.1)
        os.kill(holder.pid, signal.SIGKILL)
        assert got.wait(20)
        thread.join()


def test_a_killed_waiter_leaves_the_queue(path: Path) -> None:
    lock = FileLock(path)
    with lock, process(HOLD, path) as waiter:
        eventually(lambda: waits(path, waiter.pid))
        os.kill(waiter.pid, signal.SIGKILL)
        waiter.wait()
    with lock:
        pass


def waits(path: Path, pid: int) -> bool:
    """Whether a process stands in line: those that do have locked the queue together."""
    line = Path(f"{path}.queue")
    inode = f":{line.stat().st_ino}" if line.exists() else "nowhere"
    rows = [row.split() for row in Path("/proc/locks").read_text().splitlines()]
    return any(str(pid) in row and any(field.endswith(inode) for field in row) for row in rows)


FORK_WHILE_HOLDING = """
import os, sys, time
from txstore.locks import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
child = os.fork()
if not child:
    os.setsid()
    time.sleep(600)
print(child, flush=True)
sys.stdin.readline()
"""


def test_a_forked_child_does_not_keep_the_lock(path: Path) -> None:
    with process(FORK_WHILE_HOLDING, path) as holder:
        child = int(says(holder))
        try:
            with pytest.raises(StorageError):
                FileLock(path, timeout_s=0.05).acquire()
            os.kill(holder.pid, signal.SIGKILL)
            with FileLock(path, timeout_s=20):
                os.kill(child, 0)  # it is alive
        finally:
            os.kill(child, signal.SIGKILL)


FORKED_CHILD = """
import os, sys, threading
from txstore import locks, waiting
from txstore.errors import StorageError
from txstore.locks import FileLock

lock = FileLock(sys.argv[1], timeout_s=0.2)

def in_child(task):
    child = os.fork()
    if not child:
        try:
            task()
        except BaseException as error:
            print(type(error), error, flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

def refused():
    assert not lock.held
    lock.release()  # the parent's: nothing happens
    try:
        lock.acquire()
    except StorageError:
        pass
    else:
        raise AssertionError("two processes hold the lock")

def granted():
    with lock:
        assert lock.held
    with FileLock(sys.argv[1]):
        pass

with lock:
    in_child(refused)
    assert lock.held
in_child(granted)

# Held by a thread that the child does not have; it could wait for it for ever.
go, held = threading.Event(), threading.Event()
def hold():
    with lock:
        held.set()
        go.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
in_child(refused)
child = os.fork()
if not child:
    lock.timeout_s = 20
    granted()
    os._exit(0)
go.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0
with lock:
    pass
print("good")
"""


def test_a_forked_child_has_a_lock_of_its_own(path: Path) -> None:
    assert run(FORKED_CHILD, path) == "good\n"


FORK_STORM = """
import os, sys, threading
from txstore.locks import FileLock

stop = threading.Event()
def work(number):
    while not stop.is_set():
        lock = FileLock(sys.argv[1] + str(number % 2))
        with lock:
            pass
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for _ in range(60):
    child = os.fork()
    if not child:
        for number in range(2):
            with FileLock(sys.argv[1] + str(number), timeout_s=30):
                pass
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
print("good")
"""


def test_forking_at_any_moment(path: Path) -> None:
    assert run(FORK_STORM, path) == "good\n"


LOOP = """
import os, sys, time
from txstore.locks import FileLock
path, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
lock = FileLock(path)
print("ready", flush=True)
sys.stdin.readline()
until = time.monotonic() + seconds
longest = 0
while (before := time.monotonic()) < until:
    with lock:
        longest = max(longest, time.monotonic() - before)
        log = os.open(path + ".log", os.O_RDWR | os.O_CREAT)
        end = os.lseek(log, 0, os.SEEK_END)
        time.sleep(0.002)
        os.pwrite(log, name.encode(), end)  # not O_APPEND: two at once would lose one
        os.close(log)
print(longest, flush=True)
"""


def test_four_processes_get_equal_shares(path: Path) -> None:
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(process(LOOP, path, name, 1.5)) for name in "abcd"]
        for one in running:
            assert says(one) == "ready"
        for one in running:
            tell(one)
        longest = [float(says(one)) for one in running]
    log = Path(f"{path}.log").read_text()
    shares = Counter(log)
    assert min(shares[name] for name in "abcd") > len(log) / 10, shares
    assert max(longest) < 1, longest
    # Without the line the lock goes, about every second time, to whoever has released it a moment ago.
    again = sum(one == next_one for one, next_one in pairwise(log))
    assert again < len(log) / 5, again


COUNT = """
import sys
from txstore.locks import FileLock
lock, path = FileLock(sys.argv[1]), sys.argv[1] + ".count"
for _ in range(int(sys.argv[2])):
    with lock:
        with open(path) as file:
            value = int(file.read())
        with open(path, "w") as file:
            file.write(str(value + 1))
"""


def test_processes_exclude_each_other(path: Path) -> None:
    count = Path(f"{path}.count")
    count.write_text("0")
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(process(COUNT, path, 150)) for _ in range(4)]
        for one in running:
            assert one.wait(60) == 0
    assert count.read_text() == "600"


INTERRUPTED = """
import sys
from txstore.locks import FileLock
lock = FileLock(sys.argv[1])
print("waiting", flush=True)
try:
    lock.acquire()
except KeyboardInterrupt:
    print("interrupted", lock.held, flush=True)
lock.acquire()
print("got", flush=True)
"""


def test_an_interrupt_ends_the_wait(path: Path) -> None:
    lock = FileLock(path)
    with process(INTERRUPTED, path) as waiter:
        with lock:
            assert says(waiter) == "waiting"
            time.sleep(0.2)
            waiter.send_signal(signal.SIGINT)
            assert says(waiter) == "interrupted False"
        assert says(waiter) == "got"


HOLD_AGAIN = """
import sys, time
from txstore.locks import FileLock
lock = FileLock(sys.argv[1])
for line in sys.stdin:
    with lock:
        print("held", flush=True)
        time.sleep(0.04)
    print("released", flush=True)
"""


def test_an_interrupt_anywhere_leaves_nothing_locked(path: Path) -> None:
    """Raised where the interpreter looks for signals: in this thread, on entering a function and after each call."""
    lock = FileLock(path, timeout_s=20)
    here = {module.__file__ for module in (locks, waiting)}
    at = looks = interrupted = 0

    def look(frame: Any, event: str, _: Any) -> None:
        nonlocal looks
        if frame.f_code.co_filename in here and event in ("call", "c_return"):
            looks += 1
            if looks == at:
                raise KeyboardInterrupt

    with process(HOLD_AGAIN, path) as holder:
        while looks >= at:
            at, looks = at + 1, 0
            tell(holder)
            assert says(holder) == "held"
            sys.setprofile(look)
            try:
                lock.acquire()
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                sys.setprofile(None)
            if looks >= at:
                assert not lock.held
            else:
                lock.release()
            assert says(holder) == "released"
            # Another process gets it at once, and what it then holds is not ours as well.
            tell(holder)
            assert says(holder) == "held"
            with lock:
                assert says(holder) == "released"
        assert interrupted > 20


def test_a_finalizer_in_the_midst_of_taking_the_lock_is_refused(path: Path) -> None:
    """It would wait for a turn that nobody can give: whoever releases the lock needs what this thread is holding."""
    lock, other = FileLock(path), FileLock(path)
    refused: list[str] = []

    def look(frame: Any, event: str, called: Any) -> None:
        if event == "c_return" and frame.f_code is waiting.FairMutex.acquire.__code__ and lock._mutex.entered:
            sys.setprofile(None)
            for what in (other.acquire, other.close):
                with pytest.raises(StorageError) as raised:
                    what()
                refused.append(str(raised.value))

    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    timer = threading.Timer(0.1, go.set)
    sys.setprofile(look)
    try:
        timer.start()
        with lock:
            assert "about to take" in refused[0] and "can't be closed" in refused[1]
    finally:
        sys.setprofile(None)
        thread.join()
        timer.join()
    with other:
        pass


def test_close(path: Path) -> None:
    lock = FileLock(path, timeout_s=0.05)
    with lock:
        with pytest.raises(StorageError, match="can't be closed"):
            lock.close()
        assert lock.held
    before = len(os.listdir("/proc/self/fd"))
    lock.close()
    lock.close()
    assert len(os.listdir("/proc/self/fd")) == before - DESCRIPTORS
    with lock:
        pass


def test_an_interrupt_while_it_is_closed_leaves_nothing_locked(path: Path) -> None:
    lock, other = FileLock(path), FileLock(path)
    at = looks = 0

    def look(frame: Any, event: str, _: Any) -> None:
        nonlocal looks
        if frame.f_code.co_filename in {locks.__file__, waiting.__file__}:
            looks += 1
            if looks == at:
                signal.raise_signal(signal.SIGINT)

    while looks >= at:
        at, looks = at + 1, 0
        with lock:
            pass
        sys.setprofile(look)
        try:
            lock.close()
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        with other:
            assert other.held
    assert at > 10


def test_a_dropped_lock_leaves_no_descriptor(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    lock = FileLock(path)
    with lock:
        assert len(os.listdir("/proc/self/fd")) == before + DESCRIPTORS
    del lock
    assert len(os.listdir("/proc/self/fd")) == before


def refuse_to_unlock(number: int, operation: int, flock: Callable[[int, int], None] = fcntl.flock) -> None:
    """``flock`` that locks and fails to unlock."""
    if operation == fcntl.LOCK_UN:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    flock(number, operation)


TAKE = """
import sys
from txstore.locks import FileLock
with FileLock(sys.argv[1], timeout_s=20):
    print("taken")
"""


def test_a_lock_that_can_not_be_unlocked_is_given_up_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = FileLock(path)
    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", refuse_to_unlock)
        for _ in range(2):
            with lock:
                assert lock.held
            assert not lock.held
            # Neither the lock is kept nor the queue: either would keep everybody else out for ever.
            assert run(TAKE, path) == "taken\n"
    with lock:
        pass


def test_a_descriptor_that_somebody_has_closed(path: Path) -> None:
    lock = FileLock(path)
    with lock:
        os.close(lock._lock.number)  # type: ignore[union-attr]
    assert not lock.held
    assert run(TAKE, path) == "taken\n"
    with lock:
        assert lock.held


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "missing" / "commit.lock")
    for _ in range(2):
        with pytest.raises(StorageError, match=r"can't lock .*commit\.lock: No such file") as raised:
            lock.acquire()
        assert raised.value.errno == 2
    (tmp_path / "missing").mkdir()
    with lock:
        pass


def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", flock)
        with pytest.raises(StorageError, match="No locks available; this file system has no locks"):
            FileLock(path).acquire()
    with FileLock(path):
        pass
