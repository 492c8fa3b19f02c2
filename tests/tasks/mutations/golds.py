"""Right answers: ten written by hand for each kind of mutation, each with one of its kind; and published ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

from s0.tasks.math.finding import boxed

_WRITTEN = r"""
sign of the whole:
    18 ; -7 ; 2x ; -\frac{3}{4} ; 15x - 80 ; 6 - 5i ; p - q ; y = -2x ; 2\sqrt{3} ; 5.4 \text{ cents}
sign of a term:
    2x + 3 ; -2k ; (3, -4) ; 1 - \frac{1}{e} ; \{-1, 2\} ; x^{-2} ; [-3, 2) ; a^2 - b^2 ; x = -5 ; \frac{-b}{2}
digit changed:
    42 ; \frac{13}{7} ; 3\sqrt{5} ; x^2 + 9 ; (1, 2) ; 0.125 ; 2^{100} ; \text{June 20} ; 1{,}234 ; \binom{8}{3}
digit dropped:
    100 ; 1024 ; \frac{11}{25} ; 3.14 ; 12,\!000 ; 10^{12} ; (10, 20) ; 45^\circ ; 60\pi ; x_{12}
digit added:
    7 ; 365 ; \frac{1}{2} ; 2.5 ; 3x ; \sqrt{2} ; (4, 5) ; 30\% ; 2012_3 ; \$15
point moved:
    1.5 ; 0.25 ; 54 ; 1.5x ; \$18.90 ; 3.25\text{ dollars} ; 12.5\% ; (1.5, 2) ; 0.001 ; 1200
point dropped:
    5.4 ; 5.4 \text{ cents} ; 1.5x ; 0.75 ; 3.14 ; \$4.50 ; (2.5, 1) ; 99.9\% ; 2.5, 3 ; 1.2 \times 10^{5}
repetition dropped:
    0.\overline{3} ; 0.1\overline{6} ; 1.\overline{27} ; 2.\overline{9} ; .\overline{12} ; 0.\overline{15}
    3.\overline{1} ; 10.\overline{6} ; 0.58\overline{3} ; 4.\overline{45}
parts in another order:
    (2, 1) ; (1, 2, 3) ; (x, y) ; \left( 3, \frac{\pi}{2} \right) ; (0, -1) ; (a, 2a) ; (-1, 1) ; (\sqrt{2}, 2)
    [2, 5] ; (-\infty, 4)
grouping:
    2(x-1) ; 2x - 1 ; -3(x+2)(x-1) ; (a+b)^2 ; 4(3-x) ; 5(y+2z) ; (x-1)(x^4+x^2+1) ; (n+1)! ; 3k + 4 ; 2(l+w)
bracket of an interval:
    [1, 2) ; (3, 4] ; [0, 1] ; (-\infty, 5] ; [6, \infty) ; \left[-\frac{1}{2}, \frac{1}{2}\right] ; (1, 2)
    [0, 3) \cup (3, 5] ; x \in [-2, 7] ; [-\sqrt{3}, \sqrt{3}]
kind of brackets:
    (1, 2) ; (a, b) ; (3, 3) ; (0, 1, 2) ; \{1, 2\} ; \{a, b, c\} ; \left(\frac{1}{2}, 4\right) ; (-1, -2)
    (x, x^2) ; \{0, \pi\}
bars dropped:
    |x| ; |a - b| ; 2|y| ; |x| + 1 ; |x - 3| ; -|t| ; \frac{|k|}{2} ; |u||v| ; |p + q| ; |z|^3
exponent changed:
    x^2 ; 2^{10} ; 3^{2007} ; a^2 + b^2 ; 10^{-20} ; e^{3} ; x^n ; 5x^2y^3 ; \frac{1}{x^4} ; (x+1)^2
exponent dropped:
    x^2 ; 2^{10} ; a^2 + b^2 ; 10^{6} ; \pi^2 ; (x+1)^2 ; e^{-x} ; y = x^2 + 2 ; \sqrt{x^3} ; 440\text{ cm}^2
exponent added:
    5 ; x ; 3\pi ; \frac{2}{3}x ; 2 + \sqrt{3} ; 12 ; (x+1)(x+2) ; a - b ; 0.5 ; y = 2x
