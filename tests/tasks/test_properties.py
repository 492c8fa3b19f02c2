"""What holds of the judge of mathematics whatever the answer: examples are drawn by hundreds and judged at once."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s0.tasks.math import latex
from s0.tasks.math.comparers import Comparers
from s0.tasks.math.scoring import decide
from s0.tasks.math.worker import Limits
from s0.tasks.sandbox import Verdict
from tests.tasks.mutations.trial import Pair

N_EXAMPLES = 150
CPU_S = 2.0


@pytest.fixture(scope="module")
def comparers() -> Iterator[Comparers]:
    opened = Comparers(Limits(cpu_s=CPU_S))
    yield opened
    opened.close()


def drawn(examples: st.SearchStrategy[Any], count: int = N_EXAMPLES) -> list[Any]:
    """Examples, always the same ones; drawn first, so that all are judged in one go."""
    collected: list[Any] = []

    @settings(max_examples=count)
    @given(examples)
    def collect(example: Any) -> None:
        collected.append(example)

    collect()
    return collected


def verdicts(comparers: Comparers, pairs: list[Pair]) -> list[Verdict]:
    decided = [decide(latex.tidy(right), latex.tidy(answer)) for right, answer in pairs]
    compared = iter(comparers.judge([verdict for verdict in decided if not isinstance(verdict, bool)]))
    return [Verdict(verdict, "by letters") if isinstance(verdict, bool) else next(compared) for verdict in decided]


def judged(comparers: Comparers, pairs: list[Pair], passed: bool) -> list[Pair]:
    """The pairs, either way round, of which the judge says that they pass, or that they fail."""
    both = [*pairs, *((answer, right) for right, answer in pairs)]
    return [pair for pair, verdict in zip(both, verdicts(comparers, both), strict=True) if verdict.passed is passed]


# --- Numbers ---

_SIGNS = st.sampled_from([-1, 1])
_DECIMAL_FRACTIONS = st.builds(
    lambda digits, places, sign: sign * Fraction(digits, 10**places),
    st.integers(0, 10**7),
    st.integers(0, 5),
    _SIGNS,
)
_RATIONALS = st.builds(
    lambda top, bottom, sign: sign * Fraction(top, bottom), st.integers(0, 9999), st.integers(1, 999), _SIGNS
)


def decimal(value: Fraction) -> str | None:
    """Without trailing zeros; None of a fraction whose decimals never end."""
    for places in range(12):
        shifted = abs(value) * 10**places
        if shifted.denominator == 1:
            digits = str(shifted.numerator).rjust(places + 1, "0")
            point = len(digits) - places
            return ("-" if value < 0 else "") + digits[:point] + ("." + digits[point:] if places else "")
    return None


def spellings(value: Fraction) -> list[str]:
    minus, top, bottom = "-" if value < 0 else "", abs(value.numerator), value.denominator
    texts = [
        f"{minus}\\frac{{{top}}}{{{bottom}}}",
        f"{minus}\\dfrac{{{3 * top}}}{{{3 * bottom}}}",
        f"{minus}{top}/{bottom}",
    ]
    whole, rest = divmod(top, bottom)
    if whole and rest:
        texts += [f"{minus}{whole}\\frac{{{rest}}}{{{bottom}}}", f"{minus}{whole} \\frac{{{rest}}}{{{bottom}}}"]
    if (digits := decimal(value)) is not None:
        texts += [digits, f"${digits}$", f"{digits}0" if "." in digits else f"{digits}.00"]
        before, point, after = digits.lstrip("-").partition(".")
        texts.append(f"{minus}{int(before):,}{point}{after}")
        texts.append(f"{minus}{int(before):,}{point}{after}".replace(",", "{,}"))
        significant = (before + after).lstrip("0")
        if significant:
            power = len(before) - 1 - (len(before + after) - len(significant))
            texts.append(f"{minus}{significant[0]}.{significant[1:] or 0} \\times 10^{{{power}}}")
    return texts


def _spelled(value: Fraction) -> st.SearchStrategy[str]:
    return st.sampled_from(spellings(value))


_VALUES = _RATIONALS | _DECIMAL_FRACTIONS
_SAME_NUMBERS = _VALUES.flatmap(lambda value: st.tuples(_spelled(value), _spelled(value)))
_SIZES = st.sampled_from([Fraction(1, 10**5), Fraction(1, 7), Fraction(1), Fraction(100)])
_STEPS = st.builds(lambda size, sign: sign * size, _SIZES, _SIGNS)
_OTHER_NUMBERS = st.tuples(_VALUES, _STEPS).flatmap(
    lambda both: st.tuples(_spelled(both[0]), _spelled(both[0] + both[1]))
)


def test_spellings_of_one_number_agree(comparers: Comparers) -> None:
    assert judged(comparers, drawn(_SAME_NUMBERS), False) == []


def test_different_numbers_differ_in_any_spelling(comparers: Comparers) -> None:
    assert judged(comparers, drawn(_OTHER_NUMBERS), True) == []


def test_a_share_is_its_per_cent(comparers: Comparers) -> None:
    shares = drawn(st.integers(1, 9999).map(lambda number: Fraction(number, 10**4)), 100)
    assert judged(comparers, [(f"{decimal(100 * share)}\\%", str(decimal(share))) for share in shares], False) == []
    assert judged(comparers, [(f"{decimal(100 * share)}\\%", f"{decimal(share)}\\%") for share in shares], True) == []


# --- Formulas ---


def polynomial(terms: list[tuple[int, str]]) -> str:
    return " ".join(_term(*term) for term in terms).removeprefix("+ ")


def _term(factor: int, power: str) -> str:
    return f"{'-' if factor < 0 else '+'} {'' if abs(factor) == 1 and power else abs(factor)}{power}"


def stepped(terms: list[tuple[int, str]], place: int, step: int) -> list[tuple[int, str]]:
    """One coefficient more or less."""
    at = place % len(terms)
    return [*terms[:at], (terms[at][0] + step, terms[at][1]), *terms[at + 1 :]]


_POWERS = ("", "x", "x^2", "x^3", "y", "xy", "x^{10}", "\\sqrt{2}", "\\pi", "i")
_FACTORS = st.integers(-99, 99).filter(bool)
_TERMS = st.lists(st.tuples(_FACTORS, st.sampled_from(_POWERS)), min_size=1, max_size=5, unique_by=lambda term: term[1])
_SAME_POLYNOMIALS = _TERMS.flatmap(
    lambda terms: st.tuples(st.just(polynomial(terms)), st.permutations(terms).map(polynomial))
)
_OTHER_POLYNOMIALS = st.builds(
    lambda terms, place, step: (polynomial(terms), polynomial(stepped(terms, place, step))),
    _TERMS,
    st.integers(0, 4),
    st.sampled_from([-200, -1, 1, 100]),
)
_ROOTS = st.tuples(st.integers(-20, 20), st.integers(-20, 20))


def test_terms_may_come_in_any_order(comparers: Comparers) -> None:
    assert judged(comparers, drawn(_SAME_POLYNOMIALS, 100), False) == []


def test_another_coefficient_is_another_polynomial(comparers: Comparers) -> None:
    assert judged(comparers, drawn(_OTHER_POLYNOMIALS, 100), True) == []


def test_a_product_is_its_expansion_and_no_other(comparers: Comparers) -> None:
    factored = {(p, q): f"(x {p:+})(x {q:+})" for p, q in drawn(_ROOTS, 50)}
    right = [(text, polynomial([(1, "x^2"), (p + q, "x"), (p * q, "")])) for (p, q), text in factored.items()]
    wrong = [(text, polynomial([(1, "x^2"), (p + q, "x"), (p * q + 1, "")])) for (p, q), text in factored.items()]
    assert judged(comparers, right, False) == []
    assert judged(comparers, wrong, True) == []


# --- Sets, tuples and intervals ---

_ELEMENTS = st.lists(_RATIONALS | st.integers(-50, 50).map(Fraction), min_size=2, max_size=5, unique=True)


def _written(value: Fraction) -> str:
    return spellings(value)[0] if value.denominator > 1 else str(value)


def _listed(values: list[Fraction]) -> list[str]:
    texts = [_written(value) for value in values]
    inner = ", ".join(texts)
    return [
        inner,
        f"\\{{{inner}\\}}",
        f"\\left\\{{ {inner} \\right\\}}",
        f"{', '.join(texts[:-1])} \\text{{ and }} {texts[-1]}",
    ]


_SAME_SETS = _ELEMENTS.flatmap(
    lambda values: st.tuples(
        st.sampled_from(_listed(values)), st.permutations(values).flatmap(lambda other: st.sampled_from(_listed(other)))
    )
)


def test_a_set_has_no_order(comparers: Comparers) -> None:
    assert judged(comparers, drawn(_SAME_SETS), False) == []


def test_another_element_more_or_less_is_another_set(comparers: Comparers) -> None:
    pairs = []
    for values in drawn(_ELEMENTS, 60):
        text = _listed(values)[len(pairs) % 4]
        pairs += [(text, _listed([*values, Fraction(77)])[1]), (text, _listed([values[0] + 101, *values[1:]])[1])]
        pairs.append((text, _written(values[0])))
    assert judged(comparers, pairs, True) == []


def test_a_tuple_has_an_order(comparers: Comparers) -> None:
    pairs = [(values, [*values[1:], values[0]]) for values in drawn(_ELEMENTS, 100)]
    tuples = [tuple(f"({', '.join(map(_written, values))})" for values in pair) for pair in pairs]
    assert judged(comparers, tuples, True) == []  # type: ignore[arg-type]
    assert judged(comparers, [(text, text.replace("(", "\\left( ")) for text, _ in tuples], False) == []


_ENDS = st.tuples(st.integers(-50, 50), st.integers(1, 50), st.booleans(), st.booleans())


def interval(low: int, high: int, low_belongs: bool, high_belongs: bool) -> str:
    return f"{'[' if low_belongs else '('}{low}, {high}{']' if high_belongs else ')'}"


def inequalities(low: int, high: int, low_belongs: bool, high_belongs: bool) -> list[str]:
    at_least, at_most = (("\\le", "<")[not belongs] for belongs in (low_belongs, high_belongs))
    down, up = (("\\geq", ">")[not belongs] for belongs in (high_belongs, low_belongs))
    return [
        f"{low} {at_least} x {at_most} {high}",
        f"{high} {down} x {up} {low}",
        f"x \\in {interval(low, high, low_belongs, high_belongs)}",
    ]


def test_an_interval_is_its_inequality_and_no_other(comparers: Comparers) -> None:
    right, wrong = [], []
    for number, (low, width, *belong) in enumerate(drawn(_ENDS, 60)):
        text = interval(low, low + width, *belong)
        right.append((text, inequalities(low, low + width, *belong)[number % 3]))
        wrong.append((text, inequalities(low, low + width, not belong[0], belong[1])[number % 3]))
        wrong.append((text, inequalities(low, low + width, belong[0], not belong[1])[number % 3]))
        wrong.append((text, inequalities(low, low + width + 1, *belong)[number % 3]))
    assert judged(comparers, right, False) == []
    assert judged(comparers, wrong, True) == []


UNBOUNDED = {">": "({}, \\infty)", "\\ge": "[{}, \\infty)", "<": "(-\\infty, {})", "\\le": "(-\\infty, {}]"}


def test_one_bound_is_an_unbounded_interval(comparers: Comparers) -> None:
    right, wrong = [], []
    for end in range(-30, 31, 3):
        for sign, form in UNBOUNDED.items():
            right.append((f"x {sign} {end}", form.format(end)))
            wrong += [(f"x {sign} {end}", other.format(end)) for other in UNBOUNDED.values() if other != form]
    assert judged(comparers, right, False) == []
    assert judged(comparers, wrong, True) == []


# --- Any text ---

_ANSWERS = r"""
18 ; -\frac{3}{4} ; 2x + 3 ; (1, 2) ; \{1, 2\} ; [0, 3) ; x \le 5 ; \sqrt{2} ; 3\pi ; \text{east} ; 0.25 ; 1,234
\begin{pmatrix} 1 \\ 2 \end{pmatrix} ; 1 \pm \sqrt{5} ; 2^{10} ; 5 \text{ cm} ; 44\% ; 2516_8 ; 30^\circ
(-\infty, 2) \cup (3, \infty) ; 6 - 5i ; \sin x ; \binom{5}{2} ; f(2) < f(1)
"""
ANSWERS = [answer.strip() for line in _ANSWERS.strip().splitlines() for answer in line.split(";")]
_COMMANDS = r"""
\ \\ \frac \sqrt \text{ \left \right \pm \cup \infty \pi \in \le \{ \} \circ \begin{pmatrix} \end{pmatrix} \int \sum
\lim \log \cdot \overline \emptyset \mathbb{R} \ldots
"""
_CHARACTERS = "0123456789+-*/^_=<>()[]{}|!,.;:%$&'\"~ abcefixyzAC\n\x00\N{MINUS SIGN}\N{GREEK SMALL LETTER PI}½"
_TOKENS = st.sampled_from([*_CHARACTERS, *_COMMANDS.split()])
_CHANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), st.lists(_TOKENS, max_size=3)), max_size=4)


def changed(text: str, changes: list[tuple[int, int, list[str]]]) -> str:
    """Some characters cut out and tokens put in, at several places."""
    for place, cut, tokens in changes:
        start = place % (len(text) + 1)
        text = text[:start] + "".join(tokens) + text[start + cut :]
    return text


_NEAR = st.tuples(st.sampled_from(ANSWERS), _CHANGES).map(lambda both: (both[0], changed(*both)))


def test_arguments_can_be_swapped(comparers: Comparers) -> None:
    answers = st.sampled_from(ANSWERS)
    pairs = drawn(st.tuples(answers, answers) | _SAME_NUMBERS | _OTHER_NUMBERS | _NEAR)
    one_way = verdicts(comparers, pairs)
    other_way = verdicts(comparers, [(answer, right) for right, answer in pairs])
    unlike = [pair for pair, *both in zip(pairs, one_way, other_way, strict=True) if both[0].passed != both[1].passed]
    assert unlike == []


def test_any_text_near_an_answer_is_judged_within_the_limit(comparers: Comparers) -> None:
    pairs = drawn(_NEAR, 300)
    reasons = {pair: verdict.reason for pair, verdict in zip(pairs, verdicts(comparers, pairs), strict=True)}
    assert {pair: reason for pair, reason in reasons.items() if reason in ("timeout", "scorer failed")} == {}
