"""Modules that are imported when something of them is first used."""

from __future__ import annotations

import importlib
from typing import Any


class LazyModule:
    """Stands for a module; the first look at an attribute imports it.

    Parameters
    ----------
    name : str
        The module's full name.

    Notes
    -----
    Safe for threads, as imports are. ``importlib.util.LazyLoader`` is not, before Python 3.13.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(importlib.import_module(self._name), attribute)
        # The next look finds it without coming here.
        setattr(self, attribute, value)
        return value


__all__ = ["LazyModule"]
