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

from s0.adapter.fingerprint import fingerprint, rounding_entry
from s0.bench.answers import UNTOUCHED
from s0.bench.asking import Answerer, Questions, seed_of
from s0.bench.journal import Journal, origin_of
from s0.bench.judging import judged_as_written
from s0.decode import Batcher, Completion
from s0.errors import ConfigError, DatasetError
from s0.examples import Example, read_examples, write_examples
from s0.progress import Advance, unheard
from s0.tasks import Problem, Task
from s0.tasks.sandbox import Limits

_TRUNCATED = "truncated"
"""The reason of a sample that was cut at the limit of tokens: it is not judged."""
KEEP = ("first", "shortest", "all")
_CHANGE_NO_SAMPLE = ("samples", "keep", "per_round")
"""Settings that decide how many samples are drawn and which are kept, but not what any of them says."""


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
    """

    temperature: float = 0.7
    top_p: float = 0.95
    samples: int = 16
    keep: str = "first"
    per_round: int = 4
    seed: int = 0

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
    answerer: Answerer,
    questions: Questions,
    out: str | Path,
    settings: CollectSettings,
    *,
    overwrite: bool = False,
    on_done: Advance = unheard,
) -> list[Example]:
    """Collect verified examples of the problems the model solves, and write them to `out` (JSONL).

    Every sample with its verdict, failures too, goes to a file beside `out` as soon as it is judged. Killed at any
    point, a collection goes on from there; so does one that asks for more samples, or keeps others of them. What a
    sample says depends on its seed, problem and number alone, so the end is the same.

    Args:
        answerer: who is sampled; its journal takes no part.
        questions: problems to sample for, not those of the final split; judged by the task's standard scoring.
        out: the file to write; its samples go to `samples_file(out)`.
        settings: how to sample.
        overwrite: start anew where another collection is in the place of this one.
        on_done: told how many of the `len(problems) * settings.samples` samples have just been judged or have become
            needless, and how it goes in a few words.

    Returns:
        the examples, by problem in the order given, then by sample.

    Raises:
        DatasetError: final problems, nothing passed, or a damaged file of samples.
        ConfigError: questions with shots; `out` or the samples beside it come from something else; `out` was changed
            since.
        SandboxError: there is no verdict to be had on this machine.
    """
    _require_learnable(questions)
    out, path = Path(out), samples_file(out)
    require_place(out)
    origin = _origin(answerer, questions, settings)
    if overwrite and path.exists() and _origin_of(path) != origin:
        _make_room(out, path)
    journal = _Journal(path, origin)
    collection = _Collection(questions, settings, origin, journal.samples)
    if out.exists() and not collection.has_written(out):
        raise ConfigError(
            f"expected {out} to be as a collection for these problems has written it, got other examples, or changed "
            "ones; choose another --out, or move that file"
        )
    progress = _Progress(len(questions.problems), settings, on_done)
    progress.tell({problem.id: journal.samples[problem.id] for problem in questions.problems}, earlier=True)
    _draw(answerer, questions, settings, journal, progress)
    examples = collection.examples()
    if not examples:
        raise DatasetError(
            f"expected some of {settings.samples} samples for each of {len(questions.problems)} problems to pass, none "
            f"did; {_why_none(journal)} (all are in {path}){_before(path, out)}"
        )
    write_examples(out, examples)
    for earlier in (path, out):
        _set_aside(earlier).unlink(missing_ok=True)
    return examples


def _require_learnable(questions: Questions) -> None:
    if questions.shots:
        raise ConfigError(
            "expected questions without shots, got some: examples keep the prompt alone, not what stood before it; "
            "leave them out"
        )
    if any(problem.split == "final" for problem in questions.problems):
        raise DatasetError(
            "expected problems of the train or select split, got some of the final split, on which nothing may be "
            "learned"
        )


def _origin(answerer: Answerer, questions: Questions, settings: CollectSettings) -> dict[str, Any]:
    """What samples depend on, for the file of samples and, as their provenance, for the examples."""
    task = questions.task
    limits = Limits() if task.sandbox is None else task.sandbox.limits
    how = {name: value for name, value in asdict(settings).items() if name not in _CHANGE_NO_SAMPLE}
    origin: dict[str, Any] = {
        "task": task.name,
        "task_version": task.version,
        "data_sha256": task.data_sha256,
        "base": fingerprint(answerer.model),
        **rounding_entry(answerer.model),
        **how,
        "chat": questions.chat,
        "max_new_tokens": questions.max_new_tokens,
        "timeout_s": limits.timeout_s,
    }
    # Collections of before know the untouched model alone.
    return origin if answerer.tuned == UNTOUCHED else {**origin, "tuned": answerer.tuned}


def _make_room(out: Path, path: Path) -> None:
    """Set another collection's examples and samples aside, until this one has come to its end."""
    _require_kept_from(out, path)
    for earlier in (path, out):
        if _set_aside(earlier).exists():  # what came after it has come to nothing
            earlier.unlink(missing_ok=True)
        elif earlier.exists():
            earlier.replace(_set_aside(earlier))


