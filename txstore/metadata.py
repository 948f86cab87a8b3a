"""The metadata of an array as Zarr v3 has it: one value for everything but the shape and the attributes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txstore.codecspecs import Codecs, resolve_codecs
from txstore.dtypes import dtype_from_zarr, dtype_to_zarr, has_byte_order
from txstore.errors import CorruptionError, FormatError, InvalidInputError
from txstore.fills import fill_from_zarr, fill_to_zarr
from txstore.jsonvalues import frozen, normalize_attribute
from txstore.names import check_name

_INDEX_CODECS: list[dict[str, Any]] = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "crc32c"},
]
#: What a document may hold beside what an array can't do without (Zarr v3, "Array metadata").
_OPTIONAL = {"attributes", "dimension_names", "storage_transformers"}
_REQUIRED = {"shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"}
#: What :meth:`ArrayMetadata.stored` leaves out, for it has tables of its own.
_HISTORIES = ("shape", "attributes")


@dataclass(frozen=True, eq=False)
class ArrayMetadata:
    """What an array is, but for its shape and attributes, which have histories of their own.

    Attributes
    ----------
    dtype : numpy.dtype
        As :func:`txstore.dtypes.parse_dtype` gives it.
    fill_value : ndarray
        0-d, read-only, of that dtype.
    chunks : tuple of int
        In cells, one or more along each axis.
    shards : tuple of int or None
        In cells, multiples of the chunks.
    codecs : tuple of dict
        As :func:`txstore.codecs.resolve_codecs` gives them, without ``bytes`` and ``sharding_indexed``.
    dimension_names : tuple of (str or None), or None

    Raises
    ------
    InvalidInputError
        When these don't fit together.

    Notes
    -----
    Immutable, hashable, equal by what is stored, so that NaN equals itself; safe for threads; pickled by value.
    """

    dtype: np.dtype[Any]
    fill_value: NDArray[Any]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    codecs: Codecs
    dimension_names: tuple[str | None, ...] | None = None

    def __post_init__(self) -> None:
        if any(chunk < 1 for chunk in self.chunks):
            raise InvalidInputError(f"chunks are one cell or more along each axis, not {self.chunks}")
        if self.shards is not None and (
            len(self.shards) != self.ndim
            or any(shard < 1 or shard % chunk for shard, chunk in zip(self.shards, self.chunks, strict=True))
        ):
            raise InvalidInputError(f"shards are multiples of the chunks {self.chunks}, not {self.shards}")
        names = self.dimension_names
        if names is not None:
            if isinstance(names, str) or not all(name is None or isinstance(name, str) for name in names):
                raise InvalidInputError(f"dimension_names are strings or None, not {names!r}")
            if len(names) != self.ndim:
                raise InvalidInputError(f"there are {len(names)} dimension_names for {self.ndim} dimensions")

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.chunks)

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, ArrayMetadata) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[Any, ...]:
        return ArrayMetadata.from_stored, (self._text,)

    # --- as a document --------------------------------------------------------------------------

    def to_document(self, shape: Sequence[int], attributes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The whole Zarr v3 document, as zarr-python writes it.

        Parameters
        ----------
        shape : sequence of int
            The array's, which this object doesn't know.
        attributes : mapping, optional
            JSON values.

        Returns
        -------
        dict
            Fresh, of JSON values; a regular grid, keys of the default encoding with ``"/"``.
        """
        position = next(
            (place for place, codec in enumerate(self.codecs) if codec["name"] != "numcodecs.delta"), len(self.codecs)
        )
        chain = [_copied(codec) for codec in self.codecs]
        bytes_: dict[str, Any] = {"name": "bytes"}
        if has_byte_order(self.dtype):
            bytes_["configuration"] = {"endian": "little"}
        chain.insert(position, bytes_)
        if self.shards is not None:
            sharding = {
                "chunk_shape": list(self.chunks),
                "codecs": chain,
                "index_codecs": [_copied(codec) for codec in _INDEX_CODECS],
                "index_location": "end",
            }
            chain = [{"name": "sharding_indexed", "configuration": sharding}]
        document = {
            "shape": [int(extent) for extent in shape],
            "data_type": dtype_to_zarr(self.dtype),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(self.shards or self.chunks)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": fill_to_zarr(self.dtype, self.fill_value),
            "codecs": chain,
            "attributes": dict(attributes or {}),
            "zarr_format": 3,
            "node_type": "array",
            "storage_transformers": [],
        }
        if self.dimension_names is not None:
            document["dimension_names"] = list(self.dimension_names)
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, codecs: Any = None) -> ArrayMetadata:
        """What a Zarr v3 document of an array means.

        Parameters
        ----------
        document : mapping
            The whole document. Its shape gives the number of axes; its attributes are not looked at.
        codecs : "auto" or sequence, optional
            Use these instead of the document's, for an importer that encodes anew.

        Raises
        ------
        FormatError
            For what is no Zarr v3 array, or says that it has to be understood and isn't.
        InvalidInputError
            For what can't be held: other grids than the regular one, dtypes, fill values and codecs unknown here.

        Notes
        -----
        What comes back from :meth:`to_document` may differ from the document and mean the same values: the encoding
        of chunk keys is the default one, chunks are little-endian. Who wants to take over encoded chunks as they
        are has to compare.
        """
        _check_document(document)
        ndim = len(document["shape"])
        grid = document["chunk_grid"]
        if _name(grid) != "regular":
            raise InvalidInputError(f"chunk grid {_name(grid)!r} can't be held, only 'regular'")
        outer = _extents(_configuration(grid).get("chunk_shape"), ndim, "chunk_shape")
        chunks, shards, chain = outer, None, document["codecs"]
        if isinstance(chain, list) and len(chain) == 1 and _name(chain[0]) == "sharding_indexed":
            sharding = _configuration(chain[0])
            chunks, shards = _extents(sharding.get("chunk_shape"), ndim, "chunk_shape"), outer
            chain = sharding.get("codecs")
        dtype = dtype_from_zarr(document["data_type"])
        names = document.get("dimension_names")
        return cls(
            dtype,
            fill_from_zarr(dtype, document["fill_value"]),
            chunks,
            shards,
            resolve_codecs(_little_endian(chain) if codecs is None else codecs, dtype),
            None if names is None else tuple(names),
        )

    # --- as it is stored ------------------------------------------------------------------------

    @cached_property
    def _text(self) -> str:
        document = self.to_document(())
        for key in _HISTORIES:
            del document[key]
        return json.dumps(document, allow_nan=False, separators=(",", ":"))

    def stored(self) -> str:
        """The document without shape and attributes, as JSON: what the index keeps. One text for equal metadata."""
        return self._text

    @staticmethod
    def from_stored(text: str) -> ArrayMetadata:
        """What :meth:`stored` gave; the same object for the same text, as long as it is in use.

        Raises
        ------
        CorruptionError
            For what it never gives.
        """
        return _from_stored(text)


