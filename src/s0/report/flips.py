"""The problems whose verdict changed between two variants, as many as a page has room for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from s0.record import Answer, Comparison, Record
from s0.report.wording import form_name

FLIPS_SHOWN = 40


def flips(record: Record) -> dict[str, Any]:
    """The problems whose verdict changed. Losses stand before gains, and each group has its share of the room."""
    groups = [*_flipped(record.comparisons, "standard"), *_flipped(record.comparisons, "paper")]
    half = len(groups) // 2
    sizes = [len(group.problems) for group in groups]
    n_paper = sum(size > 0 for size in sizes[half:])  # one of each, whatever else there is
    shares = _dealt(sizes[:half], max(FLIPS_SHOWN - n_paper, FLIPS_SHOWN // 2))
    shares += _dealt(sizes[half:], FLIPS_SHOWN - sum(shares))
    answers = {name: {answer.problem: answer for answer in of_variant} for name, of_variant in record.answers.items()}
    comparisons = []
    for comparison in record.comparisons:
        parts = [
            {
                "scoring": group.scoring,
                "kind": group.kind,
                "n": len(group.problems),
                "rest": len(group.problems) - share,
                "problems": [_flip(record, answers, group, problem) for problem in group.problems[:share]],
            }
            for group, share in zip(groups, shares, strict=True)
            if group.comparison is comparison and (group.scoring == "standard" or group.problems)
        ]
        comparisons.append({"first": comparison.first, "second": comparison.second, "groups": parts})
    return {"comparisons": comparisons, "shown": sum(shares), "n": sum(len(group.problems) for group in groups)}


class _Flipped(NamedTuple):
    """Problems whose verdict changed one way, under one scoring."""

    comparison: Comparison
    scoring: str
    kind: str
    problems: list[str]


def _flipped(comparisons: Sequence[Comparison], scoring: str) -> Iterator[_Flipped]:
    """Lost and gained of every comparison; under the paper's scoring, those alone that the standard one has not."""
    for comparison in comparisons:
        standard = comparison.standard
        difference = standard if scoring == "standard" else comparison.paper
        seen = set() if scoring == "standard" else {*standard.lost, *standard.gained}
        for kind, problems in (("lost", difference.lost), ("gained", difference.gained)):
            yield _Flipped(comparison, scoring, kind, [problem for problem in problems if problem not in seen])


def _dealt(sizes: Sequence[int], room: int) -> list[int]:
    """How many of each group there is room for, dealt out one by one."""
    shares = [0] * len(sizes)
    while room > 0 and shares != list(sizes):
        for i, size in enumerate(sizes):
            if shares[i] < size and room > 0:
                shares[i] += 1
                room -= 1
    return shares


def _flip(record: Record, answers: Mapping[str, Mapping[str, Answer]], group: _Flipped, problem: str) -> dict[str, Any]:
    names = (group.comparison.first, group.comparison.second)
    failing = names[0] if group.kind == "gained" else names[1]
    return {
        "problem": problem,
        "failed": failing,
        "reason": answers[failing][problem].reason[group.scoring],
        "prompt": record.problems[problem],
        "sides": [_side(name, answers[name][problem]) for name in names],
    }


def _side(name: str, answer: Answer) -> dict[str, Any]:
    return {
        "name": name,
        "text": answer.completion,
        "verdicts": [
            {"scoring": scoring, "passed": answer.passed[scoring], "reason": answer.reason[scoring]}
            for scoring in ("standard", "paper")
        ],
        "form": form_name(answer.format),
        "tokens": answer.n_tokens,
        "truncated": answer.truncated,
    }
