"""Tasks in HumanEval's format: one JSON object per problem.

Keys: task_id, prompt, entry_point, canonical_solution, test; and optionally split ("train", "select" or "final", in
all rows or in none). Without it the first 64 of 164 rows are for training, the next 16 for selection, the last 84
final; files of another length are cut in the same proportions. Source of the format: Chen et al. 2021.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from s0.errors import DatasetError
from s0.tasks.base import Task
from s0.tasks.rows import problems_from_rows

HUB_ID = "openai/openai_humaneval"
_VERSION = "1"

_STOP = ["\nif __name__", "\nprint(", "\nassert ", "\ndef check(", "\nMETADATA", "\n>>> "]
"""No answer in any accepted form goes on after one of these.

The usual "\\ndef " and "\\nclass " are missing on purpose: a reply that begins with an import or a helper and then
repeats the whole function holds them, and "\\n#" and "\\nif " stand inside unindented bodies. Code after the function
costs tokens, not the verdict: the standard scoring drops it.
"""


def load_humaneval(data: Path | None) -> Task:
    """HumanEval from a local file, or from the Hugging Face hub where `data` is None.

    Raises:
        DatasetError: see `s0.tasks.load`.
    """
    if data is None:
        rows = list(_hub_rows())
        text = "".join(json.dumps(row, sort_keys=True) + "\n" for _, row in rows).encode()
        return _task("humaneval", text, rows, max_new_tokens=512)
    text = _read(data)
    return _task("humaneval", text, list(_json_rows(text, str(data))), max_new_tokens=512)


def load_pocket_code(data: Path | None) -> Task:
    """The small problems that ship with the package, for pocket models; or a file of the same format.

    Raises:
        DatasetError: see `s0.tasks.load`.
    """
    if data is None:
        name = "pocket_code.jsonl"
        try:
            text = resources.files("s0.tasks").joinpath("data", name).read_bytes()
        except FileNotFoundError:
            raise DatasetError(f"expected {name} within the package; got no such file; install s0 anew") from None
    else:
        name, text = str(data), _read(data)
    return _task("pocket-code", text, list(_json_rows(text, name)), max_new_tokens=128)


def _task(name: str, text: bytes, rows: list[tuple[str, object]], max_new_tokens: int) -> Task:
    problems = problems_from_rows(rows)
    return Task(name, _VERSION, problems, hashlib.sha256(text).hexdigest(), list(_STOP), max_new_tokens)


def _read(path: Path) -> bytes:
    """The file's bytes, decompressed where its name ends in .gz."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError:
        raise DatasetError(f"expected a .jsonl or .jsonl.gz file; got no file at {path}; correct the path") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"expected a readable file; got {path}: {error}; fetch the file again") from None


def _json_rows(text: bytes, name: str) -> Iterator[tuple[str, object]]:
    """(place, object) per line that is not blank."""
    for number, line in enumerate(text.split(b"\n"), start=1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            yield place, json.loads(line)
        except ValueError as error:  # bad UTF-8 as well
            raise DatasetError(f"{place}: expected one JSON object; got {error}; correct the line") from None


def _hub_rows() -> Iterator[tuple[str, object]]:
    advice = f"install `datasets` and go online once, or pass data=PATH to a .jsonl file of {HUB_ID}"
    try:
        import datasets
    except ImportError:
        raise DatasetError(f"expected the package `datasets`; got none; {advice}") from None
    try:
        table = datasets.load_dataset(HUB_ID, split="test")
    except Exception as error:  # offline, hub errors, changed layout: `datasets` has no common base class
        summary = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise DatasetError(f"expected {HUB_ID} from the Hugging Face hub; got {summary}; {advice}") from None
    for number, row in enumerate(table):
        yield f"{HUB_ID}, row {number}", dict(row)
