"""The encoded chunks of one array as an export wants them: copied where they can be, encoded anew where they must."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np

from txstore.codecs import TileCodec
from txstore.compaction.profiles import Form
from txstore.errors import CorruptionError, InvalidInputError
from txstore.reader import ArrayView
from txstore.segment import Place
from txstore.staging import is_fill
from txstore.storage import MissingFileError

_Result = TypeVar("_Result")


class Encoded(NamedTuple):
    """One encoded chunk.

    Attributes
    ----------
    data : bytes
        Exactly a Zarr chunk.
    copied : bool
        Whether these are stored bytes, which nobody has decoded.
    """

    data: bytes
    copied: bool


class ChunkBytes:
    """Encodes the chunks of an array.

    Parameters
    ----------
    view : ArrayView
        The array; without a pool of its own, for this runs in one.
    form : Form
        How it is to be written.

    Notes
    -----
    Safe for threads. Takes memory for one chunk, decoded and encoded, at a time and thread.
    """

    def __init__(self, view: ArrayView, form: Form) -> None:
        self.view = view
        self.form = form
        self._codec = TileCodec.of(form.meta)

    def encoded(self, chunk: tuple[int, ...]) -> Encoded | None:
        """A whole chunk, padded with fill outside the shape; None where it holds nothing but fill.

        Raises
        ------
        CorruptionError
            If stored bytes do not match their checksum, or are gone.
        SnapshotExpiredError
            If the version has expired meanwhile.
        InvalidInputError
            If the profile can't hold a value.
        """
        return self.retrying(lambda: self._encoded(chunk))

    def _encoded(self, chunk: tuple[int, ...]) -> Encoded | None:
        view, form = self.view, self.form
        found = view.chunk(chunk)
        if found is None:
            return self._gap
        if isinstance(found, Place) and form.copies:
            return Encoded(view.source.fetch(found), True)
        cells = view.read_chunk(chunk)
        if not form.dense and is_fill(cells, view.meta.fill_value):
            return None
        if form.convert is not None:
            try:
                cells = form.convert(cells)
            except InvalidInputError as error:
                raise InvalidInputError(
                    f"array {view.path!r}, chunk {chunk}: {error}; profile='native' holds them"
                ) from None
        return Encoded(self._codec.encode(cells), False)

    @cached_property
    def _gap(self) -> Encoded | None:
        """What stands for a chunk without bytes."""
        if not self.form.dense:
            return None
        cells = np.full(self.view.grid.chunks, self.view.meta.fill_value, self.view.meta.dtype)
        return Encoded(self._codec.encode(cells if self.form.convert is None else self.form.convert(cells)), False)

    def retrying(self, work: Callable[[], _Result]) -> _Result:
        """Once more with fresh rows where a segment was missing: maintenance may have moved on since they were read."""
        try:
            return work()
        except MissingFileError:
            self.view.timeline.forget(self.view.node)
        try:
            return work()
        except MissingFileError as error:
            self.view.timeline.require_retained(self.view.version)
            raise CorruptionError(
                f"array {self.view.path!r}, version {self.view.version}: {error}; run txstore verify"
            ) from error

    @property
    def chunk_bytes(self) -> int:
        """What one chunk takes in memory while it is under work, about."""
        size = int(np.prod(self.view.grid.chunks, dtype=object)) * self.view.meta.dtype.itemsize
        return 2 * size if self.form.copies else 3 * size


__all__ = ["ChunkBytes", "Encoded"]
