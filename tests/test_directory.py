"""Directories: what goes in comes out, to the letter of the format; all that is hostile is CorruptionError."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from txstore.column import FEW
from txstore.directory import Directory
from txstore.errors import CorruptionError
from txstore.segment import Kind, Place

A, B = bytes(range(16)), bytes(range(16, 32))
Places = list[Place | None]


def places_of(directory: Directory, n_tiles: int) -> tuple[Places, Places]:
    return [directory.place(tile) for tile in range(n_tiles)], [directory.mask_place(tile) for tile in range(n_tiles)]


def laid(count: int, start: int = 32, length: int = 10, segment: bytes = A, inline: bool = False) -> list[Place | None]:
    """Back to back, with lengths and checksums of their own."""
    places: Places = []
    for number in range(count):
        places.append(Place(segment, start, length + number % 7, number * 2654435761 % 2**32, inline))
        start += length + number % 7
    return places


def one_place(segments: st.SearchStrategy[bytes]) -> st.SearchStrategy[Place]:
    return st.builds(
        Place,
        segments,
        st.integers(0, 2**40) | st.integers(0, 2**62),
        st.integers(1, 300) | st.integers(1, 2**40),
        st.integers(0, 2**32 - 1),
        st.booleans(),
    )


@st.composite
def stored(draw: st.DrawFn) -> tuple[Kind, Places, Places | None, bytes | None]:
    """Kind, places of data, places of masks where there are any, value."""
    kind = draw(st.sampled_from(Kind))
    n_tiles = draw(st.integers(1, 5) | st.integers(1, 3 * FEW))
    how = draw(st.sampled_from(["run", "any", "sparse"]))
    masks: Places | None = None
    if how == "run":
        places = laid(n_tiles, draw(st.integers(0, 2**40)), draw(st.integers(1, 2**20)), inline=draw(st.booleans()))
    else:
        segments = st.sampled_from(draw(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=4)))
        place = one_place(segments)
        maybe = st.none() | place if how == "sparse" else place
        places = draw(st.lists(maybe, min_size=n_tiles, max_size=n_tiles))
        if draw(st.booleans()):
            masks = draw(st.lists(maybe, min_size=n_tiles, max_size=n_tiles))
            places = [data if mask is not None else None for data, mask in zip(places, masks, strict=True)]
    if kind == Kind.FILL:
        places = [None] * n_tiles
    value = draw(st.none() | st.binary(min_size=4, max_size=4)) if kind == Kind.FILL else None
    return kind, places, masks, value


def build(places: Places, masks: Places | None, value: bytes | None) -> Directory:
    if masks is not None:
        return Directory.masked(places, masks, value)
    return Directory.tiles(places) if value is None else Directory.fill(value)


@given(stored())
def test_what_goes_in_comes_out(case: tuple[Kind, Places, Places | None, bytes | None]) -> None:
    kind, places, masks, value = case
    directory = build(places, masks, value)
    encoded = directory.encode()
    decoded = Directory.decode(encoded, len(places), masks is not None, kind, 4)
    everything = [place for place in [*places, *(masks or [])] if place is not None]
    usage: Counter[tuple[bytes, bool]] = Counter()
    for place in everything:
        usage[place.segment, place.inline] += place.length
    for one in (directory, decoded):
        assert places_of(one, len(places)) == (places, masks or [None] * len(places))
        assert one.value == value
        assert one.usage() == usage and one.segments() == set(usage) and one.nbytes == usage.total()
        deciding = places if masks is None else masks
        assert list(one.stored()) == [tile for tile, place in enumerate(deciding) if place is not None]
        assert [place for _, place in one.places()] == everything
        # The same places are the same bytes, whichever way they came.
        assert one.encode() == encoded
        for tile, place in one.places():
            assert type(tile) is type(place.offset) is type(place.length) is type(place.crc) is int
    assert Directory.decode(encoded, len(places), masks is not None, kind, None).encode() == encoded


@st.composite
def changed(draw: st.DrawFn) -> tuple[Places, dict[int, Place | None]]:
    """Places, and others for some of the tiles."""
    n_tiles = draw(st.integers(1, 5) | st.integers(1, 3 * FEW))
    maybe = st.none() | one_place(st.sampled_from([A, B, bytes(16)]))
    places = draw(st.lists(maybe, min_size=n_tiles, max_size=n_tiles))
    return places, draw(st.dictionaries(st.integers(0, n_tiles - 1), maybe, max_size=2 * FEW))


@given(changed())
def test_replaced(case: tuple[Places, dict[int, Place | None]]) -> None:
    before, changes = case
    after = [changes.get(tile, place) for tile, place in enumerate(before)]
    made = Directory.tiles(before)
    for one in (made, Directory.decode(made.encode(), len(before), False, Kind.SET, 4)):
        directory = one.replaced(changes)
        assert places_of(directory, len(before))[0] == after
        assert directory.encode() == Directory.tiles(after).encode()
        assert directory.segments() == Directory.tiles(after).segments()
        assert places_of(one, len(before))[0] == before


def test_by_the_letter_of_the_format() -> None:
    one = msgpack.packb([1, 1, None, A + b"\0", [None, None, 32, [10], [0]], None])
    assert Directory.tiles(laid(1)).encode() == one and len(one) == 32
    sparse: Places = [None, Place(A, 500, 7, 8, True), None, Place(B, 32, 9, 10, False)]
    four = [1, 4, None, A + b"\1" + B + b"\0", [[1, 3], [0, 1], [500, 32], [7, 9], [8, 10]], None]
    assert msgpack.unpackb(Directory.tiles(sparse).encode()) == four
    assert msgpack.unpackb(Directory.fill(b"\1\2").encode()) == [1, 0, b"\1\2", b"", None, None]
    assert msgpack.unpackb(Directory.tiles([None] * 9).encode()) == [1, 0, None, b"", None, None]
    many = laid(100)
    crcs = np.array([place.crc for place in many if place], "<u4").tobytes() + b"\4"
    lengths = bytes([10 + number % 7 for number in range(100)]) + b"\1"
    hundred = [1, 100, None, A + b"\0", [None, None, 32, lengths, crcs], None]
    assert msgpack.unpackb(Directory.tiles(many).encode()) == hundred


@pytest.mark.parametrize("count", [3, FEW, FEW + 1, 500])
def test_readers_take_lists_and_packed_numbers_of_any_length(count: int) -> None:
    places = laid(count, 10**6, 100)
    lengths = [place.length for place in places if place]
    crcs = [place.crc for place in places if place]
    offsets = [place.offset for place in places if place]
    for width in (4, 8):
        for column in (
            [None, None, offsets[0], lengths, crcs],
            [list(range(count)), [0] * count, offsets, lengths, crcs],
            [
                packed(range(count), 2),
                packed([0] * count, 1),
                packed(offsets, width),
                packed(lengths, width),
                packed(crcs, width),
            ],
        ):
            data = msgpack.packb([1, count, None, A + b"\0", column, None])
            directory = Directory.decode(data, count, False, Kind.SET, 4)
            assert places_of(directory, count)[0] == places
            assert directory.encode() == Directory.tiles(places).encode()


def packed(numbers: Any, width: int) -> bytes:
    return b"".join(number.to_bytes(width, "little") for number in numbers) + bytes([width])


def test_a_directory_of_4096_tiles_is_small() -> None:
    # One byte or two for a length, four for the checksum, and that is all.
    assert len(Directory.tiles(laid(4096, 32, 20_000)).encode()) < 4096 * 6 + 60
    sparse: Places = [None] * 4096
    sparse[17], sparse[4000] = laid(2)
    assert len(Directory.tiles(sparse).encode()) < 60


def test_inlined() -> None:
    places: Places = [Place(A, 32, 5, 6, False), None, Place(B, 32, 5, 6, False), Place(A, 40, 5, 6, False)]
    directory = Directory.tiles(places)
    inlined = directory.inlined(A)
    assert inlined.segments() == {(A, True), (B, False)}
    assert [place and place.inline for place in places_of(inlined, 4)[0]] == [True, None, False, True]
    assert places_of(directory, 4)[0] == places
    assert Directory.decode(inlined.encode(), 4, False, Kind.SET, 8).segments() == inlined.segments()
    masked = Directory.masked([None, None], [Place(A, 32, 5, 6, False), None], b"v").inlined(A)
    assert masked.mask_place(0) == Place(A, 32, 5, 6, True) and masked.value == b"v" and masked.mask_place(1) is None


def test_tiles_that_are_not_there() -> None:
    for directory in (Directory.tiles(laid(3)), Directory.tiles(laid(100)), Directory.tiles([None, *laid(2)])):
        for tile in (-1, directory.n_tiles, 2**70):
            with pytest.raises(IndexError):
                directory.place(tile)
        assert directory.mask_place(0) is None
    # The tiles of what has no bytes are all alike, however many there are.
    assert Directory.fill(b"x").place(2**70) is None
    assert Directory.decode(Directory.fill(b"x").encode(), 2**70, False, Kind.FILL, 1).place(2**69) is None


@pytest.mark.parametrize(
    "place",
    [
        Place(A, -1, 5, 0, False),
        Place(A, 2**62 + 1, 5, 0, False),
        Place(A, 0, 0, 0, False),
        Place(A, 0, 2**40 + 1, 0, False),
        Place(A, 0, 5, 2**32, False),
        Place(A, 0, 5, -1, False),
        Place(A[:15], 0, 5, 0, False),
    ],
)
def test_places_that_cannot_be(place: Place) -> None:
    with pytest.raises(ValueError, match="no "):
        Directory.tiles([place])


def test_data_without_a_mask() -> None:
    with pytest.raises(ValueError, match="without a mask"):
        Directory.masked(laid(2), [*laid(1), None])
    with pytest.raises(ValueError, match="without a mask"):
        Directory.masked(laid(1), [None])
    with pytest.raises(ValueError, match="2 places and 1 masks"):
        Directory.masked(laid(2), laid(1))


# -- hostile input

RUN = [None, None, 32, [10, 11], [1, 2]]
S = A + b"\0"


def column(**changes: Any) -> list[Any]:
    fields = dict(zip(("tiles", "of", "offsets", "lengths", "crcs"), RUN, strict=True))
    return list({**fields, **changes}.values())


HOSTILE: dict[str, Any] = {
    "no list": 5,
    "a map": {"a": 1},
    "empty": [],
    "newer": [2, 2, None, S, RUN, None, "more"],
    "true is not 1": [True, 2, None, S, RUN, None],
    "a float": [1.0, 2, None, S, RUN, None],
    "few fields": [1, 2, None, S, RUN],
    "many fields": [1, 2, None, S, RUN, None, None],
    "other tiles": [1, 3, None, S, RUN, None],
    "huge tiles": [1, 2**63, None, S, RUN, None],
    "zero tiles": [1, 0, None, S, RUN, None],
    "tiles of nothing": [1, 2, None, b"", None, None],
    "a value": [1, 2, b"1234", S, RUN, None],
    "masks": [1, 2, None, S, RUN, RUN],
    "only masks": [1, 2, None, S, None, RUN],
    "text": [1, 2, None, "x" * 17, RUN, None],
    "no segment": [1, 2, None, b"", RUN, None],
    "short segment": [1, 2, None, A, RUN, None],
    "flag": [1, 2, None, A + b"\2", RUN, None],
    "segment twice": [1, 2, None, S + S, column(of=[0, 1]), None],
    "unused segment": [1, 2, None, S + B + b"\0", column(of=[0, 0]), None],
    "unused alone": [1, 0, None, S, None, None],
    "which segment": [1, 2, None, S + B + b"\0", RUN, None],
    "no such segment": [1, 2, None, S + B + b"\0", column(of=[0, 2]), None],
    "negative segment": [1, 2, None, S + B + b"\0", column(of=[0, -1]), None],
    "column": [1, 2, None, S, "column", None],
    "short column": [1, 2, None, S, RUN[:4], None],
    "no places": [1, 2, None, S, column(tiles=[], lengths=[], crcs=[]), None],
    "zero length": [1, 2, None, S, column(lengths=[10, 0]), None],
    "negative length": [1, 2, None, S, column(lengths=[10, -5]), None],
    "huge length": [1, 2, None, S, column(lengths=[10, 2**63]), None],
    "one length": [1, 2, None, S, column(lengths=[10]), None],
    "three lengths": [1, 2, None, S, column(lengths=[10, 11, 12]), None],
    "true length": [1, 2, None, S, column(lengths=[10, True]), None],
    "float length": [1, 2, None, S, column(lengths=[10, 1.5]), None],
    "nested lengths": [1, 2, None, S, column(lengths=[10, [11]]), None],
    "packed nothing": [1, 2, None, S, column(lengths=b""), None],
    "packed width": [1, 2, None, S, column(lengths=b"\1\1\3"), None],
    "packed width 0": [1, 2, None, S, column(lengths=b"\1\1\0"), None],
    "packed none": [1, 2, None, S, column(lengths=b"\1"), None],
    "packed odd": [1, 2, None, S, column(lengths=b"\1\1\1\2"), None],
    "packed zero": [1, 2, None, S, column(lengths=b"\1\0\1"), None],
    "packed huge": [1, 2, None, S, column(lengths=b"\xff" * 16 + b"\x08"), None],
    "packed few": [1, 2, None, S, column(crcs=b"\1\1"), None],
    "crc": [1, 2, None, S, column(crcs=[1, 2**32]), None],
    "negative crc": [1, 2, None, S, column(crcs=[1, -1]), None],
    "no crc": [1, 2, None, S, column(crcs=None), None],
    "start": [1, 2, None, S, column(offsets=-1), None],
    "far start": [1, 2, None, S, column(offsets=2**62), None],
    "true start": [1, 2, None, S, column(offsets=True), None],
    "no offsets": [1, 2, None, S, column(offsets=None), None],
    "negative offset": [1, 2, None, S, column(offsets=[32, -32]), None],
    "far offset": [1, 2, None, S, column(offsets=[32, 2**62 + 1]), None],
    "tile twice": [1, 2, None, S, column(tiles=[1, 1]), None],
    "tiles backwards": [1, 2, None, S, column(tiles=[1, 0]), None],
    "no such tile": [1, 2, None, S, column(tiles=[1, 2]), None],
    "negative tile": [1, 2, None, S, column(tiles=[-1, 1]), None],
    "time": [1, 2, None, S, msgpack.Timestamp(1, 1), None],
    "extension": [1, 2, msgpack.ExtType(5, b"x"), S, RUN, None],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_directories(name: str) -> None:
    with pytest.raises(CorruptionError, match="a stored directory is"):
        Directory.decode(msgpack.packb(HOSTILE[name]), 2, False, Kind.SET, 4)


def test_hostile_directories_of_other_fragments() -> None:
    def refused(value: Any, masked: bool, kind: Kind, itemsize: int | None = 4) -> None:
        with pytest.raises(CorruptionError):
            Directory.decode(msgpack.packb(value), 2, masked, kind, itemsize)

    refused([1, 2, None, S, RUN, None], False, Kind.FILL)
    refused([1, 0, b"123", b"", None, None], False, Kind.FILL)
    refused([1, 0, "1234", b"", None, None], False, Kind.FILL, None)
    refused([1, 0, 1234, b"", None, None], False, Kind.FILL, None)
    refused([1, 2, None, S, RUN, None], True, Kind.SET)
    refused([1, 2, None, S, RUN, column(tiles=[0], lengths=[1], crcs=[1])], True, Kind.SET)
    one = column(tiles=[1], lengths=[1], crcs=[1])
    other = column(tiles=[0], lengths=[1], crcs=[1])
    refused([1, 2, None, S, one, other], True, Kind.ADD)
    Directory.decode(msgpack.packb([1, 2, None, S, one, one]), 2, True, Kind.ADD, 4)
    Directory.decode(msgpack.packb([1, 2, b"12345", S, None, one]), 2, True, Kind.FILL, None)


def test_no_msgpack_at_all() -> None:
    deep = b"\x91" * 100_000
    for data in (
        b"",
        b"\xc1",
        b"\x93",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        deep,
        b"\x81\x90\x01",
        b"\xa1\xff",
    ):
        with pytest.raises(CorruptionError):
            Directory.decode(data, 10**6, False, Kind.SET, 4)


def test_the_sum_of_lengths_may_be_anything() -> None:
    lengths = [2**40] * 5000
    for numbers in (lengths, packed(lengths, 8)):
        data = msgpack.packb([1, 5000, None, S, [None, None, 2**62 - 2**50, numbers, [0] * 5000], None])
        with pytest.raises(CorruptionError, match="offsets"):
            Directory.decode(data, 5000, False, Kind.SET, 4)


def test_too_much_for_so_few_tiles() -> None:
    data = msgpack.packb([1, 2, None, S, [[]] * 100_000, None])
    with pytest.raises(CorruptionError, match="too many for 2 tiles"):
        Directory.decode(data, 2, False, Kind.SET, 4)


numbers = st.integers(-(2**63), 2**64 - 1) | st.integers(0, 5) | st.sampled_from([2**31, 2**32, 2**40, 2**62, 2**63])
leaves = st.none() | st.booleans() | numbers | st.floats() | st.binary(max_size=40) | st.text(max_size=5)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
)


def mutated(value: Any, draw: st.DrawFn) -> Any:
    """A msgpack value with one thing in it changed."""
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        where = draw(st.integers(0, len(value) - 1))
        what = draw(st.sampled_from(["change", "change", "change", "drop", "insert"]))
        if what == "change":
            return [*value[:where], mutated(value[where], draw), *value[where + 1 :]]
        return [*value[:where], *([draw(values)] if what == "insert" else []), *value[where + (what == "drop") :]]
    if isinstance(value, bytes) and value and draw(st.booleans()):
        data = bytearray(value)
        data[draw(st.integers(0, len(data) - 1))] ^= draw(st.integers(1, 255))
        return bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)
    return draw(values)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[bytes, int, bool, Kind, int | None]:
    kind, places, masks, value = draw(stored())
    data = build(places, masks, value).encode()
    for _ in range(draw(st.integers(1, 3))):
        how = draw(st.sampled_from(["value", "value", "flip", "cut", "add"]))
        if how == "value":
            try:
                data = msgpack.packb(mutated(msgpack.unpackb(data), draw))
            except ValueError:
                pass
        elif how == "flip" and data:
            where = draw(st.integers(0, len(data) - 1))
            data = data[:where] + bytes([data[where] ^ draw(st.integers(1, 255))]) + data[where + 1 :]
        elif how == "cut":
            data = data[: draw(st.integers(0, len(data)))]
        else:
            data += draw(st.binary(max_size=20))
    n_tiles = draw(st.just(len(places)) | st.integers(0, 5) | st.sampled_from([2**31, 2**63, 2**80]))
    return data, n_tiles, masks is not None, kind, draw(st.sampled_from([4, 4, 8, None]))


@given(damaged())
@example((msgpack.packb([1, 2**31, None, S, [[0], None, 32, [1], [1]], None]), 2**31, False, Kind.SET, 4))
@example((msgpack.packb([1, 2**63, None, S, [[2**63 - 1], None, 32, [1], [1]], None]), 2**63, False, Kind.SET, 4))
def test_damage_is_refused_or_harmless(case: tuple[bytes, int, bool, Kind, int | None]) -> None:
    data, n_tiles, masked, kind, itemsize = case
    tracemalloc.start()
    try:
        try:
            directory = Directory.decode(data, n_tiles, masked, kind, itemsize)
        except CorruptionError as error:
            assert len(str(error)) < 300
            return
        finally:
            assert tracemalloc.get_traced_memory()[1] < 200_000 + 200 * len(data)
    finally:
        tracemalloc.stop()
    # What is taken can be used: every place can be, and the whole can be stored again.
    for tile, place in directory.places():
        assert 0 <= tile < n_tiles
        assert 0 <= place.offset <= 2**62 and 0 < place.length <= 2**40 and 0 <= place.crc < 2**32
        assert len(place.segment) == 16 and type(place.inline) is bool
    assert {(place.segment, place.inline) for _, place in directory.places()} == directory.segments()
    again = Directory.decode(directory.encode(), n_tiles, masked, kind, itemsize)
    assert list(again.places()) == list(directory.places()) and again.value == directory.value
