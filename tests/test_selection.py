"""Selections against NumPy: what is read, what is written, and what each of them says about its cells."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from txstore.boxes import Box, full
from txstore.errors import InvalidIndexError, InvalidInputError
from txstore.grid import Grid
from txstore.orthogonal import OrthogonalSelection
from txstore.selection import Selection, parse, parse_basic, parse_orthogonal, parse_points

Parser = Callable[[Any, tuple[int, ...]], Selection]
Flat = Any  # what NumPy makes of an index into the array of every cell's number: an array or a scalar

SHAPES = st.lists(st.sampled_from((0, 1, 2, 3, 5, 6)), max_size=5).map(tuple)
FILLED = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


def numbered(shape: tuple[int, ...]) -> NDArray[np.int64]:
    return np.arange(np.prod(shape, dtype=np.int64), dtype=np.int64).reshape(shape)


def slices(extent: int) -> st.SearchStrategy[slice]:
    ends = st.none() | st.integers(-extent - 2, extent + 2)
    return st.builds(slice, ends, ends, st.sampled_from((None, None, 1, 2, 3, -1, -2, np.int64(2))))


def integers(extent: int) -> st.SearchStrategy[Any]:
    kinds = st.sampled_from((int, int, np.int64, np.int16, np.array))
    return st.builds(lambda kind, index: kind(index), kinds, st.integers(-extent, extent - 1))


@st.composite
def lists(draw: st.DrawFn, extent: int) -> Any:
    """A list of cells in any order, of any integer type, or a mask."""
    kind = draw(st.sampled_from(("list", "sorted", "array", "unsigned", "mask", "mask list")))
    if kind.startswith("mask"):
        mask = draw(st.lists(st.booleans(), min_size=extent, max_size=extent))
        return mask if kind == "mask list" and mask else np.array(mask, dtype=np.bool_)
    first = 0 if kind == "unsigned" else -extent
    cells = draw(st.lists(st.integers(first, extent - 1), max_size=6)) if extent else []
    if kind == "sorted":
        cells = sorted({cell % extent for cell in cells})
    dtype = {"array": np.int32, "unsigned": np.uint16}.get(kind)
    return cells if dtype is None else np.array(cells, dtype=dtype)


def entries(draw: st.DrawFn, shape: tuple[int, ...]) -> list[Any]:
    """An integer or a slice for each axis."""
    return [draw(integers(n) | slices(n)) if n else draw(slices(n)) for n in shape]


def shortened(draw: st.DrawFn, items: list[Any]) -> Any:
    """Leave out some axes, or put ``...`` in their place; a single entry may stand alone."""
    if draw(st.booleans()):
        at = draw(st.integers(0, len(items)))
        items[at : at + draw(st.integers(0, 2))] = [Ellipsis]
    elif draw(st.booleans()):
        del items[draw(st.integers(0, len(items))) :]
    return items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


@st.composite
def basic(draw: st.DrawFn) -> tuple[tuple[int, ...], Any]:
    shape = draw(SHAPES)
    return shape, shortened(draw, entries(draw, shape))


@st.composite
def with_one_list(draw: st.DrawFn) -> tuple[tuple[int, ...], Any]:
    shape = draw(SHAPES.filter(bool))
    items = entries(draw, shape)
    axis = draw(st.integers(0, len(shape) - 1))
    items[axis] = draw(lists(shape[axis]))
    sel = shortened(draw, items)
    assume(shape != (0,) or not isinstance(sel, list) or sel)
    return shape, sel


@st.composite
def orthogonal(draw: st.DrawFn) -> tuple[tuple[int, ...], Any]:
    shape = draw(SHAPES)
    items = [
        draw(lists(n)) if draw(st.booleans()) else item for n, item in zip(shape, entries(draw, shape), strict=True)
    ]
    return shape, shortened(draw, items)


@st.composite
def points(draw: st.DrawFn) -> tuple[tuple[int, ...], Any]:
    shape = draw(FILLED)
    if draw(st.booleans()):
        density = draw(st.sampled_from((0.0, 0.1, 0.5, 1.0)))
        return shape, np.random.default_rng(draw(st.integers(0, 99))).random(shape) < density
    sides = draw(st.lists(st.integers(0, 4), max_size=2))
    items = []
    for n in shape:
        mine = [side if draw(st.booleans()) else 1 for side in sides][draw(st.integers(0, len(sides))) :]
        count = int(np.prod(mine, dtype=int))
        cells = draw(st.lists(st.integers(-n, n - 1), min_size=count, max_size=count))
        items.append(np.array(cells, dtype=np.int64).reshape(mine) if mine else cells[0])
    return shape, tuple(items)


def outer_index(array: NDArray[Any], sel: Any) -> Flat:
    """``oindex`` in the plainest way: one axis after the other."""
    items = list(sel) if isinstance(sel, tuple) else [sel]
    dots = any(item is Ellipsis for item in items)
    if not dots:
        items.append(Ellipsis)
    at = next(place for place, item in enumerate(items) if item is Ellipsis)
    items[at : at + 1] = [slice(None)] * (array.ndim - len(items) + 1)
    for axis in reversed(range(array.ndim)):
        item = items[axis]
        if isinstance(item, list):
            item = np.array(item, dtype=None if item else np.intp)
        array = array[(*[slice(None)] * axis, item, ...)]
    return array if dots else array[()]


def draw_grid(data: st.DataObject, ndim: int) -> Grid:
    sides = st.lists(st.integers(1, 4), min_size=ndim, max_size=ndim)
    chunks = tuple(data.draw(sides))
    return Grid(chunks, None, tuple(2 * chunk for chunk in chunks))


def draw_values(data: st.DataObject, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Distinct values that broadcast to this shape."""
    sides = [1 if data.draw(st.integers(0, 4)) == 0 else side for side in shape]
    if data.draw(st.booleans()):
        sides = sides[data.draw(st.integers(0, len(sides))) :] if data.draw(st.booleans()) else [1, *sides]
    return -1 - numbered(tuple(sides))


