"""Who is alive: locks that end with the process, pins that others see, forks, and sweepers that come too early."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts import process, run, says, tell

from txstore.errors import StorageError
from txstore.holder import NO_VERSION, Holder

HOLDER = """
import sys
from txstore.holder import Holder
holder = Holder(sys.argv[1])
holder.pin(int(sys.argv[2]))
print(holder.id.hex(), flush=True)
sys.stdin.readline()
holder.close()
print("closed", flush=True)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "locks"


def test_pins(directory: Path) -> None:
    holder = Holder(directory)
    assert len(holder.id) == 16
    assert Holder.live(directory) == {holder.id: NO_VERSION}
    seven, three = holder.pin(7), holder.pin(3)
    again = holder.pin(3)
    assert Holder.live(directory) == {holder.id: 3}
    holder.unpin(three)
    holder.unpin(three)
    assert holder.minimum == 3
    holder.unpin(again)
    assert Holder.live(directory) == {holder.id: 7}
    holder.unpin(seven)
    holder.unpin(12345)
    assert Holder.live(directory) == {holder.id: NO_VERSION}
    holder.close()
    holder.close()
    holder.unpin(0)
    assert Holder.live(directory) == {} and not list(directory.iterdir())
    with pytest.raises(StorageError, match="closed"):
        holder.pin(1)
    with pytest.raises(StorageError, match="closed"):
        holder.id  # noqa: B018


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2**62)), max_size=300))
def test_the_minimum_is_that_of_the_pins(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int]]
) -> None:
    holder = Holder(tmp_path_factory.mktemp("locks"))
    pinned: dict[int, int] = {}
    try:
        for pin, number in steps:
            if pin or not pinned:
                pinned[holder.pin(number)] = number
            else:
                token = list(pinned)[number % len(pinned)]
                del pinned[token]
                holder.unpin(token)
            assert holder.minimum == min(pinned.values(), default=NO_VERSION)
        assert Holder.live(holder.directory)[holder.id] == holder.minimum
    finally:
        holder.close()


def test_many_pins_above_an_old_one_take_no_room(directory: Path) -> None:
    holder = Holder(directory)
    holder.pin(1)
    for version in range(2, 2000):
        holder.unpin(holder.pin(version))
    assert len(holder._order) < 100
    holder.close()


def test_threads(directory: Path) -> None:
    holder = Holder(directory)
    holder.pin(10**6)

    def work(number: int) -> None:
        for version in range(number, 2000, 8):
            token = holder.pin(version)
            assert holder.minimum <= version
            holder.unpin(token)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Holder.live(directory) == {holder.id: 10**6}
    holder.close()


def test_processes_come_and_go(directory: Path) -> None:
    holder = Holder(directory)
    with process(HOLDER, directory, 5) as one, process(HOLDER, directory, 9) as other:
        first, second = bytes.fromhex(says(one)), bytes.fromhex(says(other))
        assert Holder.live(directory) == {holder.id: NO_VERSION, first: 5, second: 9}
        tell(one)
        assert says(one) == "closed"
        assert Holder.live(directory) == {holder.id: NO_VERSION, second: 9}
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        assert (directory / second.hex()).exists()
        assert Holder.live(directory) == {holder.id: NO_VERSION}
        assert not (directory / second.hex()).exists()
    holder.close()


FORK = """
import os, signal, sys, time
from txstore.holder import NO_VERSION, Holder
holder = Holder(sys.argv[1])
token = holder.pin(4)
inherited = Holder(sys.argv[1])
inherited.close()
parent = holder.id
child = os.fork()
if not child:
    assert Holder.live(sys.argv[1]) == {parent: 4}
    assert holder.id != parent
    assert Holder.live(sys.argv[1]) == {parent: 4, holder.id: 4}  # what it inherited it protects itself
    holder.unpin(token)
    holder.pin(2)
    assert Holder.live(sys.argv[1]) == {parent: 4, holder.id: 2}
    inherited.close()
    idle = os.fork()
    if not idle:
        holder.close()  # that of its parent stays
        os._exit(0)
    assert os.waitpid(idle, 0)[1] == 0
    assert Holder.live(sys.argv[1]) == {parent: 4, holder.id: 2}
    print(os.getpid(), holder.id.hex(), flush=True)
    time.sleep(600)
print(parent.hex(), flush=True)
sys.stdin.readline()
"""


