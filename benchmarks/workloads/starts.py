"""What a new process waits for: a script that reads one box, a command, a worker of a pool."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import zlib
from pathlib import Path

from benchmarks.data import Box, painted
from benchmarks.measure import disk
from benchmarks.systems import Codec, System
from benchmarks.workloads.boxes import box_pieces, plane_shape, write_boxes
from benchmarks.workloads.registry import Figures, Size, check, prepare, workload

BOX: Box = (slice(500, 564), slice(500, 564))

# Every load of a module goes through this function of the interpreter, be it asked for by `import` or otherwise and
# whenever it is. Only the outermost is counted, for a module's imports are part of its own.
SCRIPT = """
import sys, time
loader = sys.modules["_frozen_importlib"]
load, clock, depth, loading = loader._find_and_load, time.perf_counter, 0, 0.0

def find_and_load(*arguments):
    global depth, loading
    depth += 1
    begin = clock()
    try:
        return load(*arguments)
    finally:
        depth -= 1
        if not depth:
            loading += clock() - begin

loader._find_and_load = find_and_load
root, box = sys.argv[1], {box!r}
begin = clock()
{start}
total = clock() - begin
loader._find_and_load = load

import json, zlib
peak_kB = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")]
print(json.dumps([total, loading, zlib.crc32(values.tobytes()), int(peak_kB[0])]))
"""


@workload(
    title="a new process: import, open after 1,000 commits, read one box; and the same without the time of imports",
    goal="ahead of zarr and Icechunk; without the imports ≤ 15 ms",
    compared={"total_ms": "less", "without_imports_ms": "less"},
)
def new_process(system: System, codec: Codec, size: Size) -> Figures:
    count, rounds = (1_000, 9) if size == "full" else (12, 1)
    prepare(system, write_boxes, codec, size, count)
    system.open()
    model = painted(plane_shape(size), box_pieces(size, count))[BOX]
    check(system.read("a", BOX), model, "the box")
    system.close()
    script = SCRIPT.format(box=BOX, start=system.start)
    # Byte code is kept, as with a package that is installed; a checkout is compiled by the first round.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    root = Path(__file__).resolve().parent.parent.parent
    starts = []
    for _ in range(rounds + 1):  # the first one compiles and is not counted
        command = [sys.executable, "-c", script, str(system.root)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(done.stderr)
        total, loading, crc, peak_kB = json.loads(done.stdout.splitlines()[-1])
        if crc != zlib.crc32(model.tobytes()):
            raise AssertionError("the new process has read something else")
        starts.append((total * 1e3, (total - loading) * 1e3, peak_kB / 1e3))
    total_ms, without_imports_ms, peak_MB = map(statistics.median, zip(*starts[1:], strict=True))
    return {
        "total_ms": total_ms,
        "without_imports_ms": without_imports_ms,
        "rise_MB": peak_MB,  # a new process has risen from nothing
        **disk(system.root),
    }