def check(selection: Selection, flat: Flat, data: st.DataObject) -> None:
    """Hold a selection against the numbers of the cells that NumPy picks."""
    shape = selection.shape
    array = numbered(shape)
    grid = draw_grid(data, len(shape))
    order = np.ravel(flat)
    assert selection.result_shape == np.shape(flat)
    assert selection.unique == (np.unique(order).size == order.size)

    # The cells themselves.
    chosen = np.zeros(shape, dtype=np.bool_)
    chosen.reshape(-1)[order] = True
    if order.size:
        where = np.argwhere(chosen)
        bounds = Box(tuple(where.min(axis=0).tolist()), tuple((where.max(axis=0) + 1).tolist()))
        assert selection.bounds == bounds
        if selection.box is not None:
            assert selection.box == bounds
            assert selection.unique
            assert chosen[bounds.slices()].all()
    else:
        assert selection.bounds is None
        assert selection.box is None

    # Boxes aligned to nothing, before and after the selection has been cut by a grid.
    probe = Box(tuple(data.draw(st.integers(0, n)) for n in shape), tuple(data.draw(st.integers(0, n)) for n in shape))
    check_pieces(selection, chosen, [] if probe.empty else [probe])

    def holding(walk: list[tuple[Any, Box]]) -> list[tuple[Any, Box]]:
        return [(place, part) for place, part in walk if chosen[part.slices()].any()]

    bounds_or_empty = selection.bounds or Box((1,) * len(shape), (0,) * len(shape))
    expected = holding(list(grid.chunks_in(bounds_or_empty))) if order.size else []
    parts = holding(list(grid.partitions_in(bounds_or_empty))) if order.size else []
    assert list(selection.partitions(grid)) == parts
    check_pieces(selection, chosen, [part for _, part in parts])
    assert list(selection.chunks(grid)) == expected
    check_pieces(selection, chosen, [part for _, part in expected])
    check_pieces(selection, chosen, [] if probe.empty else [probe])

    # Reading.
    work = np.full(selection.work_shape, -1)
    for box in [part for _, part in grid.chunks_in(full(shape))]:
        piece = selection.pieces(box)
        if piece is not None:
            sub = array[piece.box.slices()]
            work[piece.outer] = sub if piece.inner is None else sub[piece.inner]
    result = selection.result(work)
    assert np.array_equal(result, flat)
    assert isinstance(result, np.ndarray) == isinstance(flat, np.ndarray)

    # Writing: the last in C order wins.
    values = draw_values(data, selection.result_shape)
    written = numbered(shape)
    spread = selection.spread(values)
    assert spread.shape == selection.work_shape
    for _, part in selection.chunks(grid):
        piece = selection.pieces(part)
        assert piece is not None
        view = written[piece.box.slices()] if shape else written
        view[piece.inner or ...] = spread[piece.outer]
    wanted = numbered(shape).reshape(-1)
    while values.ndim > np.ndim(flat):
        values = values[0]
    for cell, value in zip(order.tolist(), np.broadcast_to(values, np.shape(flat)).reshape(-1).tolist(), strict=True):
        wanted[cell] = value
    assert np.array_equal(written.reshape(-1), wanted)


