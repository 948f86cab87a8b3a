"""A 2-D slice as characters: two pixels a character in colour, or shades where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from txstore.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.text import Text

#: Colours at equal distances from the lowest value to the highest, between which we interpolate.
COLORMAPS = {
    "viridis": "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 84d44b "
    "addc30 d8e219 fde725",
    "magma": "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 d0416f e75263 f56b5c fc8961 fea772 "
    "fec488 fde2a3 fcfdbf",
    "coolwarm": "3b4cc0 4e68d8 6282ea 779af7 8db0fe a3c2fe b9d0f9 ccd9ed dddcdc ecd3c5 f5c4ac f7b093 f4987a eb7d62 "
    "dd5f4b ca3b37 b40426",
    "terrain": "333399 1e5ec4 0888ee 00acc4 01cc66 41d973 81e680 c1f38d fefe98 ded587 beac76 9e8365 815e56 a18781 "
    "c1b0ac e1d9d7 ffffff",
    "gray": "000000 ffffff",
}
BLOCKS = " ░▒▓█"
ASCII = " .:-=+*#%@"

#: How many times longer than wide a slice may be drawn; for what is longer, proportions are given up.
MAX_SKEW = 4
#: How many pixels one cell may take in each direction.
MAX_ZOOM = 8


def fit(shape: tuple[int, int], rows: int, columns: int) -> tuple[tuple[int, int], bool]:
    """The pixels, at most ``rows`` x ``columns``, on which to draw a slice of ``shape``.

    Returns
    -------
    size : tuple of int
        Rows and columns of pixels.
    square : bool
        Whether the proportions are kept.
    """
    if 0 in shape:
        return (0, 0), True
    zoom = min(rows / shape[0], columns / shape[1], MAX_ZOOM)
    long = zoom * max(shape)
    square = long <= MAX_SKEW * zoom * min(shape)
    # The shorter side is drawn wider than it is, as far as there is space, so that something of it can be seen.
    least = 0 if square else long / MAX_SKEW
    down, across = (
        max(1, int(max(zoom * cells, min(least, MAX_ZOOM * cells, space))))
        for cells, space in ((shape[0], rows), (shape[1], columns))
    )
    return (down, across), square


def resample(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """``values`` on ``size`` pixels: the cell nearest to each, none computed."""
    import numpy as np

    if 0 in size or values.size == 0:
        return values[:0, :0]
    rows, columns = (np.arange(pixels) * cells // pixels for pixels, cells in zip(size, values.shape, strict=True))
    return values[np.ix_(rows, columns)]


def numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """``values`` as floats to draw: magnitudes of complex numbers, ticks of times, NaN for what is missing.

    Raises
    ------
    InvalidInputError
        Text, bytes or records, which can't be drawn.
    """
    import numpy as np

    if values.dtype.kind in "mM":
        return np.where(np.isnat(values), np.nan, values.astype(np.int64).astype(np.float64))
    if values.dtype.kind == "c":
        magnitudes: NDArray[np.float64] = np.abs(values).astype(np.float64)
        return magnitudes
    if values.dtype.kind not in "biuf":
        raise InvalidInputError(f"values of dtype {values.dtype} can't be drawn")
    return values.astype(np.float64)


def limits(values: NDArray[np.float64], low: float | None, high: float | None) -> tuple[float, float]:
    """The range of colours: what was asked for, else the range of the finite values; never upside down."""
    import numpy as np

    finite = values[np.isfinite(values)]
    least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low is None:
        low = least if high is None else min(least, high)
    return low, max(low, most) if high is None else high


def scale(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """``values`` from 0 at ``low`` to 1 at ``high``, cut there; NaN stays. Where the two are one, it is 0.5."""
    import numpy as np

    if not high > low:
        beside = np.where(values < low, 0.0, np.where(values > low, 1.0, 0.5))
        return np.where(np.isnan(values), np.nan, beside)
    # Halved first: the span of the largest floats is more than a float holds.
    span = high / 2 - low / 2
    scaled: NDArray[np.float64] = np.clip((values / 2 - low / 2) / span, 0.0, 1.0)
    return scaled


def colors(scaled: NDArray[np.float64], name: str) -> NDArray[np.uint8]:
    """The RGB colours, shape ``(rows, columns, 3)``, of scaled values, by one of :data:`COLORMAPS`."""
    import numpy as np

    anchors = np.array([list(bytes.fromhex(color)) for color in COLORMAPS[name].split()], dtype=np.float64)
    where = np.nan_to_num(scaled) * (len(anchors) - 1)
    channels = [np.interp(where, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def colored(scaled: NDArray[np.float64], name: str) -> Iterator[Text]:
    """Lines of half blocks, each the colours of two pixels, one above the other; NaN is left blank."""
    import numpy as np
    from rich.text import Text

    if scaled.shape[0] % 2:
        scaled = np.vstack([scaled, np.full((1, scaled.shape[1]), np.nan)])
    rgb, missing = colors(scaled, name), np.isnan(scaled)
    for row in range(0, scaled.shape[0], 2):
        line = Text()
        for upper, lower, no_upper, no_lower in zip(
            rgb[row], rgb[row + 1], missing[row], missing[row + 1], strict=True
        ):
            if no_upper and no_lower:
                line.append(" ")
            elif no_upper:
                line.append("▄", style=_rgb(lower))
            elif no_lower:
                line.append("▀", style=_rgb(upper))
            else:
                line.append("▀", style=f"{_rgb(upper)} on {_rgb(lower)}")
        yield line


def _rgb(color: Sequence[int]) -> str:
    return f"#{color[0]:02x}{color[1]:02x}{color[2]:02x}"


def shaded(scaled: NDArray[np.float64], ramp: str) -> Iterator[str]:
    """Lines of ``ramp``'s characters, from its second to its last; the first, for NaN, is blank."""
    import numpy as np

    # A character is about twice as high as wide: of two rows, the upper one stands for both.
    for row in scaled[::2]:
        level = 1 + np.minimum(np.nan_to_num(row) * (len(ramp) - 1), len(ramp) - 2).astype(int)
        yield "".join(ramp[i] for i in np.where(np.isnan(row), 0, level)).rstrip()


__all__ = [
    "ASCII",
    "BLOCKS",
    "COLORMAPS",
    "colored",
    "colors",
    "fit",
    "limits",
    "numbers",
    "resample",
    "scale",
    "shaded",
]