def _set_aside(path: Path) -> Path:
    """Where an earlier collection's file waits until this one has come to its end."""
    return path.with_name(f".{path.name}.s0-before")


def _before(*paths: Path) -> str:
    """Where earlier files are that were set aside, if any were."""
    places = [str(_set_aside(path)) for path in paths if _set_aside(path).exists()]
    return f". What was there before is in {' and '.join(places)}" if places else ""


@dataclass(frozen=True)
class _Collection:
    """A collection under way: samples come in, examples go out.

    Attributes:
        samples: those drawn so far, by problem and number.
    """

    questions: Questions
    settings: CollectSettings
    origin: Mapping[str, Any]
    samples: Mapping[str, Mapping[int, Sample]]

    def examples(self) -> list[Example]:
        """What is kept of the samples."""
        task, settings = self.questions.task, self.settings
        how = {**self.origin, "samples": settings.samples, "keep": settings.keep}
        return [
            Example(
                task.prompt(problem, self.questions.chat),
                sample.text,
                {**how, "problem": problem.id, "sample": sample.sample},
            )
            for problem in self.questions.problems
            for sample in _kept(self.samples[problem.id], settings)
        ]

    def has_written(self, out: Path) -> bool:
        """Whether a file of examples is what was kept of these samples, with the settings that it tells."""
        try:
            stored = read_examples(out)
            how = stored[0].provenance
            settings = replace(self.settings, samples=how["samples"], keep=how["keep"])
            return stored == replace(self, settings=settings).examples()
        except (DatasetError, ConfigError, KeyError, TypeError):
            return False


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
    answerer: Answerer, questions: Questions, settings: CollectSettings, journal: _Journal, progress: _Progress
) -> None:
    """Draw and judge what is missing in the journal."""
    sampling = questions.sampling(settings.temperature, settings.top_p)
    batcher = Batcher(answerer.model, answerer.tokenizer, sampling.batch_rows)
    asked: dict[int, tuple[Problem, int]] = {}  # by the batcher's number
    unjudged: defaultdict[str, int] = defaultdict(int)  # samples that are asked for, by problem

    def ask(problem: Problem) -> None:
        numbers = _missing(journal.samples[problem.id], settings)
        tokens = questions.tokens(answerer.tokenizer, problem) if numbers else ()
        for number in numbers:
            request = sampling.request(tokens, seed=seed_of(settings.seed, problem, number))
            asked[batcher.submit(request)] = problem, number
            unjudged[problem.id] += 1

    def take(judged: list[tuple[Problem, Sample]]) -> None:
        journal.add([sample for _, sample in judged])
        progress.tell({problem.id: journal.samples[problem.id] for problem, _ in judged})
        for problem, _ in judged:
            unjudged[problem.id] -= 1
            if not unjudged[problem.id]:
                ask(problem)

    for problem in questions.problems:
        ask(problem)

    def judge(written: Sequence[tuple[int, Completion]]) -> list[tuple[Problem, Sample]]:
        return _judged(questions.task, [(*asked[number], completion) for number, completion in written])

    with closing(judged_as_written(answerer.model, batcher, judge)) as groups:
        for judged in groups:
            take(judged)


def _judged(task: Task, written: Sequence[tuple[Problem, int, Completion]]) -> list[tuple[Problem, Sample]]:
    whole = [(problem, completion.text) for problem, _, completion in written if not completion.truncated]
    verdicts = iter(task.verdicts(whole)) if whole else iter(())
    judged = []
    for problem, number, completion in written:
        passed, reason = False, _TRUNCATED
        if not completion.truncated:
            verdict = next(verdicts)
            passed, reason = verdict.passed, verdict.reason
        judged.append((problem, Sample(problem.id, number, completion.text, completion.n_tokens, passed, reason)))
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
        first_by_text = {sample.text: sample for sample in reversed(passing)}
        return list(first_by_text.values())[::-1]
    key = (lambda sample: sample.n_tokens) if settings.keep == "shortest" else (lambda sample: sample.sample)
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
            drawn = [sample for sample in done.values() if sample.sample < most]
            passed = sum(sample.passed for sample in drawn)
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
