r"""Reading a formula, in LaTeX or as plain text, into sympy.

Every sign of it is read, or none: what this grammar does not know, or what people read in two ways, has no reading at
all, so nothing that changes a value is passed over.

    sum         [+-] product ([+-] product)*
    product     power (operator power | power)*     side by side is times; a number stands first in a product only
    power       atom (! | ^ exponent | ^\circ)*
    atom        number, letter, name of a function with its argument, fraction, root, brackets, bars, matrix

Two numbers side by side are a mixed number if the second is a proper fraction, else nothing. `1/2x`, `\sin x/2` and
`\sin(x)^2` have two readings. `\log` without a base has a base that nobody says. A letter with subscript, accent or
primes is one variable, and so is f, g or h of something. i is imaginary, e is Euler's number.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import sympy

from s0.tasks.math.functions import (
    ACCENTS,
    EXPONENTIAL_AND_INVERSES,
    GREEK_NAMES,
    LOGARITHMS,
    OF_SEVERAL,
    TRIGONOMETRIC,
    constant_or_variable,
    repeated,
)
from s0.tasks.math.tokens import Token, UnreadableError, tokens_of

_SPACED_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?: \d{3})+")
_UNSAID_BASE = sympy.Symbol("base of log")
_MATRICES = ("matrix", "pmatrix", "bmatrix", "array", "smallmatrix")
_OPENING = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
_CLOSING = ("\\rfloor", "\\rceil", "\\\\")


@lru_cache(256)
def read(text: str) -> Any:
    """The sympy expression or matrix that a tidy formula is; None where it has no reading."""
    if _SPACED_THOUSANDS.fullmatch(text.strip()):
        text = text.replace(" ", "")
    try:
        return _Reader(tokens_of(text)).whole()
    except (UnreadableError, TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError):
        return None  # sympy refuses some arguments: a matrix to the power of a matrix


class _Reader:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._bars = 0

    def whole(self) -> Any:
        value = self._sum()
        if self._tokens:
            raise UnreadableError(self._tokens[0].text)
        return value

    # --- Tokens, the next one first ---

    def _sees(self, *texts: str) -> bool:
        return bool(self._tokens) and self._tokens[0].text in texts

    def _sees_kind(self, kind: str, place: int = 0) -> bool:
        return len(self._tokens) > place and self._tokens[place].kind == kind

    def _take(self) -> Token:
        if not self._tokens:
            raise UnreadableError("the end")
        return self._tokens.pop(0)

    def _expect(self, text: str) -> None:
        if self._take().text != text:
            raise UnreadableError(text)

    # --- Sums and products ---

    def _sum(self) -> Any:
        value = self._signed(self._product)
        while self._sees("+", "-"):
            minus = self._take().text == "-"
            term = self._product()
            value = value - term if minus else value + term
        return value

    def _signed(self, read: Callable[[], Any]) -> Any:
        if self._sees("+", "-"):
            return -read() if self._take().text == "-" else read()
        return read()

    def _product(self) -> Any:
        starts_with_number = self._sees_kind("number")
        value = self._power()
        n_factors = 1
        after_slash, of_numbers = False, False
        while True:
            if self._sees("\\cdot", "\\times"):
                self._take()
                value, after_slash = value * self._signed(self._power), False
            elif self._sees("/"):
                self._take()
                of_numbers = n_factors == 1 and starts_with_number and self._sees_kind("number")
                value, after_slash = value / self._signed(self._power), True
            elif self._starts_a_factor():
                if self._sees_kind("number"):
                    raise UnreadableError("a number after a factor")
                if after_slash and not (of_numbers and self._tokens[0].spaced):
                    raise UnreadableError("1/2x")
                value, after_slash = value * self._power(), False
            else:
                return value
            n_factors += 1

    def _starts_a_factor(self) -> bool:
        if not self._tokens:
            return False
        token = self._tokens[0]
        if token.text == "|":
            return self._bars == 0
        if token.kind == "command":
            return token.text not in _CLOSING and not token.text.startswith("\\end")
        return token.kind in ("number", "letter") or token.text in ("(", "[", "{")

    # --- Powers ---

    def _power(self) -> Any:
        value = self._atom()
        raised = False
        while self._sees("!", "^"):
            if self._take().text == "!":
                if self._sees("!"):
                    raise UnreadableError("!!")
                value = sympy.factorial(value)
            elif self._sees("\\circ"):
                self._take()
                value = value * sympy.pi / 180
            elif raised:
                raise UnreadableError("2^3^2")
            else:
                value, raised = value ** self._exponent(), True
        return value

    def _exponent(self) -> Any:
        if self._sees("+", "-"):
            return self._signed(self._exponent)
        if self._sees_kind("number"):
            return self._number(self._take())
        return self._atom()

    # --- Atoms ---

    def _atom(self) -> Any:
        token = self._take()
        if token.kind == "number":
            return self._mixed(token)
        if token.kind == "letter":
            return self._letter(token.text)
        if token.text in _OPENING:
            return self._within(token.text)
        if token.text == "|":
            return self._absolute()
        if token.kind == "command":
            return self._command(token.text)
        raise UnreadableError(token.text)

    def _within(self, opening: str) -> Any:
        bars, self._bars = self._bars, 0
        value = self._sum()
        self._bars = bars
        self._expect(_OPENING[opening])
        rounded = {"\\lfloor": sympy.floor, "\\lceil": sympy.ceiling}.get(opening)
        return rounded(value) if rounded else value

    def _absolute(self) -> Any:
        if self._bars:
            raise UnreadableError("bars within bars")
        self._bars = 1
        value = self._sum()
        self._bars = 0
        self._expect("|")
        return sympy.Abs(value) if not isinstance(value, sympy.MatrixBase) else value.det()

    def _number(self, token: Token) -> Any:
        if self._sees("_"):
            return sympy.Symbol(f"{token.text}{self._subscript()}")
        if "." in token.text and self._sees("\\overline", "\\bar", "\\dot"):
            return self._repeating(token.text)
        if self._sees(".") or token.text == ".":
            return self._going_on(token.text)
        return sympy.Rational(token.text.replace(",", ""))

    def _repeating(self, start: str) -> Any:
        r"""`0.1\overline{6}` and `0.1\dot{6}`."""
        self._take()
        self._expect("{")
        again = self._take()
        self._expect("}")
        if not again.text.isdigit():
            raise UnreadableError(again.text)
        return repeated(start, again.text)

    def _going_on(self, digits: str) -> Any:
        """`0.333...`, where the last three digits at least are one."""
        for _ in range(3):
            self._expect(".")
        if "." not in digits or len(set(digits[-3:])) > 1 or "." in digits[-3:]:
            raise UnreadableError("...")
        return repeated(digits, digits[-1])

    def _mixed(self, token: Token) -> Any:
        value = self._number(token)
        if not token.text.replace(",", "").isdigit() or not self._tokens:
            return value
        if self._sees("\\frac") and (fraction := self._plain_fraction()):
            top, bottom = fraction
        elif (
            self._sees_kind("number")
            and self._tokens[0].spaced
            and len(self._tokens) > 2
            and self._tokens[1].text == "/"
        ):
            top, bottom = self._tokens[0].text, self._tokens[2].text
            del self._tokens[:3]
        else:
            return value
        if not (top.isdigit() and bottom.isdigit() and 0 < int(top) < int(bottom)):
            raise UnreadableError("no mixed number")
        return value + sympy.Rational(int(top), int(bottom))

    def _plain_fraction(self) -> tuple[str, str] | None:
        r"""Top and bottom of a \frac of two whole numbers, which is taken; None, and nothing taken, of any other."""
        texts = [token.text for token in self._tokens[1:8]]
        match = re.match(r"(?:\{(\d+)\}|(\d))(?:\{(\d+)\}|(\d))|(\d)(\d)", "".join(texts))
        if match is None:
            return None
        parts = [part for part in match.groups() if part]
        self._take()
        for _ in parts:
            self._argument()
        return parts[0], parts[1]

    def _letter(self, letter: str) -> Any:
        if self._sees("_", "'"):
            return self._symbol(letter)
        if letter in "fgh" and (self._sees("(") or self._inverted()):
            return self._applied(letter)
        return constant_or_variable(letter)

    def _inverted(self) -> bool:
        return "".join(token.text for token in self._tokens[:6]).startswith("^{-1}(")

    def _symbol(self, name: str) -> Any:
        subscript = self._subscript() if self._sees("_") else ""
        primes = 0
        while self._sees("'"):
            self._take()
            primes += 1
        name = name + subscript + "'" * primes
        return self._applied(name) if name[0] in "fgh" and (self._sees("(") or self._inverted()) else sympy.Symbol(name)

    def _subscript(self) -> str:
        self._expect("_")
        return "_" + ("".join(self._texts()) if self._sees("{") else self._take().text)

    def _texts(self) -> list[str]:
        """What stands in braces, as it is."""
        self._expect("{")
        texts = []
        while not self._sees("}"):
            texts.append(self._take().text)
            if texts[-1] == "{":
                raise UnreadableError("{")
        self._take()
        return texts

    def _applied(self, name: str) -> Any:
        """F of something is one variable, the same for equal arguments."""
        if self._sees("^"):
            name += "".join(self._take().text for _ in range(5))
        return sympy.Symbol(f"{name}({', '.join(map(sympy.srepr, self._arguments()))})")

    def _arguments(self) -> list[Any]:
        """What stands in round brackets, with commas between."""
        self._expect("(")
        arguments = [self._sum()]
        while self._sees(","):
            self._take()
            arguments.append(self._sum())
        self._expect(")")
        return arguments

    # --- Commands ---

    def _command(self, name: str) -> Any:
        if name in TRIGONOMETRIC or name in EXPONENTIAL_AND_INVERSES or name in LOGARITHMS:
            return self._function(name)
        if name in GREEK_NAMES:
            return self._symbol(name)
        if name in ACCENTS:
            return self._symbol(f"{name}{{{''.join(self._texts())}}}")
        if name.startswith("\\begin"):
            return self._matrix(name)
        readers: dict[str, Callable[[], Any]] = {
            "\\pi": lambda: sympy.pi,
            "\\infty": lambda: sympy.oo,
            "\\frac": self._fraction,
            "\\sqrt": self._root,
            "\\cbrt": lambda: sympy.root(self._argument(), 3),
            "\\abs": lambda: sympy.Abs(self._argument()),
            "\\binom": lambda: sympy.binomial(self._argument(), self._argument()),
            "\\text": self._text_letter,
        }
        if name in readers:
            return readers[name]()
        if name in OF_SEVERAL:
            return OF_SEVERAL[name](*self._arguments())
        raise UnreadableError(name)

    def _fraction(self) -> Any:
        top = self._argument()
        return top / self._argument()

    def _argument(self) -> Any:
        r"""What a command takes: a group, else one digit, letter or command, as in `\frac12`."""
        token = self._take()
        if token.kind == "number" and len(token.text) > 1:
            self._tokens.insert(0, Token("number", token.text[1:], False))
            return sympy.Rational(token.text[0])
        if token.kind == "number":
            return sympy.Rational(token.text)
        if token.kind == "letter":
            return constant_or_variable(token.text)
        if token.text in ("{", "("):
            return self._within(token.text)
        if token.kind == "command":
            return self._command(token.text)
        raise UnreadableError(token.text)

    def _root(self) -> Any:
        degree = 2
        if self._sees("["):
            self._take()
            degree = self._sum()
            self._expect("]")
        return sympy.root(self._argument(), degree)

    def _text_letter(self) -> Any:
        letters = re.fullmatch(r"\(?([a-zA-Z])\)?", "".join(self._texts()))
        if letters is None:
            raise UnreadableError("words")
        return self._letter(letters[1])

    def _matrix(self, begin: str) -> Any:
        if re.sub(r"\\begin ?\{|\*?\}.*", "", begin) not in _MATRICES:
            raise UnreadableError(begin)
        rows: list[list[Any]] = [[]]
        bars, self._bars = self._bars, 0
        while True:
            rows[-1].append(self._sum())
            if not self._sees("&", "\\\\"):
                break
            if self._take().text == "\\\\":
                if self._tokens and self._tokens[0].text.startswith("\\end"):
                    break
                rows.append([])
        self._bars = bars
        if not self._take().text.startswith("\\end"):
            raise UnreadableError("no end of a matrix")
        return sympy.Matrix(rows)

    # --- Functions ---

    def _function(self, name: str) -> Any:
        base = None
        if name == "\\log" and self._sees("_"):
            self._take()
            base = self._argument()
        power = None
        if self._sees("^"):
            self._take()
            power = self._exponent()
        bracketed = self._sees("(", "[", "{", "|")
        argument = self._atom() if bracketed else self._bare_argument()
        if bracketed and self._sees("^", "!"):
            raise UnreadableError(f"{name}(x)^2")
        if name in LOGARITHMS:
            value = sympy.log(argument) / self._scale(name, base)
        elif name in EXPONENTIAL_AND_INVERSES:
            value = EXPONENTIAL_AND_INVERSES[name](argument)
        else:
            function, inverse = TRIGONOMETRIC[name]
            if power == -1:
                return inverse(argument)
            value = function(argument)
        if power == -1:
            raise UnreadableError(f"{name}^-1")
        return value if power is None else value**power

    def _scale(self, name: str, base: Any) -> Any:
        if base is not None:
            return sympy.log(base)
        return {"\\ln": sympy.Integer(1), "\\lg": sympy.log(10)}.get(name, sympy.log(_UNSAID_BASE))

    def _bare_argument(self) -> Any:
        r"""`2x`, `67^\circ`, `\frac{\pi}{3}`, `\theta`: a number and letters, or one other thing; nothing after it."""
        value = self._power()
        while self._sees_kind("letter") or self._sees("\\pi", *GREEK_NAMES):
            value = value * self._power()
        functions = self._tokens and self._tokens[0].text in {*TRIGONOMETRIC, *EXPONENTIAL_AND_INVERSES, *LOGARITHMS}
        if self._sees("/") or (self._starts_a_factor() and not functions):
            raise UnreadableError("where the argument ends")
        return value
