"""Where problems come from: local files and the Hugging Face hub, checked before anything is run."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from s0.errors import DatasetError
from s0.examples import is_text
from s0.tasks.problem import SPLITS, Problem

_TRAIN_SHARE, _SELECT_SHARE = 64 / 164, 16 / 164
_PART_SIZES = {"train": 200, "select": 50}

_Row = TypeVar("_Row")


@dataclass(frozen=True)
class Hub:
    """A table on the Hugging Face hub.

    Attributes:
        id: "owner/name".
        split: of the table, in its owner's words.
        n_rows: what a complete table has.
        config: the subset, where there are several.
    """

    id: str
    split: str
    n_rows: int
    config: str | None = None

    def __str__(self) -> str:
        return ", ".join(part for part in (self.id, self.config, self.split) if part)


@dataclass(frozen=True)
class Table:
    """Rows as read.

    Attributes:
        content: the bytes that `data_sha256` is taken of: of a file the decompressed ones, of a table of the hub one
            JSON object with sorted keys per line.
        rows: (place, parsed value) in order; the place is what an error names.
    """

    content: bytes
    rows: list[tuple[str, object]]


def read(data: Path | None, hub: Hub) -> Table:
    """The rows of a `.jsonl` or `.jsonl.gz` file, or of the hub where there is none.

    Raises:
        DatasetError: they cannot be had or read, there are none, or the hub's table has another length.
    """
    return read_hub(hub) if data is None else read_file(data)


def read_file(path: Path) -> Table:
    """See `read`."""
    return read_lines(_decompressed(path), str(path))


def read_parts(data: Path | None, train: Sequence[Hub], test: Hub) -> tuple[Table | None, Table]:
    """The training and the test table: of the hub (where the first may be several, joined), of a folder, or one file.

    A folder holds `train.jsonl` and `test.jsonl`, either may be compressed (`.jsonl.gz`). Of one file the training
    table is None.

    Raises:
        DatasetError: see `read`.
    """
    if data is None:
        tables = [read_hub(hub) for hub in train]
        rows = [row for table in tables for row in table.rows]
        return Table(b"".join(table.content for table in tables), rows), read_hub(test)
    if not data.is_dir():
        return None, read_file(data)
    return _part(data, "train"), _part(data, "test")


def _part(folder: Path, name: str) -> Table:
    packed = folder / f"{name}.jsonl.gz"
    return read_file(packed if packed.is_file() else folder / f"{name}.jsonl")


def read_lines(content: bytes, name: str) -> Table:
    """One JSON value per line that is not blank, or one JSON array of them, with or without a BOM; see `read`."""
    text = content.removeprefix(codecs.BOM_UTF8)
    rows = list(_json_array(text, name) if text.lstrip()[:1] == b"[" else _json_lines(text, name))
    if not rows:
        raise DatasetError(f"expected at least one problem; got an empty file, {name}; check the path")
    return Table(content, rows)


def read_hub(hub: Hub) -> Table:
    """See `read`."""
    advice = f"go online once, or pass `data=PATH` to a .jsonl file of {hub.id}"
    try:
        import datasets
    except ImportError:
        raise DatasetError(
            f"expected the package `datasets` to fetch {hub.id}; got none; install it (pip install '.[data]' in the "
            f"checkout) and {advice}"
        ) from None
    try:
        rows = [dict(row) for row in datasets.load_dataset(hub.id, hub.config, split=hub.split)]
    except Exception as error:  # offline, hub errors, changed layout: `datasets` has no common base class
        summary = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise DatasetError(f"expected {hub} from the Hugging Face hub; got {summary}; {advice}") from None
    if len(rows) != hub.n_rows:
        raise DatasetError(f"expected {hub.n_rows} rows in {hub}; got {len(rows)}; {advice}")
    content = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode()
    return Table(content, [(f"{hub}, row {number}", row) for number, row in enumerate(rows)])


def sha256_of(*tables: Table) -> str:
    """SHA-256, hexadecimal, of what the tables were read from, one after the other."""
    return hashlib.sha256(b"".join(table.content for table in tables)).hexdigest()


def mapping(place: str, row: object) -> dict[str, Any]:
    """The row, a JSON object.

    Raises:
        DatasetError: it is none.
    """
    if not isinstance(row, dict):
        raise DatasetError(f"{place}: expected a JSON object; got {type(row).__name__}; one problem per line")
    if not is_text(json.dumps(row, ensure_ascii=False, default=str)):
        raise DatasetError(f"{place}: expected whole characters; got half of one, \\ud800 or the like; correct the row")
    return row


def field(place: str, row: dict[str, Any], key: str, kind: type[_Row], what: str) -> _Row:
    """The value of a key, of exactly this type.

    Args:
        place: of the row.
        row: as read.
        key: that it must have.
        kind: the value's type.
        what: the format that the file should have, for the error.

    Raises:
        DatasetError: no such key, or a value of another type.
    """
    if key not in row:
        got = ", ".join(map(str, row)) or "none"
        raise DatasetError(f"{place}: expected the key {key!r}; got {got}; convert the file to {what}'s format")
    value = row[key]
    if type(value) is not kind:
        wanted = {str: "a string", list: "a list", int: "a whole number"}[kind]
        raise DatasetError(f"{place}: expected {key!r} to be {wanted}; got {type(value).__name__}; correct the row")
    return value


def splits_of(rows: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """The split of every row: what the key `split` says; else the first 64/164 for training, the next 16/164 to select.

    Raises:
        DatasetError: some rows name a split and some do not, or it is none of `SPLITS`.
    """
    named = [row.get("split") for _, row in rows]
    if all(name is None for name in named):
        train = round(len(rows) * _TRAIN_SHARE)
        select = round(len(rows) * _SELECT_SHARE)
        return ["train"] * train + ["select"] * select + ["final"] * (len(rows) - train - select)
    for (place, _), name in zip(rows, named, strict=True):
        if not isinstance(name, (str, type(None))):
            raise DatasetError(f"{place}: expected 'split' to be a string; got {type(name).__name__}; correct the row")
        if name not in SPLITS:
            raise DatasetError(
                f"{place}: expected 'split' to be one of {', '.join(SPLITS)} in every row, or in none; got {name!r}; "
                "correct the row"
            )
    return [name for name in named if name is not None]


def learning_parts(rows: Sequence[_Row], text: Callable[[_Row], str]) -> list[tuple[_Row, str]]:
    """The rows of a large training table that are used, with their splits: 200 to train, the next 50 to select.

    They are those whose texts have the smallest SHA-256 (white space folded), so the choice neither depends on the
    order of the file nor leans to its beginning. A table of fewer than 250 rows is cut at four fifths.
    """
    ordered = sorted(rows, key=lambda row: hashlib.sha256(folded(text(row)).encode()).hexdigest())
    total = sum(_PART_SIZES.values())
    train = min(_PART_SIZES["train"], len(rows) * _PART_SIZES["train"] // total)
    return [(row, "train" if number < train else "select") for number, row in enumerate(ordered[:total])]


def refuse_duplicates(problems: Sequence[Problem], places: Sequence[str], id_key: str, prompt_key: str) -> None:
    """Two rows that are one problem could stand in two splits. Prompts are compared with white space folded.

    Raises:
        DatasetError: names both places.
    """
    for key, values in (
        (id_key, [problem.id for problem in problems]),
        (prompt_key, [folded(problem.prompt) for problem in problems]),
    ):
        first: dict[str, str] = {}
        for value, place in zip(values, places, strict=True):
            if value in first:
                raise DatasetError(
                    f"expected every {key!r} once; got the same in {first[value]} and {place}; remove one of the rows"
                )
            first[value] = place


def folded(text: str) -> str:
    """The text with every stretch of white space as one blank."""
    return " ".join(text.split())


def _decompressed(path: Path) -> bytes:
    """The file's bytes, decompressed where its name ends in .gz."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError:
        raise DatasetError(f"expected a .jsonl or .jsonl.gz file; got no file at {path}; correct the path") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"expected a readable file; got {path}: {error}; fetch the file again") from None


def _json_lines(content: bytes, name: str) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            yield place, json.loads(line)
        except (ValueError, RecursionError) as error:  # bad UTF-8 as well
            raise DatasetError(f"{place}: expected one JSON object; got {error}; correct the line") from None


def _json_array(content: bytes, name: str) -> Iterator[tuple[str, object]]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{name}: expected one JSON array; got {error}; correct the file") from None
    for number, value in enumerate(values):
        yield f"{name}, row {number}", value
