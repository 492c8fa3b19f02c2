"""Packages beside the standard library that a program may import: each by its name, from a folder of its own.

What lies next to that folder is not on the way of any import.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType

_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""What libraries of linear algebra ask before they start threads, which no program may."""


def allow(packages: dict[str, str]) -> None:
    """Let imports find packages, by name, in the folders that are theirs."""
    sys.meta_path.append(_Finder(packages))


class _Finder:
    def __init__(self, packages: dict[str, str]) -> None:
        self._packages = packages

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        folder = self._packages.get(name)
        if folder is None:
            return None
        os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
        return spec_from_file_location(name, f"{folder}/__init__.py", submodule_search_locations=[folder])
