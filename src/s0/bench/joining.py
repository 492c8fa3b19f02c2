"""Records on the same problems as one record: what was evaluated apart is compared pair by pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from msgspec import UNSET, convert, structs
from msgspec.structs import replace

from s0.bench.asking import Samples
from s0.bench.evaluation import summary
from s0.bench.record import Pairs, comparisons, sampled_part
from s0.bench.recounting import in_order, require_recounted
from s0.bench.variants import Outcome
from s0.errors import DatasetError
from s0.record import FORMAT_VERSION, Answer, Model, Record, Run
from s0.tasks.sandbox import Limits

_NO_SAMPLES = "its drawn answers are left out: not all of the joined records have such, drawn alike"
_NO_LENGTH_LIMIT = (
    "not all of the joined records tell the limit of an answer's length: between them a difference may be one of that "
    "limit; evaluate all with one --max-new-tokens"
)
_NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class _Member:
    """A variant of the joined record.

    Attributes:
        name: in the joined record.
        base: the name there of the untouched model of its own record.
        record, variant: the names of its record, and of it in that.
        run: what it is.
        outcome: its answers.
    """

    name: str
    base: str
    record: str
    variant: str
    run: Run
    outcome: Outcome


def join(records: Mapping[str, Record]) -> Record:
    """The record of everything in several records on the same problems.

    A variant keeps its name where no other record has that; else the name of its record stands behind it. The untouched
    model of the first record stands once where it is the same, and its answers are, in all of them. Every variant is
    compared with the untouched model of its own record, other untouched models with the first one, and what was tuned
    with what was tuned first; p is adjusted (Holm) for all of that. So the records of single states join to what one
    evaluation of all of them gives. Drawn answers are kept where all records have such, drawn alike.

    Args:
        records: by the name that tells them apart. One by itself stays as it is.

    Raises:
        DatasetError: they were not asked the same, or not judged alike; or the figures of one are not those of its
            answers.
    """
    for name, record in records.items():
        require_recounted(record, name)
    if len(records) == 1:
        return next(iter(records.values()))
    _require_alike(records)
    first, samples = next(iter(records.values())), _samples(records)
    members = list(_members(records, samples))
    outcomes = {member.name: member.outcome for member in members}
    answers = {name: tuple(outcome.answers) for name, outcome in outcomes.items()}
    pairs = _pairs(members)
    settings = {name: record.settings for name, record in records.items() if record.settings}
    return replace(
        first,
        format_version=FORMAT_VERSION,
        kind="eval",
        environment=_environment(records),
        model=_model(records),
        sandbox=_sandbox(records),
        seconds=_seconds(records, members),
        variants={member.name: member.run for member in members},
        final={name: summary(variant_answers) for name, variant_answers in answers.items()},
        comparisons=comparisons(answers, pairs),
        sampled=sampled_part(samples, outcomes, pairs),
        answers=answers,
        settings=settings or UNSET,
        max_new_tokens=UNSET if _lacks_length_limit(records) else first.max_new_tokens,
        examples=UNSET,
    )


def _limits(record: Record) -> dict[str, Any]:
    """The limits of the sandbox that answers were judged in."""
    if record.sandbox is None:
        return asdict(Limits())
    return {name: value for name, value in record.sandbox.items() if name != "backend"}


_ALIKE: Mapping[str, tuple[Callable[[Record], Any], str]] = {
    "task": (lambda record: record.task.name, "compare what was asked the same"),
    "version of the task": (lambda record: record.task.version, "evaluate both by the rules of one version"),
    "data (sha256)": (lambda record: record.task.data_sha256, "evaluate both on the same data"),
    "split": (lambda record: record.split, "evaluate both on one split"),
    "way of asking (chat)": (lambda record: record.chat, "ask both through the chat template, or neither"),
    "set of scoring limits": (_limits, "evaluate both with the same limits"),
    "limit of an answer's length": (lambda record: record.max_new_tokens, "evaluate both with one --max-new-tokens"),
}
"""What records that are joined agree in: how it is read, UNSET where one does not tell it, and what to do where they
do not."""


def _require_alike(records: Mapping[str, Record]) -> None:
    for what, (read, remedy) in _ALIKE.items():
        values = [(name, value) for name, record in records.items() if (value := read(record)) is not UNSET]
        for other_name, other_value in values[1:]:
            name, value = values[0]
            if other_value != value:
                raise DatasetError(
                    f"expected records of one {what}, got {value!r:.100} in {name} and "
                    f"{other_value!r:.100} in {other_name}; {remedy}"
                )
    (name, record), *others = records.items()
    for other_name, other in others:
        if other.problems != record.problems:
            n_shared = len(record.problems.items() & other.problems.items())
            raise DatasetError(
                f"expected records of the same problems, got {len(record.problems)} in {name} and "
                f"{len(other.problems)} in {other_name}, of which {n_shared} are the same; evaluate both on the same "
                "problems"
            )


def _samples(records: Mapping[str, Record]) -> Samples | None:
    """How answers were drawn in all records; None where there are none, or not drawn alike."""
    drawn = {
        None if part is None else Samples(part.n, part.temperature, part.top_p, part.seed)
        for part in (record.sampled for record in records.values())
    }
    return drawn.pop() if len(drawn) == 1 else None


def _members(records: Mapping[str, Record], samples: Samples | None) -> Iterator[_Member]:
    """Every variant of the joined record, those of the first record first."""
    first_name, first = next(iter(records.items()))
    outcomes = {
        (of, variant): Outcome(
            {},
            in_order(record.answers[variant], first.problems, 1, of),
            sampled=() if samples is None else in_order(_drawn(record, variant), first.problems, samples.n, of),
        )
        for of, record in records.items()
        for variant in record.final
    }
    bases = [(record.model.fingerprint, outcomes[of, record.untouched]) for of, record in records.items()]
    shares_base = all(base == bases[0] for base in bases)
    kept = [
        (of, variant)
        for of, variant in outcomes
        if of == first_name or not shares_base or variant != records[of].untouched
    ]
    n_so_called = Counter(variant for _, variant in kept)
    names = {(of, variant): variant if n_so_called[variant] == 1 else f"{variant} ({of})" for of, variant in kept}
    if len({*names.values()}) < len(names):
        raise DatasetError(f"expected variants that can be told apart, got {sorted(names.values())}; rename a folder")
    for (of, variant), name in names.items():
        record, base = records[of], (first_name if shares_base else of)
        run = record.variants[variant]
        if cautions := _cautions(record, records, samples):
            run = replace(run, cautions=(*(run.cautions or ()), *cautions))
        yield _Member(name, names[base, records[base].untouched], of, variant, run, outcomes[of, variant])


def _cautions(record: Record, records: Mapping[str, Record], samples: Samples | None) -> list[str]:
    """What becomes true of a record's variants by joining it with the others."""
    loses_samples = samples is None and record.sampled is not None
    dtypes = {each.model.dtype: None for each in records.values() if each.model.dtype is not None}
    cautions = [
        *([_NO_SAMPLES] if loses_samples else []),
        *([_NO_LENGTH_LIMIT] if _lacks_length_limit(records) else []),
    ]
    if len(dtypes) > 1:
        cautions.append(
            f"answered in {record.model.dtype or 'a dtype that its record does not tell'}, but the joined records are "
            f"of {' and '.join(dtypes)}: between them a difference may be one of rounding; evaluate all in one dtype"
        )
    return cautions


