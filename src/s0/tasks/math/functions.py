"""Commands of LaTeX that stand for letters and functions, and what sympy has for these."""

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