unit changed:
    5 \text{ cm} ; 17\text{ meters} ; 2\text{ hours} ; 162\text{ minutes} ; 9\text{ a.m.} ; 5.4 \text{ cents}
    12 \text{ gm} ; 3\text{ feet} ; \frac{3}{4}\pi\text{ inches} ; 3\text{ weeks}
operator changed:
    1 + 2x ; a - b ; 3 \cdot x ; \frac{x}{y} ; a/b ; 6.72 \times 10^{-5} ; x^2 - 4 ; \frac{2}{7} ; (1, 2 + \pi)
    p + q - r
fraction inverted:
    \frac{1}{2} ; \frac{a}{b} ; -\frac{3}{5} ; \frac{x+2}{7} ; 3/4 ; \frac{\sqrt{3}}{2} ; \frac{2\pi}{3}
    (\frac{1}{4}, 2) ; 1:2 ; \frac12
side changed:
    x > 5 ; x \le 3 ; 1 < x < 2 ; -2 \le y \le 7 ; x < -\sqrt{2} ; (5, \infty) ; (-\infty, 0] ; t \geq 0
    f(2) < f(1) ; a < b
union or intersection:
    (-\infty, 2) \cup (3, \infty) ; [0, 1] \cup [2, 3] ; (0, 9) \cup (9, 36) ; (-1, 0) \cup (2, 5)
    (-\infty, -5] \cup [5, \infty) ; (1, 2) \cup (3, 4) ; [0, 2] \cup [1, 3] ; \{-1\} \cup [0, 7)
    (-\infty, 5) \cup (5, \infty) ; [-2, 0) \cup (0, 2]
element dropped:
    1, -2 ; \{1, 2, 3\} ; (1, 2, 3) ; 3, 5, 7 ; \frac{1}{2}, 4 ; 12\text{ and }13 ; -1, 0, 1 ; 45^\circ, 135^\circ
    \{a, b\} ; 2\sqrt{2}, -2\sqrt{2}
element added:
    1, -2 ; \{1, 2, 3\} ; (1, 2) ; 3, 5, 7 ; \frac{1}{2}, 4 ; 7, 9, 12, 13 ; -1, 0, 1 ; 45^\circ, 135^\circ
    \{a, b\} ; (x, y, z)
element changed:
    1, -2 ; \{1, 2, 3\} ; (1, 2) ; 3, 5, 7 ; \frac{1}{2}, 4 ; (a, b) ; (1, 9) ; (\sqrt{2}, 0) ; \{a, b\} ; 0, \pi
base changed:
    2516_8 ; 1101_2 ; 1202_3 ; 42_7 ; 385_9 ; 204_5 ; 141_{13} ; 10000_2 ; 4130_{5} ; -221_3
variable changed:
    x ; 2k ; p - q ; x^2 + y^2 ; y = 2x + 3 ; \frac{a}{b} ; (x, y) ; 3z - 1 ; \sqrt{t} ; \sin x
root changed:
    \sqrt{2} ; 3\sqrt{5} ; \sqrt[3]{4} ; \frac{\sqrt{3}}{2} ; \sqrt{x+1} ; \sqrt{x} ; 2 + \sqrt{7}
    \sqrt{a^2 + b^2} ; (1, \sqrt{3}) ; \frac{1}{\sqrt{10}}
function changed:
    \sin x ; \cos 13^\circ ; \tan x ; \cot x ; \sec x ; 2\sin 3x ; \ln 2 ; \frac{\sin x}{x} ; \cos^2 x
    2\cos 15^{\circ}
function dropped:
    \sin x ; \cos 13^\circ ; \tan x ; \cot x ; \sec x ; \sin 3x ; \ln 2 ; \frac{\sin x}{x} ; \ln(x+1) ; 3 + \cos t
