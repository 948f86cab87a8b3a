"""Opening stores for a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from txstore.store import Store

Mode = Literal["r", "r+", "a", "x"]


@contextmanager
def opened(root: str, mode: Mode, index: str | None = None) -> Iterator[Store]:
    """The store at ``root``, closed at the end of the block.

    Raises
    ------
    StoreNotFoundError
        Nothing is there, or something that is no store, and ``mode`` does not create.
    AlreadyExistsError
        ``mode`` creates, and what is there is in the way.
    """
    import txstore
    from txstore.errors import AlreadyExistsError, StoreNotFoundError

    options: dict[str, Any] = {} if index is None else {"index": index}
    try:
        store = txstore.open(root, mode=mode, **options)
    except AlreadyExistsError as error:
        if mode in ("a", "x"):
            raise
        # Who reads is told what is there, and not where a store could be made.
        raise StoreNotFoundError(str(error).removesuffix(": give an absent or empty directory")) from None
    with store:
        yield store


def node_path(path: str) -> str:
    """A path as typed at a shell, such as ``/era5/t2m/``, as the store names it."""
    return path.strip("/")


__all__ = ["Mode", "node_path", "opened"]
