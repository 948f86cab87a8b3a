"""``--sel``: integers, slices and ``...`` as NumPy would take them, parsed and never evaluated."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import EllipsisType
from typing import TypeAlias

from txstore.errors import InvalidIndexError, InvalidInputError

Item: TypeAlias = "int | slice | EllipsisType"
Axis: TypeAlias = "int | range"

_INTEGER = re.compile(r"[+-]?\d{1,18}")


def parse(text: str) -> tuple[Item, ...]:
    """``"0, 2:10:2, ..."`` as the index tuple ``(0, slice(2, 10, 2), ...)``.

    Raises
    ------
    InvalidInputError
        Anything but integers, slices and one ``...``.
    """
    body = text.strip()
    if body.startswith("[") and body.endswith("]"):
        body = body[1:-1].strip()
    if not body:
        raise InvalidInputError("an empty selection; say ... for everything")
    items = tuple(_item(part.strip(), text) for part in body.split(","))
    if sum(item is ... for item in items) > 1:
        raise InvalidInputError(f"{text!r} has more than one ...")
    return items


def _item(part: str, text: str) -> Item:
    if part == "...":
        return ...
    if _INTEGER.fullmatch(part):
        return int(part)
    numbers = [number.strip() for number in part.split(":")]
    if len(numbers) not in (2, 3) or not all(number == "" or _INTEGER.fullmatch(number) for number in numbers):
        raise InvalidInputError(f"{part!r} in {text!r} is no integer, no slice a:b:c and not ...")
    start, stop, step = (int(number) if number else None for number in [*numbers, ""][:3])
    if step == 0:
        raise InvalidInputError(f"{part!r} in {text!r} has a step of zero")
    return slice(start, stop, step)


def resolve(items: Sequence[Item], shape: Sequence[int]) -> tuple[Axis, ...]:
    """One integer or range of cells for every axis of an array of ``shape``; nothing negative is left but steps.

    Raises
    ------
    InvalidIndexError
        Too many items, or an integer outside its axis.
    """
    given = sum(item is not ... for item in items)
    if given > len(shape):
        raise InvalidIndexError(f"{given} indices for an array of {len(shape)} dimensions with shape {tuple(shape)}")
    full: list[Item] = []
    for item in items if ... in items else [*items, ...]:
        full.extend([slice(None)] * (len(shape) - given) if item is ... else [item])
    return tuple(_axis(item, axis, extent) for axis, (item, extent) in enumerate(zip(full, shape, strict=True)))


def _axis(item: Item, axis: int, extent: int) -> Axis:
    if isinstance(item, slice):
        return range(*item.indices(extent))
    assert isinstance(item, int)
    if not -extent <= item < extent:
        raise InvalidIndexError(f"index {item} is out of range for axis {axis} with {extent} cells")
    return item % extent


def index(axes: Sequence[Axis]) -> tuple[int | slice, ...]:
    """What an array takes in ``[]`` for ``axes``."""
    return tuple(axis if isinstance(axis, int) else _slice(axis) for axis in axes)


def _slice(cells: range) -> slice:
    if not cells:
        return slice(0, 0)
    # A downward range that reaches cell 0 stops at -1, which a slice would read as the last cell.
    return slice(cells.start, cells.stop if cells.stop >= 0 else None, cells.step)


def show(axes: Sequence[Axis]) -> str:
    """``axes`` as ``[0, 2:10:2, 0:5]``."""
    return f"[{', '.join(_show(axis) for axis in axes)}]"


def _show(axis: Axis) -> str:
    if isinstance(axis, int):
        return str(axis)
    part = _slice(axis)
    text = f"{part.start}:{'' if part.stop is None else part.stop}"
    return text if part.step in (None, 1) else f"{text}:{part.step}"


def shape_of(axes: Sequence[Axis]) -> tuple[int, ...]:
    """The shape of what ``axes`` select; integers drop their axis."""
    return tuple(len(axis) for axis in axes if not isinstance(axis, int))


__all__ = ["Axis", "Item", "index", "parse", "resolve", "shape_of", "show"]
