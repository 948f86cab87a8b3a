"""Requests to who holds a lock: asked, taken, answered, withdrawn, and gone with their maker. Real processes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts import eventually, process, says, tell

from txstore.requests import MOST_BYTES, Requests

ASK = """
import sys
from txstore.requests import Requests
requests = Requests(sys.argv[1])
request = requests.ask(b"from another process")
print("asked", flush=True)
for line in sys.stdin:
    print(request.answer, request.in_doubt, flush=True)
"""


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "requests")


def test_asked_taken_answered(directory: str) -> None:
    requests = Requests(directory)
    assert requests.take() == []
    one, two = requests.ask(b"one"), requests.ask(b"")
    assert not one.in_doubt and one.answer is None
    taken = {each.body: each for each in requests.take()}
    assert set(taken) == {b"one", b""} and one.in_doubt and two.in_doubt
    taken[b"one"].answer(b"done: " + bytes(1000))
    assert one.answer == b"done: " + bytes(1000) and two.answer is None
    assert requests.take() == []
    requests.end(one)
    requests.end(two)
    requests.close()
    assert os.listdir(directory) == []


def test_a_file_is_used_again_and_remembers_no_answer(directory: str) -> None:
    requests = Requests(directory)
    for number in range(5):
        request = requests.ask(b"%d" % number)
        assert request.answer is None and not request.in_doubt
        (taken,) = requests.take()
        assert taken.body == b"%d" % number
        if number % 2:
            taken.answer(b"answer %d" % number)
            assert request.answer == b"answer %d" % number
        requests.end(request)
    assert len(os.listdir(directory)) == 1
    requests.close()


def test_an_answer_to_an_earlier_request_is_none_to_a_later_one(directory: str) -> None:
    requests = Requests(directory)
    earlier = requests.ask(b"earlier")
    (taken,) = requests.take()
    requests.end(earlier)
    later = requests.ask(b"later")
    taken.answer(b"too late")
    assert later.answer is None
    assert requests.take() == []  # its body has been written over: who has asked does it
    requests.end(later)
    requests.close()


def test_what_is_withdrawn_is_not_taken_and_what_is_taken_is_not_withdrawn(directory: str) -> None:
    requests = Requests(directory)
    one = requests.ask(b"one")
    assert one.withdraw()
    assert requests.take() == []
    one.close()
    two = requests.ask(b"two")
    assert len(requests.take()) == 1
    assert not two.withdraw()
    two.close()


def test_at_the_same_moment_one_of_them_wins(directory: str) -> None:
    requests = Requests(directory)
    outcomes = set()
    for _ in range(100):
        request = requests.ask(b"body")
        taken: list[int] = []
        taker = threading.Thread(target=lambda taken=taken: taken.append(len(requests.take())))
        taker.start()
        free = request.withdraw()
        taker.join()
        assert not (free and taken[0]), "withdrawn, and done all the same"
        outcomes.add((free, taken[0]))
        request.close()
    assert outcomes <= {(True, 0), (False, 1), (False, 0)}


def test_of_another_process_and_of_one_that_is_dead(directory: str) -> None:
    requests = Requests(directory)
    with process(ASK, directory) as other:
        assert says(other) == "asked"
        (taken,) = requests.take()
        assert taken.body == b"from another process"
        taken.answer(b"yes")
        tell(other)
        assert says(other) == "b'yes' True"
    with process(ASK, directory) as other:
        assert says(other) == "asked"
        other.kill()
        other.wait()
        assert requests.take() == []
        eventually(lambda: os.listdir(directory) == [])


def test_a_forked_child_makes_a_file_of_its_own(directory: str) -> None:
    requests = Requests(directory)
    requests.end(requests.ask(b"parent"))
    child = os.fork()
    if not child:
        request = requests.ask(b"child")
        (taken,) = requests.take()
        request.close()
        os._exit(0 if taken.body == b"child" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(os.listdir(directory)) == 1
    requests.close()


def test_what_is_too_long_or_can_not_be_written(directory: str, tmp_path: Path) -> None:
    requests = Requests(directory)
    with pytest.raises(ValueError, match="a request of"):
        requests.ask(bytes(MOST_BYTES + 1))
    request = requests.ask(bytes(MOST_BYTES))
    (taken,) = requests.take()
    taken.answer(bytes(MOST_BYTES + 1))
    assert request.answer is None
    requests.end(request)
    requests.close()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        Requests(str(tmp_path / "file" / "requests")).ask(b"")


@given(st.binary(max_size=200), st.integers(0, 199))
def test_what_was_damaged_is_not_taken(tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int) -> None:
    directory = str(tmp_path_factory.mktemp("requests"))
    requests = Requests(directory)
    request = requests.ask(b"body" * 20)
    (name,) = os.listdir(directory)
    with open(Path(directory) / name, "r+b") as file:
        file.seek(at)
        file.write(data)
    assert all(taken.body == b"body" * 20 for taken in requests.take())
    request.close()
