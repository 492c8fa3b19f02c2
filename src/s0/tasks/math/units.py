r"""What stands around a quantity: unit, currency, per cent and degree signs.

A unit stands at the end, in `\text{...}` (any noun) or bare (known units of two letters or more, and after a number any
noun of four). It counts only where both sides have one: then it must be the same, with the same power (`cm^2` is
`square centimetres` and not `cm`). Words that are no units (`or not`, `percent more`) leave an answer without a value;
`million` multiplies. A degree is pi/180 where the other side has none, or a bare number; per cent are a bare number, or
hundredths up to the whole, and no number with a unit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNITS = """
cm centimeter centimetre|mm millimeter millimetre|m meter metre|km kilometer kilometre|in inch inche|ft foot feet|
yd yard|mi mile|s sec second|min minute|h hr hour|day|week|month|yr year|cent|dollar usd|pound gbp|euro eur|yen|
radian rad|am|pm|g gm gram|kg kilogram|mg milligram|lb|oz ounce|ton|l liter litre|ml milliliter milliliter|n newton|
j joule|w watt|v volt|hz hertz|mph|kph|unit
"""
_KNOWN = {name: names.split()[0] for names in _UNITS.split("|") for name in names.split()}
_BARE = "|".join(
    f"{name}s?" for name in sorted(_KNOWN, key=len, reverse=True) if len(name) > 1 and name not in ("sec", "rad")
)
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_NO_UNITS = """
or and not no nor but if is are was than more less least most minus plus times over by half halves third quarter
fourth fifth tenth hundredth thousandth dozen percent mod modulo negative positive about around approximately other
either neither factorial root inverse power exponent to through until between below above under short up down fewer
except without unless versus approx roughly nearly almost only also wrong right false true maybe i we you it none
incorrect impossible doubled tripled halved repeating recurring thirds fourths fifths sixths sevenths eighths ninths
tenths hundredths thousandths dozens lakh crore
all any infinity solution squared cubed sqrt pi cbrt abs theta alpha beta gamma delta lambda omega sigma zero one
two three four five six seven eight nine ten eleven twelve
"""
_NOT_A_UNIT = frozenset(_NO_UNITS.split())
_FRACTION_WORD = re.compile("|".join(_SCALES))
_POWER = r"(?: ?\^ ?\{? ?(\d) ?\}?)?"
_TEXT = rf"\\text\{{[^{{}}]*\}}{_POWER}"
_TEXT_UNIT = re.compile(rf"(?P<value>.*[\w\])}}!|'.]) ?(?P<unit>{_TEXT}(?: ?/ ?{_TEXT})?)")
_BARE_NAME = rf"(?:(?:sq\.?|square|cubic) )?(?:{_BARE})(?: ?(?:/|per) ?(?:{_BARE}))?"
_BARE_UNIT = re.compile(rf"(?P<value>.*[\d}})\]]|.*\\pi) ?(?P<unit>{_BARE_NAME}{_POWER})\.?")
_RATE = re.compile(r"(?P<value>-?[\d.,]*\d) (?P<unit>(?:k?m|cm|ft|mi|l|k?g)/(?:s|h|hr|min))")
_NOUN = re.compile(r"(?P<value>-?[\d.,/]*\d) (?P<unit>[a-z]{4,}(?: [a-z]{2,}){0,2})")
_MONEY = {"\\$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee"}
_SIGN = r"\\\$|[€£¥₹]"
_MONEY_BEFORE = re.compile(rf"(?P<minus>-? ?)(?P<sign>{_SIGN}) ?(?P<value>.+)")
_MONEY_AFTER = re.compile(rf"(?P<value>.*[\d}}.]) ?(?P<sign>{_SIGN})")
_DEGREES = re.compile(r"(?P<value>.*[\w})\]]) ?\^\\circ")
_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|arc\w+|log|ln)")
_SHARE = re.compile(r"(?:\d{1,2}(?:\.\d*)?|\.\d+|100(?:\.0*)?|\d{1,2}? ?\\frac ?(?:\{\d+\}|\d)(?:\{\d+\}|\d))%")


@dataclass(frozen=True)
class Quantity:
    """A formula and its unit; None has no unit."""

    value: str
    unit: str | None


def quantity(answer: str) -> Quantity:
    """A tidy answer taken apart."""
    if money := _MONEY_BEFORE.fullmatch(answer) or _MONEY_AFTER.fullmatch(answer):
        rest = quantity(f"{money.groupdict().get('minus') or ''}{money['value']}")
        unit = _MONEY[money["sign"]]
        if rest.unit is not None and rest.unit not in (unit, "unit"):
            unit = f"{unit} {rest.unit}"
        return Quantity(rest.value, unit)
    if (turn := _DEGREES.fullmatch(answer)) and not _FUNCTION.search(answer):
        return Quantity(turn["value"], "degree")
    match = _TEXT_UNIT.fullmatch(answer) or _BARE_UNIT.fullmatch(answer)
    match = match or _RATE.fullmatch(answer) or _NOUN.fullmatch(answer)
    if match is None:
        return Quantity(answer, None)
    scale, words = _unit(match["unit"])
    if words is None:
        return Quantity(answer, None)
    powers = [power for power in match.groups()[2:] if power]
    value = match["value"].strip()
    value = f"{value} \\cdot 10^{{{scale}}}" if scale else value
    return Quantity(value, " ".join([*words, *powers]) or None)


def _unit(text: str) -> tuple[int, list[str] | None]:
    """(power of ten, the unit's words, each by its one name); None where it can be no unit."""
    said = re.sub(r"\\text|[{}]|\^ ?\{? ?\d ?\}?", " ", text.lower())
    said = re.sub(r"\b([ap])\. ?m\b", r"\1m", said).replace(".", " ").replace("/", " per ")
    said = re.sub(r"\bmph\b", "mi per h", re.sub(r"\bkph\b", "km per h", said))
    if not re.fullmatch(r"[a-z '-]*", said) or len(said) > 60:
        return 0, None
    words = said.replace("-", " ").split()
    scale = 0
    while words and words[0] in _SCALES:
        scale += _SCALES[words.pop(0)]
    if any(word in _NOT_A_UNIT or _FRACTION_WORD.match(word) or not _is_noun(word) for word in words):
        return 0, None
    powers = {"square": "2", "sq": "2", "cubic": "3"}
    raised = [powers[word] for word in words if word in powers]
    return scale, [*(_singular(word) for word in words if word not in powers and word != "of"), *raised]


def _is_noun(word: str) -> bool:
    """A known unit, or long enough to be no variable and no ending of an ordinal number."""
    return len(word) > 2 or word in _KNOWN or word in ("of", "sq")


def _singular(word: str) -> str:
    return _KNOWN.get(word) or _KNOWN.get(word.removesuffix("s")) or word.removesuffix("s")


def units_differ(first: str | None, second: str | None) -> bool:
    """Whether both sides have a unit, and not the same; words that are no known units need only share one of them."""
    if first is None or second is None or first == second or {first, second} == {"degree", "radian"}:
        return False
    ours, theirs = {*first.split()}, {*second.split()}
    if "unit" in ours | theirs:
        return bool(({*"123"} & ours) ^ ({*"123"} & theirs)) and "unit" in ours & theirs
    known = {*_KNOWN.values(), *_MONEY.values(), *"123", "per", "degree"}
    return bool((ours ^ theirs) & known) or not ours & theirs


def readings(right: Quantity, answer: Quantity) -> list[tuple[str, str]]:
    """The pairs of formulas of which one must be equal."""
    if (right.unit == "degree") != (answer.unit == "degree"):
        return _turned(right, answer)
    ours, theirs = right.value, answer.value
    if ours.endswith("%") == theirs.endswith("%"):
        return [(ours.removesuffix("%").strip(), theirs.removesuffix("%").strip())]
    if right.unit or answer.unit:
        return []  # 1% is not 1 dollar
    return [(ours.removesuffix("%").strip(), theirs.removesuffix("%").strip()), *_shared(ours, theirs)]


def _turned(right: Quantity, answer: Quantity) -> list[tuple[str, str]]:
    """A degree on one side only: a bare number, unless the other side is radians, or radians."""
    ours, theirs = (_radians(side) for side in (right, answer))
    return [(ours, theirs)] if "radian" in (right.unit, answer.unit) else [(right.value, answer.value), (ours, theirs)]


def _radians(side: Quantity) -> str:
    return f"\\frac{{({side.value}) \\pi}}{{180}}" if side.unit == "degree" else side.value


def _shared(ours: str, theirs: str) -> list[tuple[str, str]]:
    """A per cent sign on one side only: hundredths, of a whole at most."""
    sides = [f"\\frac{{{side[:-1]}}}{{100}}" if _SHARE.fullmatch(side) else side for side in (ours, theirs)]
    return [] if "%" in "".join(sides) else [(sides[0], sides[1])]
