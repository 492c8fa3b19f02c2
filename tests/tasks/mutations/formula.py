r"""The values of formulas in LaTeX, worked out while they are read, at a point that gives every variable a value."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import mpmath

_LARGEST = 10**7
"""Exponents and arguments of factorials above this are not worked out."""


class Unreadable(Exception):
    """The text has no meaning that this module can work out."""


def value_at(text: str, point: int) -> Any:
    """The value of a formula at a point.

    Raises:
        Unreadable: it is none, or has two readings, or no finite value there.
    """
    return _Formula(text, point).value()


def real(value: Any) -> Any:
    """A value with an order.

    Raises:
        Unreadable: it is complex.
    """
    if isinstance(value, mpmath.mpc):
        if value.imag != 0:
            raise Unreadable("an order of complex numbers")
        return value.real
    return value


def _at(name: str, point: int) -> Any:
    """The value of a variable at a point: positive at the first two, negative at the third, of either sign later."""
    drawn = random.Random(f"{point} {name}")
    size = mpmath.mpf(drawn.randrange(300_000, 2_300_000)) / 1_000_000
    return -size if point == 2 or (point > 2 and drawn.random() < 0.5) else size


_CONSTANTS: dict[str, Callable[[], Any]] = {"e": lambda: +mpmath.e, "i": lambda: mpmath.mpc(0, 1)}
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    **{name: getattr(mpmath, name) for name in ("sin", "cos", "tan", "cot", "sec", "csc", "exp", "sinh", "cosh")},
    "arcsin": mpmath.asin, "arccos": mpmath.acos, "arctan": mpmath.atan, "ln": mpmath.log,
    "log": lambda value: mpmath.log(value, 10),
}  # fmt: skip
_GREEK = re.compile(r"\\(?:alpha|beta|gamma|delta|theta|lambda|mu|phi|omega)(?![a-zA-Z])")
_COMMAND = re.compile(r"\\([a-zA-Z]+)\s*")
_LITERAL = re.compile(r"\d+(?:\.(\d*)\\overline\{(\d+)\}|\.\d+)?|\.\d+|\.\\overline\{(\d+)\}")
_MIXED = re.compile(r"(\d+)\s*\\frac\s*\{(\d+)\}\s*\{(\d+)\}|(\d+)\s+(\d+)/(\d+)(?![\da-zA-Z(\\])")


class _Formula:
    """One formula, worked out at one point while it is read."""

    def __init__(self, text: str, point: int) -> None:
        self._text = _explicit_arguments(text)
        self._point = point
        self._place = 0
        self._bars = 0

    def value(self) -> Any:
        value = self._sum()
        if self._peek():
            raise Unreadable(f"{self._text[self._place :]!r} is left over")
        if not mpmath.isfinite(value):
            raise Unreadable("no finite value")
        return value

    def _peek(self) -> str:
        while self._text[self._place : self._place + 1].isspace():
            self._place += 1
        return self._text[self._place : self._place + 1]

    def _takes(self, *texts: str) -> str:
        self._peek()
        for text in texts:
            end = self._place + len(text)
            whole = not text[-1:].isalpha() or not self._text[end : end + 1].isalpha()
            if self._text.startswith(text, self._place) and whole:
                self._place = end
                return text
        return ""

    def _expect(self, text: str) -> None:
        if not self._takes(text):
            raise Unreadable(f"{text!r} is missing")

    def _sum(self) -> Any:
        total = self._product()
        while sign := self._takes("+", "-"):
            term = self._product()
            total = total - term if sign == "-" else total + term
        return total

    def _product(self) -> Any:
        if sign := self._takes("-", "+"):
            value = self._product()
            return -value if sign == "-" else value
        value = self._power()
        while True:
            if self._takes("\\cdot", "\\times", "*"):
                value *= -self._power() if self._takes("-") else self._power()
            elif self._takes("/", ":"):
                value /= self._power()
                if self._starts_factor():
                    raise Unreadable("a slash before a product")
            elif self._starts_factor():
                if self._peek().isdigit() or self._peek() == ".":
                    raise Unreadable("a number behind a factor")
                value *= self._power()
            else:
                return value

    def _starts_factor(self) -> bool:
        character = self._peek()
        if character == "|":
            return not self._bars
        if character == "\\":
            return not self._text.startswith(("\\cdot", "\\times", "\\rfloor", "\\rceil"), self._place)
        return character.isalnum() or character in ("(", "{", ".")

    def _power(self) -> Any:
        value = self._atom()
        while True:
            if self._takes("^\\circ"):
                value *= mpmath.pi / 180
            elif self._takes("^"):
                value = _raised(value, self._argument())
            elif self._takes("!"):
                if abs(value) > _LARGEST:
                    raise Unreadable("a factorial of that")
                value = mpmath.factorial(value)
            else:
                return value

    def _argument(self) -> Any:
        self._expect("{")
        value = self._sum()
        self._expect("}")
        return value

    def _atom(self) -> Any:
        character = self._peek()
        if character.isdigit() or character == ".":
            return self._literal()
        if self._takes("("):
            return self._until(")")
        if self._takes("{"):
            return self._until("}")
        if self._takes("|"):
            self._bars += 1
            value = abs(self._until("|"))
            self._bars -= 1
            return value
        if character.isalpha():
            return self._name()
        if character == "\\":
            return self._command()
        raise Unreadable(f"{character!r} where a number should be")

    def _until(self, closing: str) -> Any:
        bars, self._bars = self._bars, self._bars if closing == "|" else 0
        value = self._sum()
        self._expect(closing)
        self._bars = bars
        return value

    def _literal(self) -> Any:
        if match := _MIXED.match(self._text, self._place):
            self._place = match.end()
            whole, top, bottom = (int(digits) for digits in match.groups() if digits is not None)
            return whole + mpmath.mpf(top) / bottom
        match = _LITERAL.match(self._text, self._place)
        if match is None:
            raise Unreadable("no number")
        self._place = match.end()
        again = match[2] or match[3]
        if again is None:
            return mpmath.mpf(match[0])
        once = match[1] or ""
        whole = match[0].partition(".")[0] or "0"
        return mpmath.mpf(f"{whole}.{once or 0}") + mpmath.mpf(int(again)) / (10 ** len(again) - 1) / 10 ** len(once)

    def _name(self) -> Any:
        letter = self._peek()
        self._place += 1
        name = letter + self._mark()
        if letter in "fgh" and self._takes("("):
            return _at(f"{name}({mpmath.nstr(self._until(')'), 20)})", self._point)
        return _CONSTANTS[name]() if name in _CONSTANTS else _at(name, self._point)

    def _mark(self) -> str:
        """Primes and subscript of a name."""
        match = re.compile(r"'*(?:_\{([\w,]+)\})?").match(self._text, self._place)
        self._place = match.end() if match else self._place
        return match[0] if match else ""

    def _command(self) -> Any:
        if match := _GREEK.match(self._text, self._place):
            self._place = match.end()
            return _at(match[0] + self._mark(), self._point)
        match = _COMMAND.match(self._text, self._place)
        if match is None:
            raise Unreadable("no command")
        self._place = match.end()
        if match[1] == "pi":
            return +mpmath.pi
        if match[1] == "frac":
            return self._argument() / self._argument()
        if match[1] == "binom":
            return mpmath.binomial(self._argument(), self._argument())
        if match[1] == "sqrt":
            degree = self._until("]") if self._takes("[") else 2
            return _raised(self._argument(), mpmath.mpf(1) / degree)
        if match[1] in ("lfloor", "lceil"):
            value = real(self._until("\\r" + match[1][1:]))
            return mpmath.floor(value) if match[1] == "lfloor" else mpmath.ceil(value)
        if match[1] == "overline":
            end = self._text.index("}", self._place) + 1
            self._place, name = end, self._text[self._place : end]
            return _at(f"overline {name}", self._point)
        if match[1] in _FUNCTIONS:
            return self._function(match[1])
        raise Unreadable(f"\\{match[1]}")

    def _function(self, name: str) -> Any:
        work_out = _FUNCTIONS[name]
        if name == "log" and self._takes("_"):
            base = self._argument()
            work_out = lambda value: mpmath.log(value, base)  # noqa: E731
        exponent = self._argument() if self._takes("^") else mpmath.mpf(1)
        if exponent == -1:
            raise Unreadable("an inverse or a reciprocal")
        if self._peek() == "(":
            value = self._power()
        else:
            value = self._power()
            while self._starts_factor() and not self._text.startswith("\\", self._place):
                value *= self._power()
            if self._starts_factor() and self._takes("\\pi"):
                value *= mpmath.pi
        return _raised(work_out(value), exponent)


_TOKEN = r"\\pi(?![a-zA-Z])|[\da-zA-Z]"
_GROUP = r"\{(?:[^{}]|\{[^{}]*\})*\}"


def _explicit_arguments(text: str) -> str:
    r"""Braces around every argument: `\frac12`, `\sqrt3`, `x^2`, `x_1`."""
    text = re.sub(r"\\sqrt\s*([\da-zA-Z])", r"\\sqrt{\1}", text)
    text = re.sub(rf"\\frac\s*({_TOKEN})", r"\\frac{\1}", text)
    text = re.sub(rf"(\\frac{_GROUP})\s*({_TOKEN})", r"\1{\2}", text)
    if re.search(r"\^-?\d\d|_\d\d", text):
        raise Unreadable("several digits behind ^ or _")
    return re.sub(rf"([\^_])\s*({_TOKEN})", r"\1{\2}", text)


def _raised(base: Any, exponent: Any) -> Any:
    if abs(exponent) > _LARGEST:
        raise Unreadable("a power of that size")
    if base == 0 and real(exponent) <= 0:
        raise Unreadable("a negative power of zero")
    return mpmath.power(base, exponent)
