"""Verified examples: sample from a model, untouched or tuned, run what it writes, keep what passes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from os.path import lexists
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from s0.adapter.fingerprint import dtype_entry, fingerprint
from s0.bench.answers import UNTOUCHED
from s0.bench.asking import sampling_for, seed_of
from s0.bench.journal import Journal, origin_of
from s0.bench.judging import judged_as_written
from s0.decode import BATCH_ROWS, Batcher, Completion
from s0.errors import ConfigError, DatasetError
from s0.examples import Example, read_examples, write_examples
from s0.models import encode_prompt
from s0.progress import Advance, unheard
from s0.tasks import Problem, Task
from s0.tasks.sandbox import Limits, Sandbox

_TRUNCATED = "truncated"
"""The reason of a sample that was cut at the limit of tokens: it is not judged."""
KEEP = ("first", "shortest", "all")
_CHANGE_NO_SAMPLE = ("samples", "keep", "per_round", "batch_rows")
"""Settings that decide how many samples are drawn, how fast, and which are kept, but not what any of them says."""


@dataclass(frozen=True)
class CollectSettings:
    """How to sample; the defaults are the paper's.

    Attributes:
        temperature, top_p: of the sampling.
        samples: at most this many per problem.
        keep: of a problem's samples that pass: "first", and the problem is left as soon as one does; "shortest", in
            tokens; or "all" that differ.
        per_round: samples per problem between two looks at the verdicts; with "first".
        seed: of the sampling.
        chat: ask through the chat template.
        max_new_tokens: None for the task's own limit.
        batch_rows: prompts decoded together.
    """

    temperature: float = 0.7
    top_p: float = 0.95
    samples: int = 16
    keep: str = "first"
    per_round: int = 4
    seed: int = 0
    chat: bool = False
    max_new_tokens: int | None = None
    batch_rows: int = BATCH_ROWS

    def __post_init__(self) -> None:
        if self.keep not in KEEP:
            raise ConfigError(f"expected `keep` to be one of {', '.join(KEEP)}, got {self.keep!r}; choose one of them")
        if self.samples < 1 or self.per_round < 1:
            raise ConfigError(
                f"expected samples and per_round of at least 1, got {self.samples} and {self.per_round}; raise them"
            )
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"expected a finite `temperature` above 0, got {self.temperature}")


@dataclass(frozen=True)
class Sample:
    """One completion of a problem and what became of it.

    Attributes:
        problem: its id.
        sample: its number among the problem's samples, from 0.
        text: the completion.
        n_tokens: its length, the end token included.
        passed: the standard scoring's verdict; never for a completion without an end, whose end could not be learned.
        reason: why.
    """

    problem: str
    sample: int
    text: str
    n_tokens: int
    passed: bool
    reason: str


def collect(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    problems: Sequence[Problem],
    out: str | Path,
    settings: CollectSettings,
    *,
    tuned: str = UNTOUCHED,
    overwrite: bool = False,
    sandbox: Sandbox | None = None,
    on_done: Advance = unheard,
) -> list[Example]:
    """Collect verified examples of the problems the model solves, and write them to `out` (JSONL).

    Every sample with its verdict, failures too, goes to a file beside `out` as soon as it is judged. Killed at any
    point, a collection goes on from there; so does one that asks for more samples, or keeps others of them. What a
    sample says depends on its seed, problem and number alone, so the end is the same.

    Args:
        model: sampled as it is now, with or without something tuned in it.
        tokenizer: the model's.
        task: judges by its standard scoring.
        problems: to sample for; not those of the final split.
        out: the file to write; its samples go to `samples_file(out)`.
        settings: how to sample.
        tuned: the checksum of what is tuned in the model, by which its samples and examples are known.
        overwrite: start anew where another collection is in the place of this one.
        sandbox: None for the strongest of this machine.
        on_done: told how many of the `len(problems) * settings.samples` samples have just been judged or have become
            needless, and how it goes in a few words.

    Returns:
        the examples, by problem in the order given, then by sample.

    Raises:
        DatasetError: no problems, final problems among them, nothing passed, or a damaged file of samples.
        ConfigError: `out` or the samples beside it come from something else; `out` was changed since.
        SandboxError: there is no verdict to be had on this machine.
    """
    if not problems or any(problem.split == "final" for problem in problems):
        raise DatasetError(
            "expected problems of the train or select split, got "
            + ("some of the final split, on which nothing may be learned" if problems else "none")
        )
    asking = {key: value for key, value in asdict(settings).items() if key not in _CHANGE_NO_SAMPLE}
    origin: dict[str, Any] = {"task": task.name, "task_version": task.version, "data_sha256": task.data_sha256}
    limits = Limits() if sandbox is None else sandbox.limits
    origin |= {"base": fingerprint(model), **dtype_entry(model), **asking, "timeout_s": limits.timeout_s}
    origin |= {} if tuned == UNTOUCHED else {"tuned": tuned}  # collections of before know the untouched model alone
    out, path = Path(out), samples_file(out)
    require_place(out)
    if overwrite and path.exists() and _origin_of(path) != origin:
        _require_kept_from(out, path)
        for earlier in (path, out):
            if _set_aside(earlier).exists():  # what came after it has come to nothing
                earlier.unlink(missing_ok=True)
            elif earlier.exists():
                earlier.replace(_set_aside(earlier))
    journal = _Journal(path, origin)
    if out.exists() and not _is_as_written(out, task, problems, settings, origin, journal):
        raise ConfigError(
            f"expected {out} to be as a collection for these problems has written it, got other examples, or changed "
            "ones; choose another --out, or move that file"
        )
    progress = _Progress(len(problems), settings, on_done)
    progress.tell({problem.id: journal.samples[problem.id] for problem in problems}, earlier=True)
    _draw(model, tokenizer, task, problems, settings, sandbox, journal, progress)
    examples = _examples(task, problems, settings, origin, journal)
    if not examples:
        raise DatasetError(
            f"expected some of {settings.samples} samples for each of {len(problems)} problems to pass, none did; "
            f"{_why_none(journal)} (all are in {path})" + _before(path, out)
        )
    write_examples(out, examples)
    for earlier in (path, out):
        _set_aside(earlier).unlink(missing_ok=True)
    return examples


def _set_aside(path: Path) -> Path:
    """Where an earlier collection's file waits until this one has come to its end."""
    return path.with_name(f".{path.name}.s0-before")


