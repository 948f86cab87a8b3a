"""CRC32C, the checksum of everything that is stored as bytes."""

from __future__ import annotations

from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray


def octets(data: Any) -> bytes | NDArray[np.uint8]:
    """The bytes of a buffer or array in C order, copied only where they do not lie so."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, np.ndarray):
        # Through a view, because arrays of times export no buffer.
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return np.frombuffer(data, np.uint8)


def crc32c(data: Any) -> int:
    """The CRC32C (Castagnoli) of a buffer or array."""
    # The library takes bytes and arrays, but no other buffers.
    checksum: int = google_crc32c.value(octets(data))
    return checksum


__all__ = ["crc32c", "octets"]
