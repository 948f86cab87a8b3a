"""Which codec should be the default: sizes and speeds of candidates on chunks of 256 KiB, one thread.

``python -m benchmarks.default_codec`` prints the table of docs/decisions/0002-default-codec.md. Needs matplotlib.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import plane
from txstore.codecs import TileCodec, resolve_codecs

Values = NDArray[Any]


def blosc(cname: str, clevel: int, shuffle: str) -> dict[str, Any]:
    return {"name": "blosc", "configuration": {"cname": cname, "clevel": clevel, "shuffle": shuffle}}


CANDIDATES: dict[str, Any] = {
    "gzip 5": "gzip",
    "zstd 0 (zarr)": "zstd",
    "blosc zstd 5 byte": blosc("zstd", 5, "shuffle"),
    "blosc zstd 1 byte": blosc("zstd", 1, "shuffle"),
    "blosc lz4 5 bit": blosc("lz4", 5, "bitshuffle"),
    "blosc lz4 5 byte": blosc("lz4", 5, "shuffle"),
    "**auto**": "auto",
}


def data() -> dict[str, Values]:
    import matplotlib

    rng = np.random.default_rng(0)
    path = Path(matplotlib.get_data_path()) / "sample_data" / "jacksboro_fault_dem.npz"
    with np.load(path) as loaded:
        dem = np.tile(loaded["elevation"], (1, 2))[:256, :512]
    y, x = np.mgrid[:512, :512] / 512
    waves = np.zeros((512, 512))
    for k in range(1, 9):
        a, b, p, q = rng.normal(size=4)
        waves += np.sin(2 * np.pi * (k * x * a + p)) * np.cos(2 * np.pi * (k * y * b + q)) / k
    field = 288 + 15 * waves[:256, :256]
    noise = rng.normal(size=(512, 512))
    measured = field + 0.1 * noise[:256, :256]
    land, rain = field > np.quantile(field, 0.5), field > np.quantile(field, 0.8)
    return {
        "elevation f4": dem[:, :256].astype("f4"),
        "elevation i2": dem.astype("i2"),
        "field f4": measured.astype("f4"),
        "field f4, steps of 1/64": plane((256, 256), 0),
        "field f8": measured[:128],
        "field f4, half NaN": np.where(land, measured, np.nan).astype("f4"),
        "rain f4, mostly 0": np.where(rain, np.round(np.abs(noise[:256, :256]), 1), 0).astype("f4"),
        "image i2": (4 * dem + 12 * noise[:256]).astype("i2"),
        "image u1": np.clip(128 + 40 * waves + 4 * noise, 0, 255).astype("u1"),
        "mask bool": waves > np.median(waves),
        "labels i4": rng.integers(0, 5000, (16, 16)).repeat(16, 0).repeat(16, 1).astype("i4"),
        "times M8[ns]": np.arange(32768).astype("M8[h]").astype("M8[ns]"),
        "random i8 < 1000": rng.integers(0, 1000, 32768),
        "random u4": rng.integers(0, 2**32, 65536, dtype="u4"),
    }


def best(call: Callable[[], object]) -> float:
    """Seconds of the fastest call in a tenth of a second: what the codec takes, not what the machine does besides."""
    fastest, end = float("inf"), time.perf_counter() + 0.1
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def main() -> None:
    print("| ratio, encode / decode MB/s | " + " | ".join(CANDIDATES) + " |")
    print("|---" * (len(CANDIDATES) + 1) + "|")
    totals = {name: np.zeros(4) for name in CANDIDATES}
    for title, values in data().items():
        row = []
        for name, codecs in CANDIDATES.items():
            codec = TileCodec(values.dtype, resolve_codecs(codecs, values.dtype))
            encoded, out = codec.encode(values), np.empty_like(values)
            codec.decode(encoded, values.shape, out)
            assert out.tobytes() == values.tobytes()
            seconds = [
                best(lambda codec=codec, values=values: codec.encode(values)),  # type: ignore[misc]
                best(lambda codec=codec, data=encoded, out=out: codec.decode(data, out.shape, out)),  # type: ignore[misc]
            ]
            totals[name] += (values.nbytes, len(encoded), *seconds)
            speeds = [values.nbytes / each / 1e6 for each in seconds]
            row.append(f"{values.nbytes / len(encoded):.2f}, {speeds[0]:,.0f} / {speeds[1]:,.0f}")
        print(f"| {title} | " + " | ".join(row) + " |", flush=True)
    sums = [
        f"{plain / small:.2f}, {plain / encode / 1e6:,.0f} / {plain / decode / 1e6:,.0f}"
        for plain, small, encode, decode in totals.values()
    ]
    print("| **all together** | " + " | ".join(sums) + " |")


if __name__ == "__main__":
    main()