def _before(*paths: Path) -> str:
    """Where earlier files are that were set aside, if any were."""
    places = [str(_set_aside(path)) for path in paths if _set_aside(path).exists()]
    return f". What was there before is in {' and '.join(places)}" if places else ""


def _examples(
    task: Task, problems: Sequence[Problem], settings: CollectSettings, origin: Mapping[str, Any], journal: _Journal
) -> list[Example]:
    """What is kept of the samples drawn so far."""
    how = {**origin, "samples": settings.samples, "keep": settings.keep}
    return [
        Example(
            task.prompt(problem, settings.chat), sample.text, {**how, "problem": problem.id, "sample": sample.sample}
        )
        for problem in problems
        for sample in _kept(journal.samples[problem.id], settings)
    ]


def _is_as_written(
    out: Path,
    task: Task,
    problems: Sequence[Problem],
    settings: CollectSettings,
    origin: Mapping[str, Any],
    journal: _Journal,
) -> bool:
    """Whether a file of examples is what was kept of these samples, with the settings that it tells."""
    try:
        before = read_examples(out)
        how = before[0].provenance
        kept = _examples(task, problems, replace(settings, samples=how["samples"], keep=how["keep"]), origin, journal)
    except (DatasetError, ConfigError, KeyError, TypeError):
        return False
    return before == kept


