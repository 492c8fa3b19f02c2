"""Where commands write: looked at before the work begins, and locked while it lasts.

A result takes the place of nothing but an earlier result of the same command, and only with --overwrite; never of an
input, and never of anything this command could not have written itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from s0.adapter import state_files
from s0.adapter.card import CARD_FILE
from s0.bench.answers import answers_file, holds_answers
from s0.bench.collection import is_journal
from s0.errors import ConfigError
from s0.files import locked, remove_leftovers
from s0.report.marks import is_report
from s0.study import SETTINGS_FILE
from s0.study import report_files as study_report
from s0_cli.processes import is_speaker

_RECORD, _PAGE, _PLOTS = "record.json", "report.html", "plots"
_ANSWERS = answers_file(_RECORD).name
_COLLECTED = ("train.jsonl", "train.samples.jsonl", "select.jsonl", "select.samples.jsonl")
_ADAPTER_FILES = {state_files.CONFIG_FILE, state_files.STATE_FILE, CARD_FILE, state_files.TRAINING_FILE}
_ROUNDS_FILES = {"answers.jsonl", "rounds.json"}
_DEMO_FILES = {SETTINGS_FILE, *_COLLECTED, _RECORD, _ANSWERS, _PAGE, _PLOTS}


@dataclass(frozen=True)
class Result:
    """What a command leaves in a folder.

    Attributes:
        what: in a word or two.
        matches: whether a folder, of which the names that are to be seen are given, holds one, and nothing that the
            command did not write.
    """

    what: str
    matches: Callable[[Path, Collection[str]], bool]


@contextmanager
def claimed(
    out: Path, inputs: Iterable[str | Path | None], look: Callable[[], None], *, beside: Collection[Path] = ()
) -> Iterator[None]:
    """Within this context nobody else of this package writes `out`; before, it is seen that this command can and may.

    Args:
        out: what --out names.
        inputs: what the command reads: models, states, files; None for what was not given.
        look: raises where something is in the place that may not be replaced.
        beside: what else is written.

    Raises:
        ConfigError: it may not: the place is taken.
        OSError: it cannot: a full disk, a missing permission, another process.
    """
    require_name(out)
    for source in inputs:
        if source is not None and any(_same(target, Path(source)) for target in (out, *beside)):
            raise ConfigError(
                f"expected --out to be none of what this command reads, got {out} beside {source}; choose another name"
            )
    look()
    with ExitStack() as locks:
        for place in (out, *beside) if is_speaker() else ():
            locks.enter_context(locked(place))
        look()  # once more: another process may have written it before it was locked
        if is_speaker():
            for place in (out, *beside):
                remove_leftovers(place)
        if out.is_dir():
            with TemporaryFile(dir=out):
                pass  # the folder around it can be written, but can it?
        yield


def require_name(out: Path) -> None:
    """Refuse a path that names nothing new."""
    if out.name in ("", ".."):
        raise ConfigError(f"expected --out to name a new file or folder, got {str(out)!r}; give it a name")


def require_free_folder(out: Path, result: Result, overwrite: bool) -> None:
    """Refuse a folder that holds anything but, with `overwrite`, an earlier result."""
    if not out.is_dir():
        if os.path.lexists(out):
            raise ConfigError(f"expected --out to be a folder, got the file {out}; choose another name")
        return
    names = _seen(out)
    if not names:
        return
    if not result.matches(out, names):
        raise ConfigError(
            f"expected --out to be a new or empty folder, got {out} with {_listed(names)}, which this command has not "
            "written and never replaces; choose another name, or one inside it"
        )
    if not overwrite:
        raise taken_error(out, result.what)


def _seen(folder: Path) -> list[str]:
    """The names in a folder, without those that are hidden."""
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))


def taken_error(out: Path, what: str) -> ConfigError:
    """The error where an earlier result is in the place of a new one."""
    return ConfigError(
        f"expected a new --out, got {out}, which holds {what}; choose another name, or add --overwrite to replace it"
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return path.resolve() == other.resolve()


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


# --- The results of the commands ---


def _is_adapter(folder: Path, names: Collection[str]) -> bool:
    config = _json(folder / state_files.CONFIG_FILE)
    tells_its_training = (
        config.get("training") if config.get("peft_type") == "S0" else state_files.TRAINING_FILE in names
    )
    return bool(tells_its_training) and {*names} <= _ADAPTER_FILES


def _is_published(folder: Path, names: Collection[str]) -> bool:
    meta = _json(folder / "meta.json")
    is_ours = meta.keys() == {"arch", "recurrent_layers", "state_shape"}
    return is_ours and {*names} <= {"states.safetensors", "config.json", "meta.json"}


def _is_evaluation(folder: Path, names: Collection[str]) -> bool:
    is_ours = is_record(folder / _RECORD, "eval") if _RECORD in names else holds_answers(folder / _ANSWERS)
    return is_ours and {*names} <= {_RECORD, _ANSWERS, _PAGE, _PLOTS}


def _is_report(folder: Path, names: Collection[str]) -> bool:
    return {*names} <= {_PAGE, _PLOTS} and _PAGE in names and is_report(folder / _PAGE)


def _is_demo(folder: Path, names: Collection[str]) -> bool:
    def is_part(name: str) -> bool:
        part = folder / name
        return name in _DEMO_FILES or part.suffix == ".checkpoint" or (part.is_dir() and _holds_adapter(part))

    is_begun = is_journal(folder / "train.samples.jsonl") or "data_sha256" in _json(folder / SETTINGS_FILE)
    return is_begun and all(is_part(name) for name in names)


def _holds_adapter(folder: Path) -> bool:
    return _is_adapter(folder, _seen(folder))


def _is_study_report(folder: Path, names: Collection[str]) -> bool:
    parts = {study_report.PAGE, study_report.FIGURES, *study_report.PLOTS, study_report.METHOD_COMPARISON}
    return {*names} <= parts and _json(folder / study_report.FIGURES).get("kind") == "study report"


DEMO = Result("a finished demo", _is_demo)
TRAINED = Result("a finished training", _is_adapter)
EXPORTED = Result("an exported state", _is_published)
EVALUATION = Result("the record of an evaluation", _is_evaluation)
REPORT = Result("the report of an evaluation", _is_report)
STUDY_REPORT = Result("the report of a study", _is_study_report)


@contextmanager
def demo_claimed(out: Path, inputs: Iterable[str | Path | None], overwrite: bool) -> Iterator[Path]:
    """`out`, see `claimed`. A demo that has not come to its end goes on."""

    def look() -> None:
        require_free_folder(out, DEMO, overwrite or not is_record(out / _RECORD, "demo"))

    with claimed(out, inputs, look):
        yield out


def require_rounds_place(folder: Path) -> None:
    """Refuse a place for the rounds of `s0 improve` that holds something else.

    Raises:
        ConfigError: it does.
    """
    names = _seen(folder) if folder.is_dir() else []
    others = [name for name in names if name not in _ROUNDS_FILES and not name.startswith("round-")]
    if others or (os.path.lexists(folder) and not folder.is_dir()):
        raise ConfigError(
            f"expected {folder} to be free for what the rounds write, got {_listed(others) or 'a file'} there; choose "
            "another --out"
        )


def require_answers_place(path: Path) -> None:
    """Refuse a file for answers that holds something else."""
    if os.path.lexists(path) and not holds_answers(path):
        raise ConfigError(
            f"expected {path}, where answers are kept, to be free, got something else there; choose another --out"
        )


def n_kept(journal: Path) -> int:
    """How many results a journal holds behind its first line."""
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.is_file() else 0


def is_record(path: Path, kind: str) -> bool:
    """Whether a file is a record of this kind of job."""
    return path.is_file() and _json(path).get("kind") == kind


@dataclass(frozen=True)
class RecordPlace:
    """Where an evaluation goes: `results` is a folder for all of it, `NAME.json` the record, its report in NAME.

    Attributes:
        record: the file.
        report: the folder.
    """

    record: Path
    report: Path

    @property
    def answers(self) -> Path:
        """The file of the answers as they come, beside the record."""
        return answers_file(self.record)

    @classmethod
    def of(cls, out: Path) -> RecordPlace:
        """The place that --out names.

        Raises:
            ConfigError: it is neither.
        """
        if out.suffix == ".json" and not out.is_dir():
            return cls(out, out.with_suffix(""))
        looks_like_a_file = out.suffix[1:2].isalpha() and not out.is_dir()
        if looks_like_a_file:
            raise ConfigError(
                f"expected --out to be a folder, or a file that ends in .json, got {out}; change its ending"
            )
        return cls(out / _RECORD, out)

    @contextmanager
    def claimed(self, inputs: Collection[str | Path | None], overwrite: bool) -> Iterator[None]:
        """See `claimed`. An evaluation that has not come to its end goes on."""
        in_one_folder = self.record.parent == self.report

        def look() -> None:
            if in_one_folder:
                require_free_folder(self.report, EVALUATION, overwrite or not self.record.exists())
                return
            self._require_free_record(overwrite)
            require_free_folder(self.report, REPORT, overwrite)
            require_answers_place(self.answers)

        out, *beside = [self.report] if in_one_folder else [self.record, self.report, self.answers]
        with claimed(out, inputs, look, beside=beside):
            yield

    def _require_free_record(self, overwrite: bool) -> None:
        if not os.path.lexists(self.record):
            return
        if not is_record(self.record, "eval"):
            raise ConfigError(
                f"expected a new --out, got {self.record}, which is no record of this command and is never replaced; "
                "choose another name"
            )
        if not overwrite:
            raise taken_error(self.record, EVALUATION.what)
