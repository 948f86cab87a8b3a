"""``plot``: a 2-D slice in the terminal, or as a PNG. Big arrays are read with a stride, never whole."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from txstore.cli.options import DATA, AtOpt, IndexOpt, JsonOpt, StoreArg, example
from txstore.cli.selections import Axis
from txstore.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from txstore.array import Array

#: The longest side of a PNG, in cells that are read and drawn.
PNG_CELLS = 1600


@dataclass(frozen=True, slots=True)
class Slice:
    """What is drawn: every so many cells of a 2-D selection.

    Attributes
    ----------
    array, axes
        The array and the whole selection.
    values : ndarray
        What was read of it, as floats, shape ``(rows, columns)``.
    rows, columns : range
        The cells that were read, along the two axes.
    step : tuple of int
        Every how many of the selected cells were read.
    size : tuple of int
        Rows and columns of pixels to draw it on.
    square : bool
        Whether that keeps the proportions.
    names : tuple of str
        What the two axes are called.
    """

    array: Array
    axes: tuple[Axis, ...]
    values: NDArray[Any]
    rows: range
    columns: range
    step: tuple[int, int]
    size: tuple[int, int]
    square: bool
    names: tuple[str, str]

    @property
    def finite(self) -> bool:
        """Whether there is anything to draw."""
        import numpy as np

        return bool(np.isfinite(self.values).any())


def plot(
    root: StoreArg,
    array: Annotated[str, typer.Argument(metavar="ARRAY", help="The array.", show_default=False)],
    sel: Annotated[
        str | None, typer.Option("--sel", metavar="INDEX", help="Two dimensions of cells, as in NumPy: '0,:,100:200'.")
    ] = None,
    at: AtOpt = None,
    png: Annotated[
        str | None, typer.Option("--png", metavar="FILE", help="Write a picture; needs txstore\\[viz].")
    ] = None,
    cmap: Annotated[str, typer.Option("--cmap", metavar="NAME", help="The colour map.")] = "viridis",
    vmin: Annotated[float | None, typer.Option("--vmin", metavar="X", help="The value of the lowest colour.")] = None,
    vmax: Annotated[float | None, typer.Option("--vmax", metavar="X", help="The value of the highest colour.")] = None,
    width: Annotated[
        int | None, typer.Option("--width", min=2, max=4000, metavar="N", help="Columns. Default: the terminal's.")
    ] = None,
    index: IndexOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Draw a 2-D slice of an array."""
    from txstore.cli import access, output, pictures, raster, refs, selections
    from txstore.cli.listing import find_array

    items = (...,) if sel is None else selections.parse(sel)
    if png is not None:
        pictures.require()
    elif cmap not in raster.COLORMAPS:
        raise InvalidInputError(f"no colour map {cmap!r} in the terminal; there are {', '.join(raster.COLORMAPS)}")
    _check_limits(vmin, vmax)
    with access.opened(root, "r", index) as store:
        snap = refs.parse(store, at).snapshot(store)
        found = find_array(snap, array)
        rows, columns = (PNG_CELLS, PNG_CELLS) if png is not None else _space(width)
        drawn = sample(found, selections.resolve(items, found.shape), rows, columns)
        low, high = raster.limits(drawn.values, vmin, vmax)
        title = f"{found.path}{selections.show(drawn.axes)} at version {snap.version}"
        if png is not None:
            pictures.save(drawn, png, title=title, cmap=cmap, low=low, high=high)
        if as_json:
            output.emit_json(
                {
                    "array": found.path,
                    "version": snap.version,
                    "selection": selections.show(drawn.axes),
                    "shape": drawn.values.shape,
                    "step": drawn.step,
                    "low": low,
                    "high": high,
                    "png": png,
                }
            )
        elif png is not None:
            output.say(f"wrote {png}")
        else:
            _draw(drawn, cmap, low, high)
            span = f"{low:g} to {high:g}" if drawn.finite else "no values" if drawn.values.size else "no cells"
            every = f", every {drawn.step[0]} x {drawn.step[1]} cells" if drawn.finite and max(drawn.step) > 1 else ""
            output.say(f"{title}: {span}{every}")


def _check_limits(vmin: float | None, vmax: float | None) -> None:
    for name, value in (("--vmin", vmin), ("--vmax", vmax)):
        if value is not None and not math.isfinite(value):
            raise InvalidInputError(f"{name} {value:g} is no number on a scale of colours")
    if vmin is not None and vmax is not None and vmin >= vmax:
        raise InvalidInputError(f"--vmin {vmin:g} is not below --vmax {vmax:g}")


def _space(width: int | None) -> tuple[int, int]:
    """Rows and columns of pixels, two rows a line; three lines are left for the legend and the prompt."""
    if width is not None:
        return 4 * width, width
    terminal = shutil.get_terminal_size()
    return max(2, 2 * (terminal.lines - 3)), terminal.columns


def sample(array: Array, axes: tuple[Axis, ...], rows: int, columns: int) -> Slice:
    """Read as few cells as fill ``rows`` x ``columns`` pixels.

    Raises
    ------
    InvalidInputError
        The selection is not 2-D, or what it selects can't be drawn.
    """
    from txstore.cli import raster, selections

    long = [i for i, axis in enumerate(axes) if not isinstance(axis, int)]
    if len(long) != 2:
        advice = ""
        if array.ndim > 2:
            advice = f"; for example --sel='{','.join(['0'] * (array.ndim - 2) + [':', ':'])}'"
        raise InvalidInputError(f"a plot needs 2 dimensions and {selections.show(axes)} has {len(long)}{advice}")
    shape = selections.shape_of(axes)
    size, square = raster.fit((shape[0], shape[1]), rows, columns)
    # Rounded down, so that there is a cell for every pixel: at most four times what is drawn is read.
    step = (max(1, shape[0] // max(1, size[0])), max(1, shape[1] // max(1, size[1])))
    thin = list(axes)
    for i, every in zip(long, step, strict=True):
        thin[i] = _range(axes, i)[::every]
    values = raster.numbers(array.read(selections.index(thin)))
    names = array.dimension_names or [None] * array.ndim
    return Slice(
        array,
        axes,
        values,
        _range(thin, long[0]),
        _range(thin, long[1]),
        step,
        size,
        square,
        (names[long[0]] or f"axis {long[0]}", names[long[1]] or f"axis {long[1]}"),
    )


def _range(axes: Sequence[Axis], i: int) -> range:
    axis = axes[i]
    assert isinstance(axis, range)
    return axis


def _draw(drawn: Slice, cmap: str, low: float, high: float) -> None:
    from txstore.cli import output, raster

    scaled = raster.resample(raster.scale(drawn.values, low, high), drawn.size)
    screen = output.console()
    unicode = output.unicode(sys.stdout)
    # 16 colours are too few for a colour map: shades say more.
    if unicode and not screen.no_color and screen.color_system in ("256", "truecolor"):
        for line in raster.colored(scaled, cmap):
            screen.print(line)
    else:
        for shades in raster.shaded(scaled, raster.BLOCKS if unicode else raster.ASCII):
            print(shades)


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(
        "plot",
        rich_help_panel=DATA,
        epilog=example("txstore plot survey dem", "txstore plot survey t2m --sel='0,:,:' --at 3 --png out.png"),
    )(plot)


__all__ = ["Slice", "plot", "register", "sample"]