matrix changed:
    \begin{pmatrix} 1 \\ 2 \end{pmatrix} ; \begin{pmatrix} 1 & 2 \end{pmatrix}
    \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} ; \begin{bmatrix} 0 & 1 \\ 0 & 0 \end{bmatrix}
    \begin{pmatrix} a \\ b \\ c \end{pmatrix} ; \begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}
    \begin{pmatrix} 0 & -1 \\ 1 & 0 \end{pmatrix} ; \begin{bmatrix} 1 & 2 \\ 0 & 1 \end{bmatrix}
    \begin{pmatrix} 1 & 0 & 0 \\ 0 & 2 & 0 \\ 0 & 0 & 3 \end{pmatrix} ; \begin{pmatrix} x & y \end{pmatrix}
prime or subscript dropped:
    f'(x) ; x_1 ; a_n ; f''(2) ; x_{12} ; y' ; v_0 + 2 ; 3a_1 ; (x_1, y) ; g'(0)
degree dropped:
    \sin 30^\circ ; \cos 13^\circ ; \tan 100^\circ ; 2\cos 15^{\circ} ; -\tan 67^\circ ; \cos 58^\circ
    \sin(20^\circ) ; \cot 1^\circ ; 4\sin 72^\circ ; \sec 40^\circ
one sign of two:
    1 \pm \sqrt{19} ; \pm 2 ; \pm i ; 3 \pm 2\sqrt{2} ; \{1 \pm \sqrt{5}, -2\} ; x = \pm 4
    \frac{1 \pm \sqrt{5}}{2} ; \pm\frac{3}{4} ; a \pm b ; 2 \pm 3i
mixed number as a product:
    1\frac{1}{2} ; 3 \frac{3}{8} ; 33 \frac{1}{3} ; 2\frac{3}{4} ; 1\frac{1}{10} ; 6 \frac{3}{4} ; -1\frac{1}{2}
    137 \frac{1}{2} ; 5 1/2 ; 1 1/4
factorial dropped:
    5! ; 10! ; \frac{1}{2004!} ; n! ; 100! ; 3! + 1 ; \frac{7!}{2} ; 2 \cdot 4! ; 6!x ; 4!, 9
factorial added:
    3 ; 5 ; 12 ; \frac{1}{2} + 4 ; x ; 2n ; 7k ; a + b ; 100 ; 0.5
constant dropped:
    3\pi ; 26\pi ; 2e ; 5i ; 6 - 5i ; 78 \pi ; 2\pi + 1 ; (4\pi, 2) ; 8\pi, 3 ; x = 2\pi
pi added:
    3 ; 18 ; \frac{1}{2}x ; 2\sqrt{3} ; 5 + 2 ; 100 ; 0.5 ; 4x ; a ; 7.5
letter added:
    3 ; 18 ; \frac{1}{2}y ; 2\sqrt{3} ; 5 + 2 ; 100 ; 0.5 ; 4x ; a ; 7.5
operation added:
    3 ; 18 ; \frac{1}{2}x ; 2\sqrt{3} ; 5 + 2 ; 100 ; 0.5 ; 4x ; a ; 7.5
multiplier added:
    3 ; 18 ; 2.5 ; \$15 ; -4 ; 100 ; 0.5 ; 1,200 ; 12 ; 7.5
word changed:
    \text{east} ; \text{even} ; \text{Evelyn} ; \text{(C)} ; \text{A,C,F} ; \text{ellipse} ; \text{Saturday}
    \text{no solution} ; \text{June 20} ; \text{MAKE}
"""
_KIND = re.compile(r"^(\w.*):$", re.MULTILINE)


def _by_kind() -> dict[str, list[str]]:
    _, *texts = _KIND.split(_WRITTEN)
    return {
        kind: [gold.strip() for line in lines.strip().splitlines() for gold in line.split(" ; ")]
        for kind, lines in zip(texts[::2], texts[1::2], strict=True)
    }


GOLDS = _by_kind()
"""By kind, in the order of `kinds.KINDS`."""


def math_golds(path: Path) -> list[str]:
    """The right answers of a file of MATH problems, sorted, each once."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return sorted({row["answer"] if "answer" in row else next(boxed(row["solution"])) for row in rows})


def gsm8k_golds(path: Path) -> list[str]:
    """The right answers of a file of GSM8K problems, sorted, each once."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return sorted({row["answer"].rpartition("####")[2].strip() for row in rows})
