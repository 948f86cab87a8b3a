"""docs/impl.md names modules; those that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Names that look like modules and are functions of them.
FUNCTIONS = {"txstore.open", "txstore.index.commit.commit"}


def test_modules_that_are_named_are_there() -> None:
    text = (ROOT / "docs" / "impl.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(txstore(?:\.\w+)+)`", text)) - FUNCTIONS
    assert len(named) > 50
    missing = [
        name
        for name in sorted(named)
        if not (path := ROOT.joinpath(*name.split("."))).is_dir() and not path.with_suffix(".py").is_file()
    ]
    assert not missing