def check_pieces(selection: Selection, chosen: NDArray[np.bool_], boxes: list[Box]) -> None:
    for box in boxes:
        piece = selection.pieces(box)
        inside = np.zeros_like(chosen)
        inside[box.slices()] = chosen[box.slices()]
        if piece is None:
            assert not inside.any()
            continue
        where = np.argwhere(inside)
        assert piece.box == Box(tuple(where.min(axis=0).tolist()), tuple((where.max(axis=0) + 1).tolist()))
        assert np.array_equal(piece.mask(), inside[piece.box.slices()])
        count = np.zeros(selection.work_shape, dtype=int)[piece.outer].size
        assert count == (piece.box.size if piece.inner is None else np.zeros(piece.box.shape)[piece.inner].size)


@settings(max_examples=200, deadline=None)
@given(basic(), st.data())
def test_basic(drawn: tuple[tuple[int, ...], Any], data: st.DataObject) -> None:
    shape, sel = drawn
    selection = parse(sel, shape)
    check(selection, numbered(shape)[sel], data)
    for parser in (parse_basic, parse_orthogonal):
        again = parser(sel, shape)
        assert (again.box, again.observes) == (selection.box, selection.observes)


@settings(max_examples=200, deadline=None)
@given(with_one_list(), st.data())
def test_one_list_or_mask_among_slices(drawn: tuple[tuple[int, ...], Any], data: st.DataObject) -> None:
    shape, sel = drawn
    check(parse(sel, shape), numbered(shape)[sel], data)


@settings(max_examples=200, deadline=None)
@given(orthogonal(), st.data())
def test_orthogonal(drawn: tuple[tuple[int, ...], Any], data: st.DataObject) -> None:
    shape, sel = drawn
    check(parse_orthogonal(sel, shape), outer_index(numbered(shape), sel), data)


@settings(max_examples=200, deadline=None)
@given(points(), st.data())
def test_points(drawn: tuple[tuple[int, ...], Any], data: st.DataObject) -> None:
    shape, sel = drawn
    flat = numbered(shape)[sel]
    check(parse_points(sel, shape), flat, data)
    if isinstance(sel, np.ndarray):
        check(parse(sel, shape), flat, data)
        check(parse((sel,), shape), flat, data)


@settings(max_examples=200, deadline=None)
@given(st.one_of(basic(), with_one_list()), st.integers(1, 9))
def test_what_was_not_observed_does_not_depend_on_the_extent(drawn: tuple[tuple[int, ...], Any], more: int) -> None:
    shape, sel = drawn
    selection = parse(sel, shape)
    grown = tuple(n if seen else n + more for n, seen in zip(shape, selection.observes, strict=True))
    again = parse(sel, grown)
    assert again.bounds == selection.bounds
    assert again.result_shape == selection.result_shape
    piece, other = selection.pieces(full(shape)), again.pieces(full(grown))
    assert (piece is None) is (other is None)
    if piece is not None and other is not None:
        assert np.array_equal(piece.mask(), other.mask())


