"""What zstd data say of themselves, without decoding them (RFC 8878, 3.1.1)."""

from __future__ import annotations

from typing import Any

from txstore.errors import CorruptionError


def content_size(data: Any) -> int | None:
    """What the first frame declares as its decoded size; None when it does not.

    Raises
    ------
    CorruptionError
        If the data do not begin with the header of a frame.
    """
    return _header(data)[0]


def total_size(data: Any) -> int:
    """What all frames declare together; -1 where one does not.

    Raises
    ------
    CorruptionError
        If the data are not whole frames back to back.
    """
    view = memoryview(data).cast("B")
    total = 0
    while view:
        declared, at = _header(view)
        if declared is None:
            return -1
        total += declared
        checksum = 4 * (view[4] >> 2 & 1)
        last = False
        while not last:  # its blocks (3.1.1.2)
            block = int.from_bytes(view[at : at + 3], "little")
            last = bool(block & 1)
            at += 3 + (1 if block >> 1 & 3 == 1 else block >> 3)
            if at > len(view):
                raise CorruptionError("a zstd frame ends in a block")
        view = view[at + checksum :]
    return total


def _header(data: Any) -> tuple[int | None, int]:
    """What the first frame declares, and the length of its header (3.1.1.1)."""
    head = bytes(memoryview(data)[:18])
    if head[:4] != b"\x28\xb5\x2f\xfd" or len(head) < 6:
        raise CorruptionError("no zstd frame")
    descriptor = head[4]
    single_segment = descriptor >> 5 & 1
    width = (single_segment, 2, 4, 8)[descriptor >> 6]
    start = 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if len(head) < start + width:
        raise CorruptionError("a zstd frame ends in its header")
    if not width:
        return None, start
    return int.from_bytes(head[start : start + width], "little") + (256 if width == 2 else 0), start + width


__all__ = ["content_size", "total_size"]