def _lacks_length_limit(records: Mapping[str, Record]) -> bool:
    return any(record.max_new_tokens is UNSET for record in records.values())


def _drawn(record: Record, variant: str) -> Sequence[Answer]:
    return () if record.sampled is None else record.sampled.answers.get(variant, ())


def _pairs(members: Sequence[_Member]) -> Pairs:
    bases = list(dict.fromkeys(member.base for member in members))
    tuned = [member for member in members if member.name not in bases]
    return [
        *((member.base, member.name) for member in tuned),
        *((bases[0], other) for other in bases[1:]),
        *((tuned[0].name, other.name) for other in tuned[1:]),
    ]


def _environment(records: Mapping[str, Record]) -> dict[str, Any]:
    """That of every record, and the time of the last one."""
    made = {name: record.environment for name, record in records.items()}
    return {"time": max(str(environment.get("time", "")) for environment in made.values()), "joined": made}


def _model(records: Mapping[str, Record]) -> Model:
    """What is alike in all records, and all that differs, one after the other; None where no record tells it."""
    models = [structs.asdict(record.model) for record in records.values()]
    values = {part: {model[part]: None for model in models} for part in models[0]}
    return convert({part: _alike_or_all(each) for part, each in values.items()}, Model)


def _alike_or_all(values: Collection[str | None]) -> str | None:
    return None if {*values} == {None} else ", ".join(_NOT_RECORDED if value is None else value for value in values)


def _sandbox(records: Mapping[str, Record]) -> dict[str, Any] | None:
    """The limits, and every backend."""
    sandboxes = [record.sandbox for record in records.values() if record.sandbox is not None]
    backends = {str(sandbox.get("backend")): None for sandbox in sandboxes}
    return {**sandboxes[0], "backend": ", ".join(backends)} if sandboxes else None


def _seconds(records: Mapping[str, Record], members: Sequence[_Member]) -> dict[str, float]:
    """Those of the variants under their new names; of what was done for all of a record, with its name."""
    kinds = ("train", "evaluate")
    seconds: dict[str, float] = {}
    for of, record in records.items():
        of_variants = {f"{kind} {variant}" for kind in kinds for variant in record.final}
        seconds |= {f"{stage} ({of})": spent for stage, spent in record.seconds.items() if stage not in of_variants}
    for member in members:
        for kind in kinds:
            spent = records[member.record].seconds.get(f"{kind} {member.variant}")
            seconds |= {} if spent is None else {f"{kind} {member.name}": spent}
    return seconds
