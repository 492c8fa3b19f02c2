"""Journals: results of long work, kept as they come, so that work that was killed goes on where it stopped.

    journal.add(judged)     # in the file before anything else is done

A result that was added outlives a kill of this process, not a power cut, which may take what the system has not written
to the disk yet.

The first line says what the results come from, every other one holds a result, as JSON. Lines are appended whole. One
without its end was being written when the work was killed: it is dropped, and its result comes again. Any other line
that holds no result has been damaged by somebody else, and is refused.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from s0.errors import ConfigError, DatasetError
from s0.files import write_text

Row = TypeVar("Row")


class Journal(ABC, Generic[Row]):
    """Results in a file, one a line.

    A subclass says what a result is, and keeps those that are there for whoever looks one up.

    Attributes:
        path: of the file, which is made with the first line in it.
    """

    kind: type[Row]
    """A dataclass or struct."""
    what = "result"
    """How errors call one."""

    def __init__(self, path: Path, origin: Mapping[str, Any]) -> None:
        """Open a file of results, or make one.

        Args:
            path: of the file.
            origin: what its results come from.

        Raises:
            ConfigError: its results come from something else.
            DatasetError: a line of it is damaged.
        """
        self.path = path
        if not path.exists():
            write_text(path, json.dumps(origin) + "\n")
            return
        try:
            first, *lines = path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise DatasetError(f"expected UTF-8 text in {path}, got {error}; choose another --out") from error
        self._require_same(_object(first), origin)
        *whole, torn = lines or [""]
        for number, line in enumerate(whole, start=2):
            self._keep(self._row(line, number))
        if torn:
            write_text(path, "".join(f"{line}\n" for line in (first, *whole)))

    def add(self, rows: Sequence[Row]) -> None:
        """Append results."""
        lines = "".join(json.dumps(msgspec.to_builtins(row)) + "\n" for row in rows)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(lines)
        for row in rows:
            self._keep(row)

    @abstractmethod
    def _keep(self, row: Row) -> None:
        """Take in a result that is in the file."""

    def _require_same(self, known: Mapping[str, Any] | None, origin: Mapping[str, Any]) -> None:
        if known != origin:
            other = [key for key in {**origin, **(known or {})} if known is None or known.get(key) != origin.get(key)]
            raise ConfigError(
                f"expected the {self.what}s in {self.path} to come from the same model, task and settings, got other "
                f"{', '.join(other)}; choose another --out, or remove that file"
            )

    def _row(self, line: str, number: int) -> Row:
        value = _object(line)
        try:
            row: Row = msgspec.convert(value, self.kind)
            if msgspec.to_builtins(row) == value:  # nothing in it that is not its own
                return row
        except msgspec.ValidationError:
            pass
        raise DatasetError(
            f"expected {_article(self.what)} in line {number} of {self.path}, got {line[:60]!r}; remove the line, and "
            f"the {self.what} comes again"
        )


def origin_of(path: Path) -> dict[str, Any] | None:
    """What the results in a file come from; None where it is no file of results."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return _object(file.readline())
    except (OSError, UnicodeDecodeError):
        return None


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
