"""Asking a judge about mutations: how many there are, how many are shown to be wrong, and which of them pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.tasks.mutations.kinds import KINDS, explicit
from tests.tasks.mutations.meaning import differ

Pair = tuple[str, str]
"""A right answer, and what was made of it."""
Judge = Callable[[Sequence[Pair]], Sequence[bool]]
"""Whether the second of each pair passes for the first."""


@dataclass
class Tally:
    """Of the mutations of one kind.

    Attributes:
        same: those that mean what the right answer means, so that they are no mutations.
        wrong: those shown to mean something else.
        dropped: those that are neither shown to be the same nor to be wrong.
        passes: of `wrong`, those that the judge let pass.
    """

    same: int = 0
    wrong: list[Pair] = field(default_factory=list)
    dropped: list[Pair] = field(default_factory=list)
    passes: list[Pair] = field(default_factory=list)

    @property
    def made(self) -> int:
        """All that change the text and may change the value."""
        return len(self.wrong) + len(self.dropped)


def mutations(golds: Iterable[str], kinds: Iterable[str] = tuple(KINDS)) -> dict[str, Tally]:
    """The mutations of all different right answers, by kind; nobody has judged them yet."""
    tallies = {kind: Tally() for kind in kinds}
    for gold in dict.fromkeys(golds):
        for kind, tally in tallies.items():
            for answer in _answers(kind, gold):
                different = differ(gold, answer)
                if different is False:
                    tally.same += 1
                else:
                    (tally.wrong if different else tally.dropped).append((gold, answer))
    return tallies


def _answers(kind: str, gold: str) -> Iterator[str]:
    text = explicit(gold)
    return iter(dict.fromkeys(answer for answer in KINDS[kind](text) if answer not in (text, gold)))


def trial(golds: Iterable[str], judge: Judge, kinds: Iterable[str] = tuple(KINDS)) -> dict[str, Tally]:
    """The mutations of right answers, by kind, with those that `judge` lets pass; equal pairs are judged once."""
    tallies = mutations(golds, kinds)
    pairs = list(dict.fromkeys(pair for tally in tallies.values() for pair in tally.wrong))
    passed = {pair for pair, passes in zip(pairs, judge(pairs), strict=True) if passes}
    for tally in tallies.values():
        tally.passes = [pair for pair in tally.wrong if pair in passed]
    return tallies


def share_dropped(tallies: dict[str, Tally]) -> float:
    """Of all mutations that may change the value, those of which that cannot be shown."""
    made = sum(tally.made for tally in tallies.values())
    return sum(len(tally.dropped) for tally in tallies.values()) / made if made else 0.0