def test_fork(directory: Path) -> None:
    with process(FORK, directory) as parent:
        lines = sorted([says(parent), says(parent)], key=len)
        pid, child = lines[1].split()
        try:
            assert Holder.live(directory) == {bytes.fromhex(lines[0]): 4, bytes.fromhex(child): 2}
            os.kill(parent.pid, signal.SIGKILL)
            parent.wait()
            # The child that lives on does not make its parent live on.
            assert Holder.live(directory) == {bytes.fromhex(child): 2}
        finally:
            os.kill(int(pid), signal.SIGKILL)


SWEEP = """
import sys
from txstore.holder import Holder
print("ready", flush=True)
try:
    while True:
        Holder.live(sys.argv[1])
except KeyboardInterrupt:
    pass
"""


def test_a_sweeper_never_takes_one_that_is_being_made(directory: Path) -> None:
    with contextlib.ExitStack() as stack:
        directory.mkdir()
        for _ in range(2):
            assert says(stack.enter_context(process(SWEEP, directory))) == "ready"
        for version in range(400):
            holder = Holder(directory)
            holder.pin(version)
            assert Holder.live(directory)[holder.id] == version
            assert (directory / holder.id.hex()).exists()
            holder.close()


def test_a_file_taken_before_it_was_locked_is_made_anew(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    flock = fcntl.flock
    taken: list[Path] = []

    def late(descriptor: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX and not taken:
            monkeypatch.setattr(fcntl, "flock", flock)
            taken.extend(directory.iterdir())
            assert Holder.live(directory) == {}
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    holder = Holder(directory)
    assert len(taken) == 1 and taken[0].name != holder.id.hex()
    assert Holder.live(directory) == {holder.id: NO_VERSION}
    holder.close()


def test_what_cannot_be_understood_needs_everything(directory: Path) -> None:
    holder = Holder(directory)
    path = directory / holder.id.hex()
    for content in (b"", b"1234567", b"123456789", (-1).to_bytes(8, "little", signed=True)):
        path.write_bytes(content)
        assert Holder.live(directory) == {holder.id: 0}
    holder.close()


def test_other_files_are_left_alone(directory: Path) -> None:
    directory.mkdir()
    for name in ("commit.lock", "0" * 31, "G" * 32, "0" * 32 + ".tmp"):
        (directory / name).write_bytes(b"")
    assert Holder.live(directory) == {}
    assert len(list(directory.iterdir())) == 4
    assert Holder.live(directory / "absent") == {}


def test_a_dropped_holder_is_dead(directory: Path) -> None:
    holder = Holder(directory)
    del holder
    assert not list(directory.iterdir())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="can't make a lock file"):
        Holder(tmp_path / "file" / "locks")
    with pytest.raises(StorageError, match="can't list"):
        Holder.live(tmp_path / "file")


EXIT = """
import sys
from txstore.holder import Holder
from txstore.locks import FileLock
holder = Holder(sys.argv[1])
lock = FileLock(sys.argv[1] + "/commit.lock")
lock.acquire()
cycle = [holder, lock]
cycle.append(cycle)
"""


def test_ending_without_closing_is_quiet(directory: Path) -> None:
    assert run(EXIT, directory) == ""
    assert Holder.live(directory) == {}


@pytest.mark.parametrize("at", range(1, 13))
def test_a_finalizer_in_the_midst_of_a_pin_does_not_let_it_go(tmp_path: Path, at: int) -> None:
    holder = Holder(tmp_path)
    other = holder.pin(3)
    count = 0

    def look(frame: Any, event: str, _: Any) -> Any:
        nonlocal count
        if frame.f_code is not Holder.pin.__code__:
            return None
        count += event == "line"
        if count == at:
            holder.unpin(other)
        return look

    sys.settrace(look)
    try:
        token = holder.pin(5)
    finally:
        sys.settrace(None)
    holder.unpin(other)
    assert holder.minimum == 5
    holder.unpin(token)
    assert holder.minimum == NO_VERSION
    holder.close()
