r"""Answers in LaTeX beside the right answer: those that mean the same, and those that do not. One pair a line."""

from __future__ import annotations

Pairs = list[tuple[str, str]]


def _pairs(text: str) -> Pairs:
    lines = (line.partition(" | ") for line in text.strip("\n").splitlines())
    return [(right.removesuffix(" |"), answer) for right, _, answer in lines]


_SIGNS = (
    r"""
-2x | -2 x
-2x | - 2x
2k | k \cdot 2
15x - 80 | -80 + 15x
15x - 80 | 5(3x-16)
6 - 5i | -5i+6
6 - 5i | 6 + (-5)i
p - q | -q + p
p - q | -(q-p)
1.5x | \frac{3}{2}x
1.5x | \frac{3x}{2}
1.5x | 3x/2
2(x-1) | 2x-2
(a,b) | (a, b)
f'(x) | f'( x )
f(x) | f(x)
x^{-2} | \frac{1}{x^2}
-x^2 | -(x^2)
(-x)^2 | x^2
-\frac12 | \frac{-1}{2}
-\frac12 | \frac{1}{-2}
-\frac12 | -0.5
-18 | $-18$
-18 | −18
|x-2| | |2-x|
|x-2| | \left|x-2\right|
|x-2| | \lvert x - 2 \rvert
5! | 120
(n+1)! | (n+1)\cdot n!
n! | n!
\overline{AB} | \overline{ AB }
x_1 | x_{1}
x_1 - x_2 | -x_2 + x_1
\frac{a}{b} | a/b
\frac{a}{b} | a b^{-1}
1 \pm \sqrt{19} | 1-\sqrt{19}, 1+\sqrt{19}
1 \pm \sqrt{19} | 1 \mp \sqrt{19}
-1 + 2i | 2i - 1
-(a+b) | -a-b
5.4 \text{ cents} | 5.4 cents
\lfloor x \rfloor + 1 | 1 + \lfloor x \rfloor
""",
    r"""
-2x | 2x
2x | -2x
2k | -2k
15x - 80 | -15x - 80
15x - 80 | 15x + 80
6 - 5i | -6 - 5i
6 - 5i | 6 + 5i
p - q | -p - q
p - q | q - p
1.5x | 15x
1.5x | 1 5x
5.4 \text{ cents} | 54 \text{ cents}
5.4 \text{ cents} | 54 cents
2(x-1) | 2x-1
2(x-1) | 2x(-1)
(a,b) | ab
ab | (a,b)
(a,b) | a.b
a.b | ab
f'(x) | f(x)
f(x) | f'(x)
f''(x) | f'(x)
f(x) | fx
f^{-1}(x) | f(x)
x' | x
-18 | 18
18 | -18
- 18 | 18
\text{-2} | \text{2}
\text{x-y} | \text{xy}
\text{5.4} | \text{54}
x-y | xy
x+y | xy
x/y | xy
x^y | xy
x^2 | x2
x_2 | x2
x^{-2} | x^{2}
-x^2 | (-x)^2
|x| | x
|x-2| | x-2
\sqrt{2} | -\sqrt{2}
\sqrt{2} | \pm\sqrt{2}
\pm 2 | 2
\pm 2 | -2
1-\frac1e | 1+\frac1e
1-1/e | 1+1/e
5! | 5
n! | n
x! | x
\lfloor x \rfloor | x
\lfloor x \rfloor | \lceil x \rceil
\lceil x \rceil | \lfloor x \rfloor + 1
\overline{AB} | AB
\overline{AB} | \overline{CD}
x_1 | x_2
x_1 | x
\frac{a}{b} | \frac{b}{a}
abc | ABC
A - B | A B
a b, c | a, b c
A,C | AC
\text{A,C} | \text{AC}
\text{ACF} | \text{A,C,F}
\text{1:03 PM} | \text{10:3 PM}
\text{1:03 PM} | 1:03 AM
\text{June 20} | \text{June 2 0}
f(2) < f(1) | f(1) < f(2)
""",
)
_VALUES = (
    r"""
18 | 18.0
18 | 18.00
18 | +18
18 | \mathbf{18}
18 | **18**
18 | 18.
18 | \boxed{18}
18 | {18}
18 | (18)
18 | \text{18}
18 | \displaystyle 18
10,\!080 | 10080
10,\!080 | 10{,}080
10,\!080 | 10\,080
10,\!080 | 10\ 080
10,\!080 | 10 080
10080 | 10,080
11,\! 111,\! 111,\! 100 | 11111111100
1,234,567 | 1234567
.0000672 | 6.72 \times 10^{-5}
.0000672 | 6.72 \cdot 10^{-5}
.0000672 | 6.72*10^-5
.0000672 | 6.72 × 10⁻⁵
.35625 | \frac{57}{160}
1.25 | 1\frac14
\frac54 | 1 1/4
\frac54 | 1\frac{1}{4}
\frac54 | 1 \frac{1}{4}
\frac54 | 1¼
-\frac54 | -1 1/4
137 \frac{1}{2} | \frac{275}{2}
33 \frac{1}{3} | 100/3
\frac43 | \dfrac{4}{3}
\frac43 | \tfrac 4 3
\frac43 | 4/3
\frac{3}{56} | 3/56
\frac43 | 4 ÷ 3
\frac 59 | \tfrac59
\frac{2}{4} | \frac12
\frac{2}{4} | ½
\frac{\sqrt{3}}{3} | \frac{1}{\sqrt3}
\frac{\sqrt{3}}{3} | sqrt(3)/3
\frac{\sqrt{3}}{3} | √3/3
\frac{\sqrt{3}}{3} | 1/√(3)
\frac{1}{3} | 0.333333
0.\overline{3} | \frac13
0.\overline{3} | 0.\bar{3}
0.\overline{3} | 0.333...
\frac13 | 0.\dot{3}
0.1\overline{6} | 1/6
\sqrt{2} | 1.414213562
\sqrt{2} | 2^{1/2}
\sqrt{2} | 2^(1/2)
\sqrt{2} | 2**(1/2)
\sqrt{2} | 2^{0.5}
\sqrt[3]{2} | 2^{\frac13}
\sqrt{2} | \sqrt 2
\sqrt{1+\sqrt{2}} | \sqrt{\sqrt{2}+1}
\sqrt{3+2\sqrt{2}} | 1+\sqrt2
\frac{20000}{\pi} | 6366.197724
\frac{3\pi}{4} | 3/4*pi
\frac{3\pi}{4} | 3pi/4
\frac{3\pi}{4} | 3π/4
\frac{3\pi}{4} | \frac{3}{4}\pi
\frac{3\pi}{4} | 0.75\pi
11\sqrt2 | 11 \cdot \sqrt{2}
11\sqrt2 | 11 \times \sqrt{2}
11\sqrt2 | 11*sqrt(2)
11\sqrt2 | 11√2
11\sqrt2 | \sqrt{242}
2^{2004} | 4^{1002}
x^{10} | x^10
10! | 3628800
\binom{17}{5} | 6188
\log_2 3 | \frac{\ln 3}{\ln 2}
\log_2 3 | \log_{2}(3)
\log_2 3 | \frac{\log 3}{\log 2}
\ln 2 | \log_e 2
\ln 2 | \log_{e}(2)
\ln 2 | ln(2)
6 - 5i | -5i + 6
e^{i\pi} | -1
e^2 | \exp(2)
x^5 - x^4 + x^3 - x^2 + x - 1 | (x-1)(x^4+x^2+1)
(a+5)(b+2) | ab+2a+5b+10
\frac{11+9a}{20} | \frac{9a}{20} + \frac{11}{20}
\cot x | \frac{\cos x}{\sin x}
\cot x | \cot(x)
2\sin x\cos x | \sin 2x
\sin^2 x | 1 - \cos^2 x
\arcsin \frac35 | \sin^{-1} \frac35
\sqrt{x^2} | |x|
\theta | θ
2\theta | 2theta
\alpha + \beta | β + α
\begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1\\[4pt]2\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} | \begin{bmatrix} 1 \\ 2 \end{bmatrix}
\begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1\\2\\\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} | \left(\begin{array}{c}1\\2\end{array}\right)
\begin{pmatrix}1/5\\2/5\end{pmatrix} | \frac{1}{5}\begin{pmatrix}1\\2\end{pmatrix}
\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix} | \begin{bmatrix} -\frac13 \\ \frac23 \end{bmatrix}
\infty | ∞
-\infty | -infinity
3:1 | 3 : 1
6 | \sum_{k=1}^{3} k
\frac{x}{2} | 1/2 x
\pi | 3.141592654
\text{Evelyn} | Evelyn
\text{Evelyn} | \textbf{evelyn}.
\text{Evelyn} | \mathrm{Evelyn}
\text{(C)} | C
\text{(C)} | (C)
\text{(C)} | \text{C}
\text{(C)} | \textbf{(C)}
C | \text{(C)}
C | (C)
\text{June 20} | June 20
\text{4:30 p.m.} | 4:30 PM
\text{A,C,F} | A, C, F
B, C | C, B
\text{ellipse} | \text{an ellipse}
\text{13} | 13
f(2) < f(1) < f(4) | f(2)<f(1)<f(4)
f(2) < f(1) < f(4) | f(4) > f(1) > f(2)
|x-3| | \sqrt{(x-3)^2}
|x-5|=2 | 2=|5-x|
2|x-3|<4 | |x-3|<2
""",
    r"""
11/2 | 1 1/2
1 1/2 | 11/2
\frac{11}{2} | 1\frac12
1\frac12 | \frac12
\frac12 | 12
\frac{1}{12} | \frac112
1 | 1e3
1000 | 1e-3
1e3 | 1
5 | 6 = 5
5 | 5 = 6
5 | x^2 = 5
5 | 500\%
5 | 5 \text{ or not}
5 | 5 or not
5 | \text{not } 5
5 | 5_{12}
5 | 5 \text{ or } 6
5 | 5, 6
5 | 5 6
5 | 5; 6
5 | 5?
5 | 5!
5 | \sqrt{5}
5 | \lnot 5
5 | 5 \text{ million}
5 | 5 \text{ dozen}
5 | 5 \text{ mod } 7
5 | 5 \pmod 7
5 | \text{minus } 5
5 | 5 \foo
5 | \foo{5}
5 | 5 + \foo
5 | 5 + C
5 | 5 + O(1)
5 | 5 ... 9
5 | 5'
5 | 5^{\prime}
5 | 5 \cdot
5 | \text{five or six}
5 | 5 \text{ (not 6)}
5 | 5 \rightarrow 6
5 | \not 5
5 | \neg 5
5 | 5 \mid 10
5 | 5, \ldots
5 | 5...
5 | \{5\}
5 | \overline{5}
5 | 5_
5 | 5^
5 | 5 x
5 | 5 \text{ y}
5 | 5\text{th}
5 | 5 \text{ factorial}
5 | 5 \text{ squared}
5 | 5 \text{ hundredths}
5 | 5 \text{ trillionths}
5 | 5 \text{ below zero}
5 | 5 \text{ to } 6
5 | 5 - 6
5 | 5–6
5 | 5, x > 0
5 | 5 \quad \text{if } x > 0
5 | \text{not } = 5
5 | \text{Not the answer} = 5
5 | \text{negative} = 5
5 | \text{a wrong answer: } 5
5 | 0x5
5 | 5e0
5 | 5\,000
5 | \frac{5}{}
5 | \begin{pmatrix}5\end{pmatrix}
6 | \sum_{k=1}^3 k, 7
6 | \sum_{k=1}^3 k \foo
6 | \sum_{k=1}^3 k + \foo
6 | \sum_{k=1}^3 k \text{ or not}
\frac{1}{2x} | 1/2x
\frac{x}{2} | 1/2x
\vec{AB} | \vec{BA}
5 | \text{I cannot say}
5 | }{
5 |
5 | \text{}
\frac{1}{2004!} | \frac{1}{2006!}
1/2004! | 1/2006!
10^{-20} | 10^{-21}
2^{-100} | 2^{-101}
2^{100} | 2^{100}+1
0.0000001 | 0.0000002
.0000672 | .0000671
6.72 \times 10^{-5} | 6.72 \times 10^{5}
\frac{e^{-50}}{2} | e^{-50}
2x + 3 | 2x + 3 + 10^{-30}
x + 10^{-20} | x
\cos(10^{-10}) | 1
0 | 10^{-60}
100! | 100! + 1
12346 | 12345.99
12346 | 12345
0.123456 | 0.1234561
9901 | 9901.0000001
18 | 18.0001
\frac{1}{3} | 0.333
\frac{1}{3} | 0.333334
0.\overline{3} | 0.3
0.\overline{3} | 0.33
0.\overline{12} | 0.1\overline{2}
0.\overline{3} | 0.\overline{33}4
3\pi | 9.42
1,234 | 1.234
1234 | 1,2,3,4
1,234 | 1,243
1000 | 1,00
\sqrt[3]{2} | \sqrt{2}
\sqrt[3]{2} | 3\sqrt{2}
\sqrt{1+\sqrt{2}} | \sqrt{1}+\sqrt{2}
2^{10} | 2^{1}0
x^{10} | 10x
\log_2 3 | \log_3 2
\log_2 3 | \log 23
\ln 2 | \log_{10} 2
\log 100 | \ln 100
\sin x | \sin^{-1} x
\arcsin x | \frac{1}{\sin x}
\sin^2 x | \sin x^2
\sin 1 | \sin 1^\circ
\tan 100^\circ | \tan 100
\cot x | \tan x
x | y
x | X
\binom{17}{5} | \binom{5}{17}
\binom{17}{5} | \frac{17}{5}
3:1 | 1:3
3:1 | 31
1:2:3 | 1:3:2
\begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1\\3\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1&2\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}2\\1\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1\\2\\0\end{pmatrix}
\begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{pmatrix}1&2\\4&3\end{pmatrix}
\begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{pmatrix}1&3\\2&4\end{pmatrix}
\begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{vmatrix}1&2\\3&4\end{vmatrix}
\begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{pmatrix}1&2&3&4\end{pmatrix}
\begin{pmatrix} x & 2 \end{pmatrix} | \begin{pmatrix} y & 2 \end{pmatrix}
6 - 5i | 6 + 5i
\text{Evelyn} | Evan
\text{Evelyn} | \text{not Evelyn}
\text{east} | \text{seat}
\text{even} | odd
\text{(C)} | (D)
\text{(C)} | \text{C, D}
\text{June 20} | June 21
\text{June 20} | 20
\text{ellipse} | x
\text{ellipse} | e l l i p s e + 1
\infty | -\infty
1/(1-1) | 2/(1-1)
|x-3| | 3-x
\sqrt{(x-3)^2} | 3-x
|x-5|=2 | 5-x=2
|x-5|<2 | 5-x<2
\max(x,5) | 5
\frac{|x+3|}{x+3} | 1
""",
)
_NAMED = (
    r"""
14,400 | x = 14,400
14,\!400 | N = 14400
(3, 2) | (x, y) = (3, 2)
(x, y) = (3, 2) | (3, 2)
(3, 2) | (x,y)=\left(3,2\right)
(3, 2) | x = 3, y = 2
(3, 2) | x = 3 \text{ and } y = 2
(3, 2) | y = 2, x = 3
x = 3, y = 2 | (x,y) = (3,2)
(5,\infty) | I = (5, \infty)
52_8 | N = 52_8
52_8 | N = 52_{8}
\text{even} | f = \text{even}
\text{even} | \text{Answer: even}
x=5 | 5
5 | x = 5
x=5 | x = 5.0
5 | x=5.
5 | $x=5$
5 | x_1 = 5
5 | x' = 5
5 | \theta = 5
5 | n = 2 + 3 = 5
5 | 2 + 3 = 5
5 | f(3) = 5
5 | f(x) = 5
5 | f^{-1}(3) = 5
\frac13 | P(A) = \frac13
\frac13 | P = 1/3
\frac35 | \sin A = \frac35
\frac35 | \cos\theta = 0.6
60^\circ | \angle ABC = 60^\circ
60^\circ | \angle A = 60
60 | m\angle ABC = 60^\circ
12 | \text{Area} = 12
12 | \text{Area} = 12 \text{ cm}^2
12 | Area = 12
12 | \text{Area of } ABC = 12
12 | [ABC] = 12
12 | AB = 12
12 | |AB| = 12
12 | \overline{AB} = 12
12 | \text{The answer is } 12
12 | \text{Answer: } 12
12 | \text{answer: }12
[-2,7] | x \in [-2,7]
x \in [-2,7] | [-2,7]
x \in [-2,7] | -2 \le x \le 7
1,-2 | x = -2 \text{ or } x = 1
1,-2 | x = 1, -2
1,-2 | x = 1, x = -2
1,-2 | x=-2,1
\pm 2 | x = \pm 2
\pm 2 | x = 2 \text{ or } x = -2
2x+3 | f(x) = 2x+3
2x+3 | y = 2x+3
y = 2x + 3 | y=3+2x
y = 2x + 3 | 2x+3
y = 2x + 3 | 2x-y+3=0
y = -2x | 2x + y = 0
y = \frac12 x + 2 | y = 1/2 x + 2
5x - 7y + 11z + 4 = 0 | 7y - 5x - 11z = 4
\frac{x^2}{16}-\frac{y^2}{9}=1 | 9x^2-16y^2=144
x^2 + y^2 = 13 | y^2 + x^2 = 13
x^2 + y^2 = 13 | 13 = x^2+y^2
\begin{pmatrix}1\\2\end{pmatrix} | \mathbf{v} = \begin{pmatrix}1\\2\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} | \vec{v} = \begin{pmatrix}1\\2\end{pmatrix}
(1,2),(3,4) | (x,y) = (3,4), (1,2)
\text{Evelyn} | \text{Winner} = \text{Evelyn}
\$36 | x = \$36
""",
    r"""
x=5 | y=5
x=5 | x=6
x=5 | x_1=5
x=5 | x = 5, y = 5
x=5 | x = -5
x=5 | 2x = 5
x=5 | x^2 = 5
x=5 | x+1=5
x=5 | -x=5
x=5 | x > 5
x=5 | x \ne 5
5 | x = 6
5 | x \ne 5
5 | x < 5
5 | 2x = 5
5 | x + 2 = 5
5 | |x| = 5
5 | x^2 = 5
5 | \sqrt{x} = 5
5 | 6 = 5
5 | 5 = 6 = 5
5 | 2 + 2 = 5
5 | x = 2 + 2 = 5
5 | x = y
5 | x = 5, y = 6
5 | x = 5 \text{ or } x = 6
5 | x =
5 | = 6
x^2 + y^2 = 13 | 13
13 | x^2 + y^2 = 13
x^2 + y^2 = 13 | x^2 - y^2 = 13
x^2 + y^2 = 13 | x^2 + y^2
y=2x+3 | y-2x-3=1
y=2x+3 | y=2x-3
y=2x+3 | x=2y+3
y = -2x | y = 2x
y = -2x | 2x
5x - 7y + 11z + 4 = 0 | 5x - 7y + 11z + 4
5x - 7y + 11z + 4 = 0 | 5x - 7y + 11z - 4 = 0
x^2+1=0 | x^2+2=0
(3, 2) | (x, y) = (2, 3)
(3, 2) | x = 2, y = 3
(3, 2) | (y, x) = (3, 2), 1
(3, 2) | x = 3, x = 2
(x, y) = (3, 2) | (x, z) = (3, 2)
(5,\infty) | I = [5, \infty)
52_8 | N = 52_9
52_8 | N = 53_8
\text{even} | f = \text{odd}
\text{even} | \text{odd} = \text{odd}
60^\circ | \angle ABC = 61^\circ
12 | \text{Area} = 13
12 | \text{Area} = 12, \text{Perimeter} = 14
12 | AB = 13
2x+3 | f(x) = 2x-3
f(x) = 2x+3 | f(x) = 3x+2
[-2,7] | x \in (-2,7)
[-2,7] | x \notin [-2,7]
1,-2 | x = 1
1,-2 | x = 1, y = -2
k = 15 | k = 51
f(2) = 5 | f(3) = 5
""",
)
_SETS = (
    r"""
\frac{639}{40} | 15\frac{39}{40}, \frac{639}{40}
1,2,3 | {1,2,3}
1,2,3 | \{1,2,3\}
1,2,3 | 3, 2, 1
1,-2 | -2, 1
1,2,3 | 1, 2, \text{ and } 3
1,2,3 | 1, 2 and 3
1,2,3 | 1; 2; 3
\pm 2021 | {-2021, 2021}
\pm 2021 | \{-2021, 2021\}
\pm 2021 | 2021, -2021
{2,3,5} | 2,3,5
{2,3,5} | \{2,3,5\}
3, 5, 7 | \{7, 5, 3\}
3, 5, 7 | \lbrace 3,5,7 \rbrace
19 \text{ and }43 | 43, 19
1, -2 | -2 \text{ or } 1
\{1,2\} | \{1\} \cup \{2\}
\{1\pm\sqrt{5},-2\} | -2, 1+\sqrt5, 1-\sqrt5
1,000, 2,000 | 2000, 1000
(1,000, 2,000) | (1000, 2000)
\left( 3, \frac{\pi}{2} \right) | (3, \pi/2)
\left( 3, \frac{\pi}{2} \right) | \langle 3, \pi/2 \rangle
(1,-16,-4,43) | \left(1, -16, -4, 43\right)
(3,4] | \left(3, 4\right]
(3,4] | 3 < x \le 4
(3,4] | 4 \ge x > 3
1<x<2 | 2>x>1
1<x<2 | (1,2)
(1,2) | 1<x<2
(1,2) | \{x : 1 < x < 2\}
(1,2) | \{ x \mid 1 < x < 2 \}
(1,2) | \{ x \in \mathbb{R} \mid 1 < x < 2 \}
(1,2) | x > 1 \text{ and } x < 2
(-\infty,2) | x < 2
(-\infty,2] | x \leq 2
(-\infty,2] | x ≤ 2
(2,\infty) | x > 2
[2,\infty) | 2 \leqslant x
(-\infty, 2) \cup (3, \infty) | (3,\infty)\cup(-\infty,2)
(-\infty, 2) \cup (3, \infty) | x < 2 \text{ or } x > 3
(-\infty, 2) \cup (3, \infty) | x > 3 or x < 2
(-\infty, 2) \cup (3, \infty) | x \in (-\infty, 2) \cup (3, \infty)
(-\infty, 2) \cup (3, \infty) | (-∞, 2) ∪ (3, ∞)
(-\infty, 2) \cup (3, \infty) | \mathbb{R} \setminus [2,3]
(-\infty,-2)\cup(2,\infty) | x<-2 \text{ or } x>2
(-\infty,5)\cup(5,\infty) | x \ne 5
(-\infty,5)\cup(5,\infty) | x \neq 5
(-\infty,5)\cup(5,\infty) | \mathbb{R} \setminus \{5\}
\{-1\} \cup [0,7) | [0,7) \cup \{-1\}
\{-1\} \cup [0,7) | x = -1 \text{ or } 0 \le x < 7
\mathbb{R} | (-\infty,\infty)
\mathbb{R} | (-\infty, +\infty)
\mathbb{R} | ℝ
\emptyset | \varnothing
\emptyset | \{\}
\emptyset | ∅
\emptyset | \text{no solution}
x \ge 5 | 5 \le x
x \ge 5 | 2x \ge 10
x + y < 5 | y + x < 5
[a, b] | [a,b]
(a, b] \cup (c, d) | (c,d) \cup (a,b]
\{(1,2),(3,4)\} | \{(3,4),(1,2)\}
(1,2), (3,4) | (3,4), (1,2)
1+i,1-i,-1+i,-1-i | \pm 1 \pm i
""",
    r"""
1,2,3 | 1,2
1,2,3 | 1,2,3,4
1,2,3 | 1,2,4
1,2,3 | 1,2,-3
1,2,3 | (1,2,3)
1,2,3 | 123
1,2,3 | 1.2.3
1,2,3 | {1,2,3},4
\pm 2021 | {2021, 2021}
\pm 2021 | {2021}
{2,3,5} | {2,3,6}
{2,3,5} | 235
1,1,2 | 1,2
1,2 | 1,1,2
\{1\pm\sqrt{5},-2\} | \{-2,1+\sqrt5\}
1,-2 | 1
1,-2 | 1,-2,3
1,-2 | -1,2
(1,2) | (2,1)
(1,2) | 2,1
(1,2) | 1,2
(1,2) | \{1,2\}
(1,2) | [1,2]
(1,2) | (1,2,3)
(1,2) | ((1,2),3)
(1,2) | 1.2
(2,1) | 1,2
(2,1) | 1<x<2
(100,200) | (100200)
100,200 | 100,201
3,500 | 3, 500
(3,4] | (3,4)
(3,4] | [3,4]
(3,4] | [3,4)
(3,4] | 3 \le x \le 4
(3,4] | 3 < x < 4
[1,2] | (1,2]
[1,2] | [1,2]^2
[1,2] | [1,2] \times [1,2]
[1,2] | \mathbb{R} \setminus [1,2]
(1,2) | -(1,2)
(1,2) | 2(1,2)
\{1,2\} | -\{1,2\}
\{1,2\} | \{1,2\}^c
\{1,2\} | \{\{1\},\{2\}\}
x>3 | x>3, x<5
x>3 | x \not> 3
1,2 | 1,,2
(1,2),(3,4) | (1,2,3,4)
(1,2),(3,4) | (1,3),(2,4)
(1,2),(3,4) | (2,1),(4,3)
(-\infty, 2) \cup (3, \infty) | (-\infty,2)\cup(4,\infty)
(-\infty, 2) \cup (3, \infty) | (-\infty,2)\cap(3,\infty)
(-\infty, 2) \cup (3, \infty) | (-\infty,2)
(-\infty, 2) \cup (3, \infty) | x < 2 \text{ and } x > 3
(-\infty, 2) \cup (3, \infty) | 2 < x < 3
(-\infty, 2) \cup (3, \infty) | x < 3 \text{ or } x > 2
(-\infty,1)\cup(2,\infty) | (-\infty,1]\cup(2,\infty)
(-\infty,5)\cup(5,\infty) | \mathbb{R}
(-\infty,5)\cup(5,\infty) | x \ne -5
\mathbb{R} | \mathbb{Q}
\mathbb{R} | (-\infty,0)
\mathbb{R} | \emptyset
\emptyset | 0
\emptyset | \{0\}
\emptyset | \{\emptyset\}
\{5\} | \{6\}
x > 3 | [3,\infty)
x > 3 | (3,\infty]
x > 3 | x < 3
x > 3 | y > 3
x > 3 | 3
x > 3 | 3 > x
x \le 5 | x < 5
x<5 | x<6
x<5 | -x<-5
x<10^{-9} | x<10^{-10}
x^2<-1 | x^2<-2
1<x<2 | 1<x
1<x<2 | 1<y<2
1<x<2 | 1>x>2
x + y < 5 | x + y > 5
x + y < 5 | x - y < 5
f(2) < f(1) < f(4) | f(1) < f(2) < f(4)
f(2) < f(1) < f(4) | f(2) < f(1) > f(4)
\pm(1+i) | \pm 1 \pm i
\pm 3 | \pm 1 \pm 2
4 | 4, 4
4 | 4, 5
4,4 | 4
""",
)
_UNITS = (
    r"""
90^\circ | 90
90^\circ | 90\text{ degrees}
90^\circ | 90 degrees
90^\circ | 90°
90^\circ | 90^{\circ}
90^\circ | \frac{\pi}{2}
\frac{\pi}{4} | 45^\circ
\frac{\pi}{4} | \frac{\pi}{4} \text{ radians}
\frac{270}7\text{ degrees} | \frac{270}{7}^\circ
-\tan 67^\circ | -\cot 23^\circ
30^\circ, 150^\circ | 150^\circ, 30^\circ
30^\circ, 150^\circ | 30, 150
864 \mbox{ inches}^2 | 864
864 \mbox{ inches}^2 | 864 \text{ square inches}
864 \mbox{ inches}^2 | 864 \text{ in}^2
864 \mbox{ inches}^2 | 864 in^2
864 \mbox{ inches}^2 | 864\text{ sq. in.}
15\mbox{ cm}^2 | 15 \text{ cm}^2
15\mbox{ cm}^2 | 15\text{ cm²}
15\mbox{ cm}^2 | 15 \, \mathrm{cm}^2
15\mbox{ cm}^2 | 15\text{ square units}
144 \mbox{ m}^3 | 144 \text{ cubic meters}
45\text{ mph} | 45
5\text{ m/s} | 5 m/s
20\text{ mph} | 20 miles per hour
5.4 \text{ cents} | 5.4
5.4 \text{ cents} | 5.4 cents
0.25\,\text{ cm} | 0.25\text{ centimeters}
9\text{ a.m.} | 9 \text{ am}
12 | \text{12 apples}
12 | 12 \text{ apples}
12 | 12 apples
12 \text{ apples} | 12
18\text{ ways.} | 18 \text{ different ways}
100\text{ square units} | 100
44\% | 44
44\% | 0.44
44\% | 44%
44\% | 44\text{ percent}
0.44 | 44\%
\frac{1}{2} | 50\%
2516_8 | 2516_{8}
2516_8 | 2516
2516_8 | 2516_{\text{eight}}
152A_{11} | 152a_{11}
\$32,\!348 | 32348
\$32,\!348 | \$32348.00
\$32,\!348 | 32,348 dollars
\$18.90 | 18.9
\$18.90 | 18.90\$
\$36 | 36 \text{ dollars}
118 \text{ dollars} | \$118
-\$0.50 | \$-0.50
1000.99 | 1,000.99€
1000.99 | €1,000.99
5000000 | 5 \text{ million}
\$5,000,000 | \$5 \text{ million}
""",
    r"""
90^\circ | 90 \text{ radians}
90^\circ | 91^\circ
90^\circ | \pi
30^\circ | \frac{\pi}{7}
\frac{\pi}{4} | 45
\frac{\pi}{4} | 45 \text{ radians}
30^\circ, 150^\circ | 30^\circ, 151^\circ
5\text{ cm} | 5\text{ m}
5\text{ cm} | 5 mm
5\text{ cm} | 5\text{ kg}
5\text{ cm} | 5\text{ apples}
5\text{ apples} | 5\text{ oranges}
15\mbox{ cm}^2 | 15\mbox{ cm}
15\mbox{ cm}^2 | 15\mbox{ cm}^3
15\mbox{ cm}^2 | 225
15\mbox{ cm}^2 | 15 \text{ square inches}
864 \mbox{ inches}^2 | 864 \text{ square feet}
45\text{ mph} | 45\text{ kph}
5\text{ m/s} | 5 km/h
5\text{ m/s} | 6 m/s
45\text{ miles per hour} | 45\text{ miles}
2\text{ hours} | 2\text{ minutes}
9\text{ a.m.} | 9\text{ p.m.}
\$5 | 5 \text{ cents}
\$5 | €5
\$5 | 5£
\$5 | \$-5
\$5.40 | \$54
\$5 | \$5 \text{ million}
5 | 5 \text{ thousand}
5 | 5m
5m | 5
44\% | 4.4
44\% | 0.044
44\% | 4400
44 | 0.44
5 | 500\%
5\% | 5 \text{ percent more}
0.44 | 4.4\%
2516_8 | 2516_9
2516_8 | 2517_8
2516_8 | 2156
2516_8 | 1358
52 | 52_8
12 | \text{12 or 13 apples}
12 | 12 \text{ or more}
12 | \text{less than } 12
12 | \text{12 dozen}
12 | 12 \text{ and a half}
5 \text{ feet } 3 \text{ inches} | 5 \text{ feet}
5 \text{ feet } 3 \text{ inches} | 3 \text{ inches}
1\% | 1.00\text{ dollars}
5 | 5 \text{ incorrect}
5 | 5 \text{ doubled}
0.3 | 0.3 \text{ repeating}
2 | 2 \text{ thirds}
5 | 5 dozens
5 | 5 \text{ lakh}
""",
)
SPELLINGS: dict[str, tuple[Pairs, Pairs]] = {
    "signs and operators": (_pairs(_SIGNS[0]), _pairs(_SIGNS[1])),
    "values": (_pairs(_VALUES[0]), _pairs(_VALUES[1])),
    "named answers": (_pairs(_NAMED[0]), _pairs(_NAMED[1])),
    "braces, sets and intervals": (_pairs(_SETS[0]), _pairs(_SETS[1])),
    "units and bases": (_pairs(_UNITS[0]), _pairs(_UNITS[1])),
}
"""By kind: (accepted, refused), each a list of (right answer, answer)."""