@pytest.mark.parametrize(
    ("sel", "observes"),
    [
        (np.s_[3:5, 7], (False, False)),
        (np.s_[:3, :], (False, True)),
        (np.s_[2:, -1], (True, True)),
        (np.s_[...], (True, True)),
        (np.s_[3], (False, True)),
        (np.s_[3, ...], (False, True)),
        (np.s_[3:10, 3:11], (False, True)),
        (np.s_[5:2:-1, 5::-1], (False, True)),
        (np.s_[1:-1, ::2], (True, True)),
        (np.s_[[1, 2], 0], (False, False)),
        (np.s_[[1, -2], 0], (True, False)),
        (np.s_[np.arange(10) > 4, 0], (True, False)),
        (np.ones((10, 10), dtype=np.bool_), (True, True)),
    ],
)
def test_observes(sel: Any, observes: tuple[bool, ...]) -> None:
    assert parse(sel, (10, 10)).observes == observes


def test_points_observe_only_what_counts_from_the_end() -> None:
    assert parse_points(([1, -1], 2), (10, 10)).observes == (True, False)


@pytest.mark.parametrize(
    ("parser", "sel", "shape", "words"),
    [
        (parse, None, (4,), "np.newaxis"),
        (parse, (0, None), (4,), "too many"),
        (parse, 1.5, (4,), "not float"),
        (parse, "name", (4,), "fields"),
        (parse, True, (4,), "boolean"),
        (parse, np.True_, (4,), "boolean"),
        (parse, np.array(True), (), "too many"),
        (parse, np.array(True), (4,), "boolean"),
        (parse, slice(1.5, None), (4,), "not float"),
        (parse, slice(True, None), (4,), "boolean"),
        (parse, slice(None, None, 0), (4,), "step"),
        (parse, 4, (4,), "index 4 is out of bounds for axis 0 with extent 4"),
        (parse, (0, -6), (4, 5), "index -6 is out of bounds for axis 1 with extent 5"),
        (parse, 0, (0,), "extent 0"),
        (parse, (0, 0), (4,), "2 indices are too many for an array of 1 axes"),
        (parse, 0, (), "too many"),
        (parse, (..., 0, ...), (4,), "only once"),
        (parse, ([0], [1]), (4, 5), "oindex"),
        (parse, ([0], [1]), (4, 5), "vindex"),
        (parse, [[0, 1], [1, 0]], (4, 5), "vindex"),
        (parse, [0, 4], (4,), "index 4 is out of bounds for axis 0 with extent 4"),
        (parse, [-5, 0], (4,), "index -5"),
        (parse, np.array([2**63], dtype=np.uint64), (4,), f"index {2**63}"),
        (parse, [0.5], (4,), "float64"),
        (parse, [[0], [0, 1]], (4,), "index array"),
        (parse, [True, 2], (4,), "mixes"),
        (parse, ["a"], (4,), "integers or booleans"),
        (parse, np.ones((4, 4), dtype=np.bool_), (4, 5), "(4, 4) does not fit an array of shape (4, 5)"),
        (parse, np.ones((4, 5), dtype=np.bool_), (4, 5, 6), "(4, 5) does not fit an array of shape (4, 5, 6)"),
        (parse, (np.ones((4, 5), dtype=np.bool_), 0), (4, 5, 6), "only index"),
        (
            parse,
            np.ones(3, dtype=np.bool_),
            (4, 5),
            "(3,) does not fit axis 0, of extent 4, of an array of shape (4, 5)",
        ),
        (parse_basic, [0, 1], (4,), "list"),
        (parse_basic, np.array([0, 1]), (4,), "ndarray"),
        (parse_basic, 4, (4,), "extent 4"),
        (parse_orthogonal, np.ones((4, 5), dtype=np.bool_), (4, 5), "one axis"),
        (parse_orthogonal, ([0], None), (4, 5), "np.newaxis"),
        (parse_orthogonal, ([0], [5]), (4, 5), "index 5 is out of bounds for axis 1"),
        (parse_points, (0, slice(None)), (4, 5), "oindex"),
        (parse_points, (0, ...), (4, 5), "oindex"),
        (parse_points, ([0],), (4, 5), "each of the 2 axes"),
        (parse_points, ([0, 1], [0, 1, 2]), (4, 5), "(2,), (3,)"),
        (parse_points, ([0, 1], [0, 5]), (4, 5), "index 5 is out of bounds for axis 1"),
        (parse_points, ([True], [0]), (4, 5), "only index"),
        (parse_points, (True, 0), (4, 5), "boolean"),
        (parse_points, np.ones(4, dtype=np.bool_), (4, 5), "(4,) does not fit an array of shape (4, 5)"),
    ],
)
def test_refusals_say_what_to_do(parser: Parser, sel: Any, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(InvalidIndexError) as caught:
        parser(sel, shape)
    assert words in str(caught.value)


def test_values_that_do_not_fit_are_refused() -> None:
    for selection in (parse(np.s_[:3, 1], (4, 5)), parse_points(([0, 1, 2], 1), (4, 5))):
        with pytest.raises(InvalidInputError, match=r"\(2,\).*\(3,\)"):
            selection.spread(np.zeros(2))
        with pytest.raises(InvalidInputError):
            selection.spread(np.zeros((2, 3)))


def test_a_box_is_an_index() -> None:
    box = Box((1, 2), (3, 4))
    for parser in (parse, parse_basic, parse_orthogonal):
        selection = parser(box, (5, 5))
        assert selection.box == box
        assert selection.observes == (False, False)


def test_neighbours_in_a_list_are_a_box() -> None:
    for sel in ([2, 3, 4], range(2, 5), np.arange(6) // 3 == 0, slice(2, 5, 1)):
        assert parse((sel, 1), (6, 6)).box is not None
    assert parse(np.s_[::5], (4,)).box == Box((0,), (1,))
    for many in ([2, 4], [3, 2], [2, 2, 3]):
        assert parse(many, (6,)).box is None


def test_an_index_array_is_copied() -> None:
    cells = np.array([1, 3])
    listed, single = parse(cells, (9,)), parse_points(cells, (9,))
    cells[:] = 7
    assert listed.bounds == single.bounds == Box((1,), (4,))
    for selection in (listed, single):
        piece = selection.pieces(full((9,)))
        assert piece is not None
        assert piece.mask().tolist() == [True, False, True]


def test_a_walk_over_many_chunks_remembers_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txstore.orthogonal._PICKS_KEPT", 3)
    shape = (20, 30)
    array, grid = numbered(shape), Grid((4, 2), None, (8, 8))
    for sel in (np.s_[::3, ::-2], np.s_[[19, 1, 7, 0], 1::5]):
        selection = parse(sel, shape)
        for _ in range(2):
            work = np.full(selection.work_shape, -1)
            for _, part in selection.chunks(grid):
                piece = selection.pieces(part)
                assert piece is not None
                cells = array[piece.box.slices()]
                work[piece.outer] = cells if piece.inner is None else cells[piece.inner]
            assert np.array_equal(selection.result(work), array[sel])
        assert isinstance(selection, OrthogonalSelection)
        assert all(0 < len(known) <= 3 for known in selection._picks)


def test_far_points_are_found_without_walking() -> None:
    far = 2**62
    shape = (far, far, far)
    grid = Grid((256, 256, 1), None, (4096, 4096, 1))
    cells = np.array([far - 1, 5, far - 2, 0])
    selection = parse_points((cells, cells, 7), shape)
    found = list(selection.chunks(grid))
    assert [index for index, _ in found] == [(0, 0, 7), ((far - 1) // 256, (far - 1) // 256, 7)]
    assert len(list(selection.partitions(grid))) == 2
    piece = selection.pieces(found[1][1])
    assert piece is not None
    assert piece.box == Box((far - 2, far - 2, 7), (far, far, 8))
    assert piece.outer[0].tolist() == [0, 2]  # type: ignore[union-attr]
    assert selection.unique
    steps = parse(np.s_[:: far // 2, [0, far - 1], -1], shape)
    assert [index for index, _ in steps.chunks(grid)] == [
        (row, column, far - 1) for row in (0, far // 512) for column in (0, (far - 1) // 256)
    ]


def test_selections_can_be_sent_to_other_processes() -> None:
    shape = (6, 7)
    for selection in (
        parse(np.s_[1:3, -1], shape),
        parse_orthogonal(([1, 3], slice(None, None, 2)), shape),
        parse_points(([1, 3], [2, 2]), shape),
    ):
        again = pickle.loads(pickle.dumps(selection))
        piece, other = selection.pieces(full(shape)), again.pieces(full(shape))
        assert piece is not None
        assert other is not None
        assert np.array_equal(piece.mask(), other.mask())
