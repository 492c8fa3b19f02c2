"""What letters, commands of LaTeX and digits stand for, as sympy has it."""

from __future__ import annotations

from typing import Any

import sympy

_GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta kappa lambda mu nu xi rho sigma tau phi varphi "
    "chi psi omega Delta Gamma Theta Lambda Xi Sigma Phi Psi Omega ell hbar"
)
GREEK_NAMES = frozenset(f"\\{name}" for name in _GREEK.split())
ACCENTS = (
    *("\\overline", "\\vec", "\\hat", "\\bar", "\\tilde", "\\overrightarrow", "\\widehat", "\\dot"),
    *("\\mathbb", "\\mathcal", "\\mathbf", "\\boldsymbol"),
)
TRIGONOMETRIC: dict[str, tuple[Any, Any]] = {
    "\\sin": (sympy.sin, sympy.asin),
    "\\cos": (sympy.cos, sympy.acos),
    "\\tan": (sympy.tan, sympy.atan),
    "\\cot": (sympy.cot, sympy.acot),
    "\\sec": (sympy.sec, sympy.asec),
    "\\csc": (sympy.csc, sympy.acsc),
    "\\sinh": (sympy.sinh, sympy.asinh),
    "\\cosh": (sympy.cosh, sympy.acosh),
    "\\tanh": (sympy.tanh, sympy.atanh),
    "\\coth": (sympy.coth, sympy.acoth),
}
EXPONENTIAL_AND_INVERSES: dict[str, Any] = {
    "\\exp": sympy.exp,
    **{f"\\arc{name[1:]}": inverse for name, (_, inverse) in TRIGONOMETRIC.items()},
}
LOGARITHMS = ("\\ln", "\\lg", "\\log")
OF_SEVERAL: dict[str, Any] = {"\\max": sympy.Max, "\\min": sympy.Min, "\\gcd": sympy.gcd, "\\lcm": sympy.lcm}


def constant_or_variable(letter: str) -> Any:
    """What a single letter stands for: i is imaginary, e is Euler's number, any other a variable."""
    return {"i": sympy.I, "e": sympy.E}.get(letter) or sympy.Symbol(letter)


def repeated(start: str, again: str) -> Any:
    """A decimal that goes on with the same digits for ever."""
    whole, _, once = start.partition(".")
    nines = 10 ** len(again) - 1
    return sympy.Rational(int(whole + once or "0") * nines + int(again), nines * 10 ** len(once))
