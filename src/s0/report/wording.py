"""How a report writes: figures, hostile text, and what was found, in words."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence

from msgspec import UNSET

from s0.record import HELPED, HURT, LEVEL, UNCLEAR, Comparison, Record

_NAME = 40  # characters of a variant's name in a sentence
_LINE = 160  # characters of a row's id and what is said of it
_NAMED = 8  # rows or problems that are named
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, formats (bidi, zero width), surrogates, unassigned


FORMS = {
    "body_unindented": "a body without its leading white space",
    "concluded": "what a reply without a box or an announcement ends with",
    "other_name": "a function that was not asked for",
    "unparsable": "nothing that can be read as an answer",
}
"""What the forms of answers are that do not speak for themselves."""


FEW_PROBLEMS = 40


def problems_asked(record: Record) -> str:
    """How many problems; of how many, where the split has more."""
    n, of_problems = record.n_problems, record.of_problems
    return f"{n} problems" if of_problems is UNSET else f"{n} of {of_problems} problems"


def only_some(record: Record) -> str:
    """That the split has more problems than were asked; often nothing."""
    if record.of_problems is UNSET:
        return ""
    return f"only {problems_asked(record)} of the split were asked; a figure for all of them may be another"


def too_little_to_ask(record: Record) -> str:
    """Why these problems can show no difference, or a large one alone; nothing where they can show a small one.

    With fewer than six flips, all one way, McNemar's exact p is above 0.05.
    """
    n = record.n_problems
    if n < 6:
        problems = "1 problem" if n == 1 else f"{n} problems"
        return f"{problems} cannot show any difference: it takes at least six gained and none lost"
    if record.final[record.untouched].pass_at_1.standard.value == 1:
        return f"the untouched model solves all {n} problems, so nothing can be gained; ask harder ones"
    if n < FEW_PROBLEMS:
        least = points(6 / n)
        return f"{n} problems show only a large difference: six gained and none lost, {least} points, is the least"
    return ""


def left_out(rows: Sequence[str]) -> str:
    """Which rows of the data are in no score, with the reasons; nothing where all are."""
    return f"left out of every score, {_n(rows, 'row')}: {_some(rows)}" if rows else ""


def not_judged(record: Record) -> Iterator[str]:
    """A line for each variant with greedy or drawn answers that could not be judged: to which problems, and why."""
    greedy = [(name, "", summary.not_judged) for name, summary in record.final.items()]
    sampled = {} if record.sampled is None else record.sampled.final
    drawn = [(name, ", samples", summary.not_judged) for name, summary in sampled.items()]
    for name, which, reasons in [*greedy, *drawn]:
        named = [f"{problem} ({reason})" for problem, reason in reasons.items()]
        if named:
            whose = f"{shortened(name, _NAME)}{which}"
            yield f"{whose}: not judged, and counted as failed, answers to {_n(named, 'problem')}: {_some(named)}"


def _n(items: Sequence[str], name: str) -> str:
    return f"1 {name}" if len(items) == 1 else f"{len(items)} {name}s"


def _some(lines: Sequence[str]) -> str:
    """As many as a reader takes in; how many more there are."""
    named = "; ".join(shortened(line, _LINE) for line in lines[:_NAMED])
    return named if len(lines) <= _NAMED else f"{named}; and {len(lines) - _NAMED} more"


def form_name(form: str) -> str:
    """How the form of an answer is called where people read."""
    return form.replace("_", " ")


def form_words(forms: Iterable[str]) -> str:
    """What those of these forms are that need it, as one sentence."""
    return "; ".join(f"{form_name(form)}: {FORMS[form]}" for form in FORMS if form in forms)


def visible(text: str) -> str:
    """The text with every character that shows nothing, or moves its neighbours, written as its code point.

    Line feeds and tabs stay. What comes out can be encoded and is valid in HTML and XML.
    """
    return "".join(
        f"⟨U+{ord(char):04X}⟩" if char not in "\n\t" and unicodedata.category(char) in _UNSEEN else char
        for char in text
    )


def shortened(text: str, limit: int) -> str:
    """The text made visible, on one line, cut to `limit` characters."""
    line = " ".join(visible(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def percent(share: float) -> str:
    """A share of 1, as in "62.1%"."""
    return f"{100 * share:.1f}%"


def points(difference: float) -> str:
    """A difference of shares in percentage points with its sign, as in "+31.2"; the number alone."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def p_words(p_value: float) -> str:
    """A p-value with its relation, as in "= 0.034" and "< 0.001"."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.2g}" if p_value < 0.095 else f"= {p_value:.2f}"


def number(value: float) -> str:
    """A figure with four digits that count; whole numbers in groups of three."""
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) and abs(value) >= 1000):
        return f"{int(value):,}"
    return f"{value:.4g}".replace("-", "−")


def reservation(comparison: Comparison) -> str:
    """What must be said with the effect so that it does not mislead; often nothing."""
    standard, paper = comparison.standard, comparison.paper
    said = []
    if comparison.effect == UNCLEAR and not standard.low <= 0 <= standard.high:
        side = "above" if standard.low > 0 else "below"
        if standard.p_value > LEVEL:
            said.append(f"The interval lies {side} 0, but so few verdicts flipped that the exact test does not agree.")
        else:
            said.append(f"The interval lies {side} 0, but not clearly so among this many comparisons (Holm).")
    if says_format(comparison):
        said.append("The gain under the paper’s scoring is a gain in format, not in skill.")
    if paper.high < 0 <= standard.high:
        said.append("The loss under the paper’s scoring is a loss in format, not in skill.")
    return " ".join(said)


def finding(comparison: Comparison, bases: Collection[str]) -> str:
    """The effect as a clause about the two variants; `bases` are those that nothing was done to."""
    first, second = (shortened(name, _NAME) for name in (comparison.first, comparison.second))
    effect = comparison.effect
    if comparison.first in bases and comparison.second not in bases:
        return f"{second} made {effect}" if effect == UNCLEAR else f"{second} {effect}"
    words = {HELPED: f"{second} is better than {first}", HURT: f"{second} is worse than {first}"}
    return words.get(effect, f"{effect} between {second} and {first}")


def headline(record: Record) -> str:
    """One sentence for the whole record: what tuning was found to do, or how many problems the first variant solved."""
    untouched, gains = record.untouched, record.gains
    if not gains:
        rate = record.final[untouched].pass_at_1.standard
        return f"{shortened(untouched, _NAME)} solved {percent(rate.value)} of {rate.n} problems"
    clauses = []
    for effect, verb in ((HELPED, HELPED), (HURT, HURT), (UNCLEAR, f"made {UNCLEAR}")):
        clauses += [f"{names} {verb}" for names in _named([each for each in gains if each.effect == effect])]
    for names in _named([comparison for comparison in gains if says_format(comparison)]):
        clauses.append(f"what {names} gained under the paper’s scoring is format")
    return "; ".join(clauses)


def _named(compared: Sequence[Comparison]) -> list[str]:
    """The second variants as one subject of a sentence, or nothing; more than three are counted."""
    names = [shortened(comparison.second, _NAME) for comparison in compared]
    if len(names) > 3:
        return [f"{len(names)} variants"]
    return [" and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)] if names else []


def says_format(comparison: Comparison) -> bool:
    """Whether a variant gains under the paper's scoring and not under the standard one."""
    return comparison.standard.low <= 0 < comparison.paper.low
