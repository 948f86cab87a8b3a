"""The tree as a whole: what is packaged, what the links show, and that imports run down only."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"txstore": ROOT / "txstore", "txstore.index": ROOT / "index", "txstore.compaction": ROOT / "compaction"}

#: Past 300 lines one looks for the second noun of a module; past this it has been there for a while.
MOST_LINES = 400
#: Modules that may be longer, each with its reason.
LONGER: dict[str, str] = {
    "txstore.store": "the public API of a store, which is mostly docstrings; each method hands over in a line or two",
}

#: From the ground up; a module imports from its own layer (without cycles) and from those below. The name of a
#: package stands for everything in it.
LAYERS: tuple[tuple[str, ...], ...] = (
    # What everything may use.
    ("txstore.errors", "txstore.boxes", "txstore.identity", "txstore.interrupts", "txstore.lazy"),
    # Arithmetic, names and values: pure.
    (
        "txstore.spans",
        "txstore.tilegrid",
        "txstore.chunking",
        "txstore.grid",
        "txstore.pieces",
        "txstore.points",
        "txstore.orthogonal",
        "txstore.indexarrays",
        "txstore.axisindex",
        "txstore.selection",
        "txstore.names",
        "txstore.jsonvalues",
        "txstore.casting",
        "txstore.fills",
        "txstore.dtypes",
        "txstore.zstdframe",
        "txstore.stages",
        "txstore.codecspecs",
        "txstore.codecs",
        "txstore.metadata",
        "txstore.checksum",
    ),
    # Files, locks and stored bytes.
    (
        "txstore.failures",
        "txstore.filesystems",
        "txstore.folders",
        "txstore.descriptors",
        "txstore.scratch",
        "txstore.crew",
        "txstore.openfiles",
        "txstore.sink",
        "txstore.storage",
        "txstore.waiting",
        "txstore.locks",
        "txstore.lifesigns",
        "txstore.holder",
        "txstore.requests",
    ),
    # Segments, and fragments in them.
    (
        "txstore.shardindex",
        "txstore.segmentheader",
        "txstore.segment",
        "txstore.column",
        "txstore.directory",
        "txstore.fragment",
        "txstore.shapelog",
        "txstore.chunkindex",
        "txstore.tables",
        "txstore.staging",
    ),
    ("txstore.index",),
    # What users hold.
    (
        "txstore.source",
        "txstore.states",
        "txstore.core",
        "txstore.commits",
        "txstore.nodes",
        "txstore.layers",
        "txstore.storedarray",
        "txstore.composer",
        "txstore.reader",
        "txstore.writer",
        "txstore.stagedsegments",
        "txstore.stagedarray",
        "txstore.stagedtree",
        "txstore.tree",
        "txstore.attributes",
        "txstore.creating",
        "txstore.creation",
        "txstore.array",
        "txstore.group",
        "txstore.snapshot",
        "txstore.transaction",
    ),
    ("txstore.store",),
    ("txstore.compaction",),
    ("txstore",),  # __init__.py: the public names
    ("txstore.cli", "txstore.__main__"),
)

#: (module, imported): upward, and therefore inside a function, where it costs nothing until it is called, or for types.
LAZY_UPWARD = {
    ("txstore.store", "txstore.compaction"): "store.compact(), export() and their like are run by compaction",
}

#: Too slow to import for what does not need them; only inside functions.
#: (`import txstore` and opening a store must not pay for reading Zarr, drawing or serving metrics.)
HEAVY = ("zarr", "matplotlib", "fsspec", "alembic", "rich", "typer", "prometheus_client", "platformdirs")
#: Where they belong to the trade: nothing else imports these modules but from inside a function.
AT_HOME = ("txstore.cli", "txstore.index.migrations")


class Import(NamedTuple):
    """One import of one module by another."""

    importer: str
    imported: str
    line: int
    lazy: bool  # inside a function
    typing_only: bool  # under `if TYPE_CHECKING:`

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}: {self.imported}"


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name, found through the rooms and not through the links."""
    found = {}
    for package, folder in ROOMS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if (folder / parts[0]).is_symlink():
                continue
            found[".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


MODULES = modules()


def imports_of(name: str, path: Path) -> Iterator[Import]:
    """Every import in a module, ours and others', with `from package import submodule` resolved."""

    def visit(node: ast.AST, lazy: bool, typing_only: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, node.lineno, lazy, typing_only)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                full = f"{module}.{alias.name}"
                yield Import(name, full if full in MODULES else module, node.lineno, lazy, typing_only)
        lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        guard = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in ast.iter_child_nodes(node):
            yield from visit(child, lazy, typing_only or guard)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), False, False)


#: Each once, however many names it brings.
IMPORTS = list(dict.fromkeys(found for name, path in MODULES.items() for found in imports_of(name, path)))
OURS = [found for found in IMPORTS if found.imported.split(".")[0] == "txstore"]


def within(name: str, package: str) -> bool:
    """Whether `name` is the module or package `package` or lies in it; the root package stands for itself only."""
    return name == package or (package != "txstore" and name.startswith(package + "."))


