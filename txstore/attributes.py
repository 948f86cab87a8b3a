"""The attributes of an array or a group: a mapping of text to JSON values."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from typing import Any

from txstore.errors import CorruptionError, InvalidInputError, NotFoundError
from txstore.jsonvalues import frozen, normalize_attribute
from txstore.names import shown
from txstore.tree import Tree


class Attributes(MutableMapping[str, Any]):
    """The attributes of one node.

    Values are read as deeply immutable; NumPy scalars and arrays are taken by ``tolist()`` when written.

    Raises
    ------
    ReadOnlyError
        When written through a snapshot.
    InvalidInputError
        When a value can't be held by strict JSON; the message names the key.

    Notes
    -----
    Two transactions conflict when they set or delete the same key. Safe for threads.
    """

    def __init__(self, tree: Tree, node: int, path: str) -> None:
        self._tree = tree
        self._node = node
        self._path = path

    def __getitem__(self, key: str) -> Any:
        text = self._tree.attribute_text(self._node, key) if isinstance(key, str) else None
        if text is None:
            raise NotFoundError(f"{self._path or '/'!r} has no attribute {shown(key)}")
        return self._value(key, text)

    def _value(self, key: str, text: str) -> Any:
        try:
            return frozen(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise CorruptionError(f"attribute {shown(key)} of {self._path or '/'!r} is no JSON: {error}") from error

    def __setitem__(self, key: str, value: Any) -> None:
        writer = self._tree.writer(f"attribute {shown(key)} of {self._path or '/'!r}")
        if not isinstance(key, str):
            raise InvalidInputError(f"an attribute key must be a str, not {type(key).__name__} {shown(key)}")
        normal = normalize_attribute(key, value)
        writer.set_attribute(self._node, self._path, key, json.dumps(normal, allow_nan=False, ensure_ascii=False))

    def __delitem__(self, key: str) -> None:
        writer = self._tree.writer(f"attribute {shown(key)} of {self._path or '/'!r}")
        if key not in self:
            raise NotFoundError(f"{self._path or '/'!r} has no attribute {shown(key)}")
        writer.set_attribute(self._node, self._path, key, None)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._tree.attribute_text(self._node, key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._tree.attribute_texts(self._node))

    def __len__(self) -> int:
        return len(self._tree.attribute_texts(self._node))

    def asdict(self) -> dict[str, Any]:
        """All attributes as a plain dict of plain JSON values, a copy."""
        return {key: json.loads(text) for key, text in self._tree.attribute_texts(self._node).items()}

    def __repr__(self) -> str:
        return f"Attributes({self.asdict()!r})"
