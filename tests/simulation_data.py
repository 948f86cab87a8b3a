"""What the simulation draws: arrays to create, values for them, selections of their cells."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from simulation_model import Coords, Spec, same

DTYPES: dict[str, list[Any]] = {
    "<f4": [None, np.nan, -0.0, 7.5],
    "<f8": [None, np.nan],
    "<i2": [None, -7],
    "|u1": [None, 255],
    "|b1": [None, True],
    "<M8[s]": [None],
    "<U3": [None, "-"],
    "struct": [None],
}
STRUCT = np.dtype([("a", "<i2"), ("b", "<f4")])


def dtype_of(name: str) -> np.dtype[Any]:
    return STRUCT if name == "struct" else np.dtype(name)


def random_values(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int, *, exact: bool = False) -> np.ndarray:
    """Values of a dtype, awkward ones among them; ``exact``: small numbers whose sums are exact and never zero."""
    rng = np.random.default_rng(seed)
    if exact:
        return np.asarray(rng.integers(1, 6, shape)).astype(dtype)
    values = np.zeros(shape, dtype)
    if dtype.kind == "f":
        values[...] = rng.normal(0, 100, shape)
        pick = rng.random(shape)
        for k, odd in enumerate((np.nan, -0.0, 0.0, np.inf)):
            values[(pick >= k * 0.06) & (pick < (k + 1) * 0.06)] = odd
    elif dtype.kind in "iu":
        values[...] = rng.integers(0 if dtype.kind == "u" else -100, 100, shape)
    elif dtype.kind == "b":
        values[...] = rng.random(shape) < 0.5
    elif dtype.kind == "M":
        seconds = np.asarray(rng.integers(0, 10**9, shape)).astype(dtype)
        values[...] = np.where(rng.random(shape) < 0.1, np.datetime64("NaT", "s"), seconds)
    elif dtype.kind == "U":
        values[...] = np.asarray(["", "ab", "åß", "xyz"])[rng.integers(0, 4, shape)]
    else:
        for name in dtype.names or ():
            values[name] = random_values(dtype[name], shape, seed + 1)
    return values


@st.composite
def specs(draw: st.DrawFn) -> tuple[Spec, tuple[int, ...]]:
    """A specification and a shape."""
    name = draw(st.sampled_from(sorted(DTYPES)))
    ndim = draw(st.sampled_from((2, 2, 1, 3, 0)))
    largest = {0: 0, 1: 60, 2: 20, 3: 7}[ndim]
    shape = tuple(draw(st.integers(0 if axis == 0 else 1, largest)) for axis in range(ndim))
    chunks = tuple(draw(st.integers(2, max(3, largest // 2))) for _ in range(ndim))
    shards = tuple(chunk * draw(st.integers(1, 3)) for chunk in chunks) if ndim and draw(st.booleans()) else None
    return Spec(dtype_of(name), draw(st.sampled_from(DTYPES[name])), chunks, shards), shape


@st.composite
def box_selections(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Explicit bounds on every axis: what never looks at the extents."""
    parts: list[Any] = []
    for extent in shape:
        lo = draw(st.integers(0, max(extent - 1, 0)))
        hi = draw(st.integers(lo, extent)) if extent else 0
        if hi - lo == 1 and draw(st.booleans()):
            parts.append(lo)
        else:
            parts.append(slice(lo, hi))
    return tuple(parts)


@st.composite
def selections(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[str, Any]:
    """(mode, selection): mode is "box", "basic", "oindex" or "vindex"; "box" observes no extent."""
    kinds = ["box"] * 4 + ["open", "step"]
    if shape and 0 not in shape:
        kinds += ["mask", "list", "oindex", "vindex"]
    kind = draw(st.sampled_from(kinds))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    if kind == "box":
        return "box", draw(box_selections(shape))
    if kind == "open":
        choice = draw(st.integers(0, 2))
        if choice == 0 or not shape or shape[0] == 0:
            return "basic", Ellipsis
        if choice == 1:
            return "basic", (slice(draw(st.integers(0, shape[0] - 1)), None), ...)
        return "basic", (-draw(st.integers(1, shape[0])), ...)
    if kind == "step":
        parts = []
        for extent in shape:
            step = draw(st.sampled_from((1, 2, 3, -1, -2)))
            start = draw(st.integers(0, max(extent - 1, 0)))
            parts.append(slice(start, None, step))
        return "basic", tuple(parts)
    if kind == "mask":
        return "basic", rng.random(shape) < draw(st.sampled_from((0.0, 0.05, 0.5)))
    axis = draw(st.integers(0, len(shape) - 1))
    if kind == "list":
        picked = rng.permutation(shape[axis])[: draw(st.integers(1, 5))]
        others = [slice(part, part + 1) if isinstance(part, int) else part for part in draw(box_selections(shape))]
        return "basic", (*others[:axis], [int(index) for index in picked], *others[axis + 1 :])
    if kind == "oindex":
        lists = [rng.permutation(extent)[: draw(st.integers(1, 4))] for extent in shape]
        return "oindex", tuple(lists)
    count = draw(st.integers(1, 8))
    return "vindex", tuple(rng.integers(0, extent, count) for extent in shape)


def numpy_selection(mode: str, sel: Any) -> Any:
    return np.ix_(*sel) if mode == "oindex" else sel


def selected(shape: tuple[int, ...], mode: str, sel: Any) -> tuple[Coords, tuple[int, ...]]:
    """Coordinates of the selected cells in C order of the selection, and the shape of the selection."""
    flat = np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)
    picked = np.asarray(flat[numpy_selection(mode, sel)])
    coords = np.unravel_index(picked.ravel(), shape) if shape else ()
    return tuple(coords), picked.shape


def assign(array: Any, mode: str, sel: Any, values: Any) -> None:
    if mode == "oindex":
        array.oindex[sel] = values
    elif mode == "vindex":
        array.vindex[sel] = values
    else:
        array[sel] = values


def fetch(array: Any, mode: str, sel: Any) -> Any:
    if mode == "oindex":
        return array.oindex[sel]
    return array.vindex[sel] if mode == "vindex" else array[sel]


def difference(real: np.ndarray, model: np.ndarray) -> str:
    """Which cells differ, as few as tell what is wrong."""
    if real.shape != model.shape or real.dtype != model.dtype:
        return f"{real.shape} {real.dtype} instead of {model.shape} {model.dtype}"
    cells = [index for index in np.ndindex(real.shape) if not same(real[index], model[index])]
    shown = ", ".join(f"{index}: {real[index]!r} instead of {model[index]!r}" for index in cells[:6])
    return f"{len(cells)} of {real.size} cells differ: {shown}"