def layer(name: str) -> int:
    """The number of a module's layer, the lowest being 0."""
    for number, members in enumerate(LAYERS):
        if any(within(name, member) for member in members):
            return number
    raise AssertionError(f"{name} is in no layer: give it its place in LAYERS")


def project() -> dict[str, Any]:
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)


# -- packaging ------------------------------------------------------------------------------------


def test_every_package_is_listed() -> None:
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert packages == set(project()["tool"]["setuptools"]["packages"])


def test_no_module_lies_outside_of_a_package() -> None:
    # A folder without __init__.py would be left out of the wheel, and nobody would be told.
    for name, path in MODULES.items():
        assert (path.parent / "__init__.py").exists(), f"{name} lies in a folder without __init__.py"


def test_every_room_is_mapped_to_its_folder() -> None:
    mapped = project()["tool"]["setuptools"]["package-dir"]
    assert {name: ROOT / folder for name, folder in mapped.items()} == ROOMS


@pytest.mark.parametrize("room", ["index", "compaction"])
def test_links_show_the_rooms(room: str) -> None:
    link = ROOT / "txstore" / room
    assert link.is_symlink(), "the checkout has no symlinks (on Windows: git config core.symlinks true)"
    assert link.readlink() == Path("..") / room
    assert link.resolve() == ROOT / room


def test_package_is_typed() -> None:
    assert (ROOT / "txstore" / "py.typed").is_file()
    assert "py.typed" in project()["tool"]["setuptools"]["package-data"]["txstore"]


def test_version_is_said_once() -> None:
    """``txstore.__version__`` is the one of pyproject.toml, which the changelog knows."""
    import txstore

    assert txstore.__version__ == project()["project"]["version"]


# -- modules --------------------------------------------------------------------------------------


def test_modules_are_named_after_a_thing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [name for name in MODULES if name.rpartition(".")[2] in vague]


@pytest.mark.parametrize("name", MODULES)
def test_module_holds_one_thing(name: str) -> None:
    lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    if name in LONGER:
        assert lines > MOST_LINES, f"{name} is no longer long: take it off the list"
    else:
        assert lines <= MOST_LINES, f"{name} has {lines} lines: look for its second noun"


@pytest.mark.parametrize("name", MODULES)
def test_module_says_what_it_is(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    if tree.body:
        assert ast.get_docstring(tree), f"{name} has no docstring"


# -- imports --------------------------------------------------------------------------------------


def test_every_layer_is_there() -> None:
    """A name in LAYERS that no module has is a leftover of a renaming."""
    for member in (member for members in LAYERS for member in members):
        assert any(within(name, member) for name in MODULES), f"LAYERS names {member}, which is not there"


def test_imports_are_absolute() -> None:
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{name}, line {node.lineno}: relative import"


def test_rooms_are_imported_by_their_full_name() -> None:
    assert not [str(found) for found in IMPORTS if found.imported.split(".")[0] in ("index", "compaction")]


def test_imported_modules_are_there() -> None:
    assert not [str(found) for found in OURS if found.imported not in MODULES]


def listed(found: Import) -> bool:
    """Whether an upward import is one of those allowed by name."""
    return (found.lazy or found.typing_only) and any(
        found.importer == importer and within(found.imported, imported) for importer, imported in LAZY_UPWARD
    )


def test_imports_run_down() -> None:
    upward = [
        str(found)
        for found in OURS
        if found.imported in MODULES and layer(found.imported) > layer(found.importer) and not listed(found)
    ]
    assert not upward, "imports that run up:\n" + "\n".join(upward)


def test_imports_have_no_cycles() -> None:
    """Within a layer too, and with those inside of functions, which only hide a cycle."""
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for found in OURS:
        # A package's __init__ does not depend on a module that says `from package import module` of its sibling.
        if found.imported != found.importer and not found.typing_only and not listed(found):
            graph[found.importer].add(found.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("imports in a circle: " + " -> ".join(error.args[1]))


def test_lazy_exceptions_are_used() -> None:
    for (importer, imported), reason in LAZY_UPWARD.items():
        used = [f for f in OURS if f.importer == importer and within(f.imported, imported) and f.lazy]
        assert used, f"{importer} imports {imported} no longer ({reason}): take it off the list"


def test_slow_libraries_are_imported_where_they_are_needed() -> None:
    early = [
        str(found)
        for found in IMPORTS
        if found.imported.split(".")[0] in HEAVY
        and not (found.lazy or found.typing_only)
        and not any(within(found.importer, home) for home in AT_HOME)
    ]
    assert not early, "imported by whoever imports txstore:\n" + "\n".join(early)


def test_importing_txstore_loads_no_slow_library() -> None:
    """What the sources say, seen from outside: third parties could load one another."""
    code = "import sys, txstore; txstore.open; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(HEAVY) & set(done.stdout.split())


def test_nothing_stored_is_executed() -> None:
    """Handles are pickled by their callers; we read no pickle, no marshal and no expression."""
    banned = ("pickle", "marshal", "shelve", "dill", "cloudpickle")
    assert not [str(found) for found in IMPORTS if found.imported.split(".")[0] in banned]
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), f"{name}, line {node.lineno}: {node.func.id}"
