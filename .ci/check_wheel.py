"""Check the wheel: it holds what the tree holds and no more, and what it holds can be imported without the tree."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"txstore": "txstore", "txstore/index": "index", "txstore/compaction": "compaction"}

# Run in an empty folder by the interpreter of the development environment, which lends its dependencies.
# -I keeps the folder and PYTHONPATH out; the wheel's folder then goes before the editable install.
IMPORT_ALL = """
import importlib, importlib.resources, importlib.util, pkgutil, sys
target = sys.argv[1]
sys.path.insert(0, target)
import txstore
names = ["txstore", *(m.name for m in pkgutil.walk_packages(txstore.__path__, "txstore.")
                      if not m.name.endswith("__main__"))]
for name in names:
    module = importlib.import_module(name)
    assert module.__file__.startswith(target), f"{name} came from {module.__file__}"
for bare in ("index", "compaction", "tests", "benchmarks"):
    assert importlib.util.find_spec(bare) is None, f"a bare {bare!r} can be imported"
assert importlib.resources.files("txstore").joinpath("py.typed").is_file()
print(f"{len(names)} modules imported from the wheel")
"""


def expected() -> set[str]:
    """The files that the wheel should hold, beside its metadata."""
    names = {"txstore/py.typed"}
    for package, folder in ROOMS.items():
        names |= {f"{package}/{path.name}" for path in (ROOT / folder).glob("*.py")}
    # Packages below the rooms (migrations, say) go in whole.
    for package, folder in ROOMS.items():
        for path in (ROOT / folder).glob("*/**/*.py"):
            relative = PurePosixPath(path.relative_to(ROOT / folder).as_posix())
            if not (ROOT / folder / relative.parts[0]).is_symlink():
                names.add(f"{package}/{relative}")
    return names


def main(dist: str) -> int:
    """Check the only wheel in `dist`; the exit status."""
    (wheel,) = Path(dist).glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = [name for name in archive.namelist() if ".dist-info/" in name]
    missing, surplus = expected() - names, names - expected()
    if missing or surplus:
        print(f"{wheel.name}: missing {sorted(missing)}, surplus {sorted(surplus)}")
        return 1
    for wanted in ("entry_points.txt", "licenses/LICENSE"):
        if not any(name.endswith(wanted) for name in metadata):
            print(f"{wheel.name}: no {wanted} in its metadata")
            return 1
    with tempfile.TemporaryDirectory() as folder:
        target, elsewhere = Path(folder, "target"), Path(folder, "elsewhere")
        elsewhere.mkdir()
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
        subprocess.run(install, check=True)
        done = subprocess.run([sys.executable, "-I", "-W", "error", "-c", IMPORT_ALL, str(target)], cwd=elsewhere)
    print(f"{wheel.name}: {len(names)} files")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
