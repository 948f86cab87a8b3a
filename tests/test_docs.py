"""The documents hold what they promise: their Python blocks run, and their links lead somewhere.

The blocks of one file run in order, in one namespace and in an empty folder. A block is left out when its
fence says so: ```` ```python no-run ````.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)|!\[[^\]]*\]\((?P<image>[^)\s]+)\)")


class Block(NamedTuple):
    """One block of Python in a document."""

    line: int  # of its first line of code, counted from 1
    code: str


def blocks(text: str) -> list[Block]:
    """The Python blocks of a document that are meant to be run."""
    found = []
    for match in FENCE.finditer(text):
        info = match["info"].split()
        if info[:1] in (["python"], ["py"]) and "no-run" not in info:
            indent = len(match["indent"])
            code = "".join(line[indent:] for line in match["body"].splitlines(keepends=True))
            found.append(Block(text.count("\n", 0, match.start("body")) + 1, code))
    return found


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_blocks_run(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = blocks(document.read_text(encoding="utf-8"))
    if not found:
        return
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    try:
        for block in found:
            # Empty lines before the code make a traceback's line numbers those of the document.
            exec(compile("\n" * (block.line - 1) + block.code, str(document), "exec"), namespace)
    finally:
        for value in namespace.values():
            if type(value).__name__ == "Store":
                value.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    for match in LINK.finditer(text):
        target = match["target"] or match["image"]
        if "://" not in target and not target.startswith(("#", "mailto:")):
            path = document.parent / target.partition("#")[0]
            assert path.exists(), f"{name(document)} links to {target}, which is not there"


def test_blocks_are_found_as_marked() -> None:
    python = "```python\na = 1\n```\n\n```python no-run\nb\n```\n\n"
    text = f"x\n{python}```sh\nc\n```\n1. item\n   ```python\n   d = 2\n   ```\n"
    assert blocks(text) == [Block(3, "a = 1\n"), Block(15, "d = 2\n")]