@lru_cache(maxsize=1024)
def _from_stored(text: str) -> ArrayMetadata:
    try:
        document = json.loads(text)
        document["shape"] = [0] * len(document["chunk_grid"]["configuration"]["chunk_shape"])
        return ArrayMetadata.from_document(document)
    except (FormatError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptionError(f"the stored metadata of an array can't be read: {error}") from error


def _copied(codec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: dict(value) if isinstance(value, Mapping) else value for key, value in codec.items()}


def _check_document(document: Mapping[str, Any]) -> None:
    if not isinstance(document, Mapping) or document.get("zarr_format") != 3 or document.get("node_type") != "array":
        raise FormatError("this is no metadata of a Zarr v3 array")
    missing = _REQUIRED - document.keys()
    if missing:
        raise FormatError(f"the metadata of a Zarr v3 array lacks {', '.join(sorted(missing))}")
    for key in document.keys() - _REQUIRED - _OPTIONAL - {"zarr_format", "node_type"}:
        value = document[key]
        if not (isinstance(value, Mapping) and value.get("must_understand") is False):
            raise FormatError(f"the metadata of a Zarr v3 array holds {key!r}, which has to be understood and isn't")
    if document.get("storage_transformers"):
        raise InvalidInputError("storage transformers can't be held")
    if not isinstance(document["shape"], Sequence) or isinstance(document["shape"], str):
        raise FormatError(f"{document['shape']!r} is no shape")


def _name(extension: Any) -> Any:
    return extension.get("name") if isinstance(extension, Mapping) else extension


def _configuration(extension: Any) -> Mapping[str, Any]:
    configuration = extension.get("configuration") if isinstance(extension, Mapping) else None
    if not isinstance(configuration, Mapping):
        raise FormatError(f"{extension!r} has no configuration")
    return configuration


def _extents(value: Any, ndim: int, what: str) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(type(extent) is int and 0 < extent < 2**62 for extent in value):
        raise InvalidInputError(f"{what} is a list of whole numbers above zero, not {value!r}")
    if len(value) != ndim:
        raise InvalidInputError(f"{what} {value} has {len(value)} entries for {ndim} dimensions")
    return tuple(value)


def _little_endian(chain: Any) -> Any:
    """The chain with a big-endian ``bytes`` made little-endian: the values are the same."""
    if not isinstance(chain, list | tuple):
        return chain
    return ["bytes" if _name(codec) == "bytes" else codec for codec in chain]


def group_document(attributes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The Zarr v3 document of a group, as zarr-python writes it."""
    return {"attributes": dict(attributes or {}), "zarr_format": 3, "node_type": "group"}


__all__ = ["ArrayMetadata", "check_name", "frozen", "group_document", "normalize_attribute"]
