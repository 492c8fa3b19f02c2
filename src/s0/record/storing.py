"""Records as JSON, and back: a file is checked whole when it is read, so that nobody has to look twice."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from s0.errors import DatasetError
from s0.files import write_text
from s0.record.parts import FORMAT_VERSION, KINDS, Answer, Estimate, Rate, Record, Run, Sampled, Summary, effect_of


def read_record(path: str | Path) -> Record:
    """The record in a file.

    Raises:
        DatasetError: there is none, or a damaged one.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DatasetError(
            f"expected {path} to be a record in JSON, got no file of that name; name a record.json"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"expected {path} to be a record in JSON, got: {error}; name a record.json") from error
    try:
        return parsed(data)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error


def parsed(data: object) -> Record:
    """The record that JSON holds; nothing in it is trusted.

    Raises:
        DatasetError: it is no such record, or a damaged one.
    """
    version = data.get("format_version", 0) if isinstance(data, Mapping) else 0
    if isinstance(version, int) and not 0 <= version <= FORMAT_VERSION:
        raise DatasetError(
            f"expected a record of format version {FORMAT_VERSION} at most, got {version!r:.40}; read it with the "
            "s0-tuning that wrote it, or a newer one"
        )
    try:
        record = msgspec.convert(data, Record)
        _require_whole(record)
    except (msgspec.ValidationError, LookupError, ValueError, RecursionError) as error:
        raise DatasetError(
            f"expected a record as `s0 demo` and `s0 eval` write it, got one that cannot be read ({error!r:.200}); "
            "make it again with this version"
        ) from error
    by_the_rule = tuple(
        msgspec.structs.replace(comparison, effect=effect_of(comparison.standard)) for comparison in record.comparisons
    )
    return msgspec.structs.replace(record, comparisons=by_the_rule)


def _require_whole(record: Record) -> None:
    """Refuse what names what is not there."""
    if record.kind not in KINDS:
        raise ValueError(f"kind {record.kind!r:.40}")
    if not record.final:
        raise ValueError("no variant")
    if not record.final.keys() == record.answers.keys() == record.variants.keys():
        raise ValueError(f"summaries, answers and facts of other variants than {[*record.final]!r:.80}")
    if not record.problems:
        raise ValueError("no problem")
    if record.of_problems is not UNSET and record.of_problems < len(record.problems):
        raise ValueError(f"{len(record.problems)} problems asked of {record.of_problems}")
    for summary in record.final.values():
        for _, rate in summary.pass_at_1.items():
            _require_shares(rate)
    for name, answers in record.answers.items():
        _require_judged(answers)
        _require_every_answer(name, answers, record.problems, [None])
    for comparison in record.comparisons:
        record.final[comparison.first], record.final[comparison.second]
        answered = [
            {answer.problem for answer in record.answers[name]} for name in (comparison.first, comparison.second)
        ]
        for _, difference in comparison.items():
            for problem in (*difference.gained, *difference.lost):
                if problem not in record.problems or not all(problem in problems for problems in answered):
                    raise ValueError(f"no answers to {problem!r:.40}")

    if record.sampled is not None:
        _require_whole_samples(record.sampled, record)


def _require_whole_samples(sampled: Sampled, record: Record) -> None:
    if not sampled.final.keys() == sampled.answers.keys() == record.final.keys():
        raise ValueError("drawn answers of other variants than the greedy ones")
    for summary in sampled.final.values():
        if summary.pass_at_k.standard.keys() != summary.pass_at_k.paper.keys():
            raise ValueError("pass@k of one scoring alone")
        for _, estimates in summary.pass_at_k.items():
            for k, estimate in estimates.items():
                int(k)
                _require_shares(estimate)
    for name, answers in sampled.answers.items():
        _require_judged(answers)
        _require_every_answer(name, answers, record.problems, range(sampled.n))
    for comparison in sampled.comparisons:
        sampled.final[comparison.first], sampled.final[comparison.second]


def _require_every_answer(
    name: str, answers: Sequence[Answer], problems: Collection[str], samples: Sequence[int | None]
) -> None:
    """Each sample to each problem is there once, and no other."""
    if len(answers) != len(problems) * len(samples):  # before all that are wanted are listed
        raise ValueError(f"{len(answers)} answers of {name!r:.40}, {len(samples)} to each of {len(problems)} problems")
    missing = {(problem, sample) for problem in problems for sample in samples}
    missing -= {(answer.problem, answer.sample) for answer in answers}
    if missing:
        raise ValueError(f"no answer of {name!r:.40} to {next(iter(missing))[0]!r:.40}")


def _require_shares(figure: Rate | Estimate) -> None:
    if not all(0 <= share <= 1 for share in (figure.value, figure.low, figure.high)):
        raise ValueError(f"a share of {figure.value!r:.40}")


def _require_judged(answers: Sequence[Answer]) -> None:
    if any(not answer.passed.keys() == answer.reason.keys() == {"standard", "paper"} for answer in answers):
        raise ValueError("an answer without both verdicts")


def plain(record: Record | Run | Summary) -> dict[str, Any]:
    """The record as JSON has it."""
    data: dict[str, Any] = msgspec.to_builtins(record)
    return data


def write_record(path: str | Path, record: Record | Mapping[str, Any]) -> None:
    """Write a record as JSON, all of it or nothing.

    Args:
        path: of the file.
        record: of a job; or of a benchmark, which has a shape of its own.

    Raises:
        OSError: it cannot be written there. Its answers took long, so it is kept in the system's folder for temporary
            files then, and the error says where.
    """
    data = plain(record) if isinstance(record, Record) else record
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    try:
        write_text(path, text)
    except OSError as error:
        spare = _elsewhere(Path(path).name, text)
        if spare is None:
            raise
        raise OSError(
            f"expected to write {path}, got: {error.strerror or error}; the record is kept in {spare}; move it"
        ) from error


def _elsewhere(name: str, text: str) -> Path | None:
    try:
        path = Path(tempfile.mkdtemp(prefix="s0-record-")) / name
        write_text(path, text)
    except OSError:
        return None
    return path