def _require_kept_from(out: Path, path: Path) -> None:
    """Refuse a file of examples that holds others than what was kept of the samples beside it."""
    if not out.exists():
        return
    origin = _origin_of(path) or {}
    samples = _Journal(path, origin).samples
    for example in read_examples(out):
        problem, number = (example.provenance.get(key) for key in ("problem", "sample"))
        sample = samples[str(problem)].get(number) if isinstance(number, int) else None
        if sample is None or sample.text != example.completion:
            raise ConfigError(
                f"expected {out} to hold what was kept of the samples in {path}, got an example of other origin; "
                "choose another --out, or move that file"
            )


def require_place(out: str | Path) -> None:
    """Refuse a place where anything but a collection is.

    Raises:
        ConfigError: `out` is a folder, or it or the file of its samples comes from something else.
    """
    out = Path(out)
    if out.suffix != ".jsonl" and not out.is_dir():
        raise ConfigError(f"expected --out to end in .jsonl, got {out}; add that")
    path = samples_file(out)
    if out.is_dir():
        raise ConfigError(
            f"expected a file for the examples, got the folder {out}; name a file, {out / 'train.jsonl'} say"
        )
    if lexists(path) and not is_journal(path):
        raise ConfigError(
            f"expected a new file for the samples, got {path}, which holds something else; choose another --out"
        )
    if lexists(out) and not path.exists():
        raise ConfigError(
            f"expected a new file for the examples, got {out}, which holds others; choose another name or remove it"
        )


def is_journal(path: Path) -> bool:
    """Whether a file holds the samples of a collection."""
    return _origin_of(path) is not None


def _origin_of(path: Path) -> dict[str, Any] | None:
    """What the samples in a file were drawn from; None where it is no file of samples."""
    origin = origin_of(path)
    return origin if origin is not None and {"task", "base"} <= origin.keys() else None


def _why_none(journal: _Journal) -> str:
    """How samples of which none passes have ended, the most frequent one, and what to try."""
    samples = [sample for drawn in journal.samples.values() for sample in drawn.values()]
    if not samples:
        return "none was drawn"
    reasons = Counter(sample.reason for sample in samples)
    ended = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    (text, reason), _ = Counter((sample.text, sample.reason) for sample in samples).most_common(1)[0]
    most_are_cut = 2 * reasons[_TRUNCATED] > len(samples)
    remedy = "allow more tokens by `max_new_tokens`" if most_are_cut else "try more samples, other problems"
    return f"{ended}; for example {text.strip()[:60]!r} ({reason}); {remedy}, or a stronger model"


def samples_file(out: str | Path) -> Path:
    """Where a collection into `out` keeps its samples: x.samples.jsonl for x.jsonl."""
    return Path(out).with_suffix(".samples.jsonl")


def _draw(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    problems: Sequence[Problem],
    settings: CollectSettings,
    sandbox: Sandbox | None,
    journal: _Journal,
    progress: _Progress,
) -> None:
    """Draw and judge what is missing in the journal."""
    how = {"temperature": settings.temperature, "top_p": settings.top_p}
    sampling = sampling_for(task, settings.chat, settings.max_new_tokens, batch_rows=settings.batch_rows, **how)
    batcher = Batcher(model, tokenizer, sampling.batch_rows)
    asked: dict[int, tuple[Problem, int]] = {}  # by the batcher's number
    unjudged: defaultdict[str, int] = defaultdict(int)  # samples that are asked for, by problem

    def ask(problem: Problem) -> None:
        numbers = _missing(journal.samples[problem.id], settings)
        tokens = tuple(encode_prompt(tokenizer, task.prompt(problem, settings.chat))) if numbers else ()
        for number in numbers:
            request = sampling.request(tokens, seed=seed_of(settings.seed, problem, number))
            asked[batcher.submit(request)] = problem, number
            unjudged[problem.id] += 1

    def take(found: list[tuple[Problem, Sample]]) -> None:
        journal.add([sample for _, sample in found])
        progress.tell({problem.id: journal.samples[problem.id] for problem, _ in found})
        for problem, _ in found:
            unjudged[problem.id] -= 1
            if not unjudged[problem.id]:
                ask(problem)

    for problem in problems:
        ask(problem)

    def judge(written: Sequence[tuple[int, Completion]]) -> list[tuple[Problem, Sample]]:
        return _judged(task, [(*asked[number], completion) for number, completion in written], sandbox)

    with closing(judged_as_written(model, batcher, judge)) as groups:
        for judged in groups:
            take(judged)


