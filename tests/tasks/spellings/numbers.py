"""Answers that are one number: (right answer, whole reply). Read by GSM8K's scorer."""

from __future__ import annotations

_SPELLED = r"""
12000 | 12,000
12000 | 12000.00
12000 | 12,\!000
12000 | 12{,}000
12000 | 12\,000
12000 | 12~000
12000 | 12 000
12000 | 1.2e4
12000 | 1.2E+4
12000 | 1.2 \times 10^4
12000 | 1.2 × 10^{4}
12000 | 1.2 x 10^4
12000 | 1.2·10⁴
12000 | 12 thousand
12000 | 12\text{ thousand}
12000 | 12 \text{ thousand}
12000 | 12k
12000 | $12k
12000 | \$12,000
12000 | US$12,000.00
12000 | 12000$
12000 | €12,000
12000 | 12000 dollars
12000 | 12,000 eggs a day, for 7 days
12000 | 12000.
12000 | +12000
12000 | １２０００
12000 | \text{12000}
12000 | \mathbf{12,000}
12000 | 12000\text{ meters}
12000 | 12000 (not 5)
12000 | 12000, not 5
12000 | 12000 because 3 * 4000 = 12000
12000 | 20,000 - 8,000 = 12,000
12000 | x = 12000
12000 | 12000!
12000 | 12000 minutes or 200 hours
1500000 | 1.5 million
1500000 | $1.5M
1000 | 10^3
1000 | 10**3
1000 | 10³
32 | 2^5
0.5 | \frac12
0.5 | \frac{1}{2}
0.5 | \dfrac 12
0.5 | \frac1{2}
0.5 | ½
0.5 | 1/2
0.5 | .5
0.5 | 5e-1
3.5 | 3 1/2
3.5 | 3\frac12
3.5 | 3½
3.5 | 3\frac{1}{2} hours
3.5 | 7/2
-5 | –5
-5 | −5
-5 | -$5
-5 | $-5
-5 | $-$5
-5 | - 5
-5 | minus 5
-0.5 | -\frac{1}{2}
5 | 5%
5 | 5\%
5 | 5^\circ
5 | 5kg
5 | 5 km/h
5 | $5/hour
5 | 5 per 100 people
5 | ≈ 5
5 | 5 - that is all
1234.5 | $1,234.50
1.000 | 1
7 | 7 of 20
"""
_SPELLED_OTHERWISE = r"""
1 | 1e3
1000 | 1
12 | 12 000
0 | 12 000
12 | 12,\!000
12 | 12{,}000
12 | 12k
1.5 | 1.5 million
10 | 10^3
103 | 10³
103 | 10^3
2 | 2^5
25 | 2**5
12 | \frac12
31 | 3½
31/2 | 3 1/2
3 | 3\frac12
1.2 | 1.2 \times 10^4
5 | –5
5 | −5
5 | - 5
5 | minus 5
5 | negative 5
5 | 5-7
7 | 5-7
-7 | 5-7
5 | 5–7
7 | 5–7
-7 | 5–7
5 | 5 to 7
5 | 5 or 6
6 | 5 or 6
5 | 5 or maybe 6
5 | 5 apples or 6 apples
5 | 5, 6
6 | 5, 6
5 | 5 and 6
5 | $5 or $6
5 | x = 4 or x = 5
5 | x = 4, y = 5
5 | > 5
5 | x \ge 5
5 | x ≤ 5
5 | 5:30
5 | 5.1.2
5 | 5/6/2021
2021 | 2021-05-03
5 | 5,0,1
1 | 1,8
5 | 5 * 3
5 | 5 \cdot 3
5 | 5 + 3
5 | 20 - 5
5 | 5\pi
5 | 5π
5 | \sqrt{5}
5 | 5\sqrt{2}
5 | 5x
5 | x + 5
5 | 5 dollars and 50 cents
56 | 5}{6
5 | 55
5 | 0.5
5 | 50
-5 | 5
1 | 999999999999999999999999999999999999999999999999999999999999999999999
4 | -\boxed{4}
4 | The answer is 4 squared.
4 | The answer is 4 plus 3.
4 | The answer is 4 times 3.
"""


def _pairs(lines: str) -> list[tuple[str, str]]:
    return [(right, spelling) for right, _, spelling in (line.partition(" | ") for line in lines.strip().split("\n"))]


SPELLED, SPELLED_OTHERWISE = _pairs(_SPELLED), _pairs(_SPELLED_OTHERWISE)
"""(right answer, a spelling of it) and (right answer, a spelling of another number, or of no single one)."""

ACCEPTED = [
    ("12000", "#### 12\N{NO-BREAK SPACE}000"),
    ("12000", "#### 12\N{THIN SPACE}000"),
    ("12000", "#### 12\N{NARROW NO-BREAK SPACE}000"),
    *((right, f"We count.\n#### {spelling}") for right, spelling in SPELLED if not spelling[0].isalpha()),
    *((right, f"So it is \\boxed{{{spelling}}}.") for right, spelling in SPELLED if "{" not in spelling),
    ("18", "#### 18\nQuestion: And now?\n#### 5"),
    ("18", "#### 5 + 13 = 18"),
    ("18", "#### 5 + 13 = 18 eggs"),
    ("18", "#### **18**"),
    ("18", "#### `18`"),
    ("18", "#### 17\nNo, wait.\n#### 18"),
    ("18", "#### Step 2\nThe answer is 18."),
    ("18", "### Final Answer\n\n18"),
    ("18", "#### Final Answer\n$18"),
    ("18", "**Final Answer**\n\n\\[\n18\n\\]"),
    ("18", "The answer is\n\\[\n18\n\\]"),
    ("18", "The final answer is:\n\n$$\n18\n$$"),
    ("18", "So the answer would be 18. She had 3 before."),
    ("18", "Final answer – 18"),
    ("18", "**Answer**: 18 (of 20)"),
    ("18", "Answer: The total in 3 days is 18 eggs."),
    ("18", "The answer is $18, since 20 - 2 = 18."),
    ("18", "The answer is 17. Wait, that is wrong. It should be 18."),
    ("18", "The answer is 17. No, 18."),
    ("18", "<think>17</think><answer>18</answer>"),
    ("18", "She has 18.</s> 17"),
    ("18", "It is 18, not 17."),
    ("18", "Of 3 and 4 it makes 18."),
]
REFUSED = [
    *((right, f"We count.\n#### {spelling}") for right, spelling in SPELLED_OTHERWISE if not spelling[0].isalpha()),
    *((right, f"The answer is {spelling}.") for right, spelling in SPELLED_OTHERWISE if "}{" not in spelling),
    ("18", "The answer is not 18."),
    ("18", "It is not 18."),
    ("18", "It isn't 18."),
    ("18", "The answer is either 18 or 19."),
    ("18", "The answer is between 18 and 20."),
    ("18", "The answer is a number between 0 and 18."),
    ("18", "The answer is 18. Wait, no: the answer is 17."),
    ("18", "The answer is 18. Wait, that is wrong."),
    ("18", "\\boxed{18} or \\boxed{19}"),
    ("18", "\\boxed{17}, \\boxed{18}"),
    ("18", "#### 18\n#### 17"),
    ("18", "#### 18 or 19"),
    ("18", "It takes 16-18 days"),
    ("18", "It takes 16 to 18 days"),
    ("18", "It is 18 less than 20"),
    ("18", "<think>18</think>17"),
    ("18", "18</think>17"),
    ("18", "No number at all."),
]
