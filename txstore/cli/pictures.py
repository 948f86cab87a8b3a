"""PNG files, through matplotlib, which the extra ``viz`` brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from txstore.errors import InvalidInputError, TxStoreError

if TYPE_CHECKING:
    from txstore.cli.plot import Slice


def require() -> None:
    """Make sure, before anything is read, that matplotlib is there.

    Raises
    ------
    TxStoreError
        It is not; the message says how to get it.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise TxStoreError("a PNG needs matplotlib: pip install 'txstore[viz]'") from None


def save(drawn: Slice, file: str, *, title: str, cmap: str, low: float, high: float) -> None:
    """Write ``drawn`` to ``file``.

    Raises
    ------
    InvalidInputError
        matplotlib has no such colour map.
    OSError
        The file can't be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    if cmap not in matplotlib.colormaps:
        raise InvalidInputError(f"matplotlib has no colour map {cmap!r}")
    rows, columns = drawn.rows, drawn.columns
    # A Figure of its own, without pyplot: no window system and no state of the process is touched.
    (left, right), (top, bottom) = _edges(columns), _edges(rows)
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        drawn.values,
        cmap=cmap,
        vmin=low,
        vmax=high,
        interpolation="nearest",
        aspect="equal" if drawn.square else "auto",
        extent=(left, right, bottom, top),
    )
    axes.set_title(_literal(title))
    axes.set_ylabel(_literal(drawn.names[0]))
    axes.set_xlabel(_literal(drawn.names[1]))
    units = drawn.array.attrs.get("units")
    figure.colorbar(image, label=_literal(str(units)) if units is not None else "")
    figure.savefig(file, format="png", dpi=150)


def _edges(cells: range) -> tuple[float, float]:
    if not cells:
        return -0.5, 0.5
    return cells[0] - cells.step / 2, cells[-1] + cells.step / 2


def _literal(text: str) -> str:
    # A dollar sign would start a formula.
    return text.replace("$", r"\$")


__all__ = ["require", "save"]