def _judged(
    task: Task, written: Sequence[tuple[Problem, int, Completion]], sandbox: Sandbox | None
) -> list[tuple[Problem, Sample]]:
    whole = [(problem, one.text) for problem, _, one in written if not one.truncated]
    verdicts = iter(task.verdicts(whole, sandbox=sandbox)) if whole else iter(())
    judged = []
    for problem, number, one in written:
        passed, reason = False, _TRUNCATED
        if not one.truncated:
            verdict = next(verdicts)
            passed, reason = verdict.passed, verdict.reason
        judged.append((problem, Sample(problem.id, number, one.text, one.n_tokens, passed, reason)))
    return judged


def _rounds(settings: CollectSettings) -> list[range]:
    """The numbers of a problem's samples, in groups that are asked for together."""
    size = settings.per_round if settings.keep == "first" else settings.samples
    return [range(start, min(start + size, settings.samples)) for start in range(0, settings.samples, size)]


def _missing(done: Mapping[int, Sample], settings: CollectSettings) -> list[int]:
    """The samples to ask for now: those that are not done of the first round that is not."""
    for numbers in _rounds(settings):
        if missing := [number for number in numbers if number not in done]:
            return missing
        if settings.keep == "first" and any(done[number].passed for number in numbers):
            break
    return []


def _kept(done: Mapping[int, Sample], settings: CollectSettings) -> list[Sample]:
    passing = [done[number] for number in range(settings.samples) if number in done and done[number].passed]
    if settings.keep == "all":
        return list({one.text: one for one in reversed(passing)}.values())[::-1]
    key = (lambda one: one.n_tokens) if settings.keep == "shortest" else (lambda one: one.sample)
    return [min(passing, key=key)] if passing else []


class _Progress:
    """Tells how many samples are settled, and how it goes."""

    def __init__(self, n_problems: int, settings: CollectSettings, on_done: Advance) -> None:
        self.n_problems, self.settings, self.on_done = n_problems, settings, on_done
        self.each: dict[str, tuple[int, int, int, int]] = {}  # by problem: settled, drawn, passed; 1 if solved
        self.totals = (0, 0, 0, 0)

    def tell(self, samples: Mapping[str, Mapping[int, Sample]], *, earlier: bool = False) -> None:
        """Take in the samples of problems that have new ones."""
        before, most = self.totals[0], self.settings.samples
        for problem, done in samples.items():
            drawn = [one for one in done.values() if one.sample < most]
            passed = sum(one.passed for one in drawn)
            settled = len(drawn) if _missing(done, self.settings) else most
            new, old = (settled, len(drawn), passed, int(passed > 0)), self.each.get(problem, (0, 0, 0, 0))
            self.totals = tuple(total + b - a for total, a, b in zip(self.totals, old, new, strict=True))  # type: ignore[assignment]
            self.each[problem] = new
        settled, n_drawn, n_passed, solved = self.totals
        share = f"{100 * n_passed / n_drawn:.0f}" if n_drawn else "-"
        note = f"{solved} of {self.n_problems} solved, {share}% of {n_drawn} passed"
        self.on_done(settled - before, note, earlier=earlier)


class _Journal(Journal[Sample]):
    """The samples drawn so far.

    Attributes:
        samples: by problem and number.
    """

    kind = Sample
    what = "sample"

    def __init__(self, path: Path, origin: Mapping[str, Any]) -> None:
        self.samples: defaultdict[str, dict[int, Sample]] = defaultdict(dict)
        super().__init__(path, origin)

    def _keep(self, row: Sample) -> None:
        self.samples[row.problem][row.sample] = row
