"""Questions with one answer: finding it in a reply (`finding`), and judging it as a number or as mathematics.

`numbers` is the scorer for numbers. `scoring` is the scorer for LaTeX: `latex` and `word_answers` decide what letters
can, `comparing` the rest, in processes (`worker`, `comparers`) that are killed when they take too long;
`named_answers`, `units`, `sets`, `formula` and `formula_values` are one part of its rule each. `paper` is the published
harness's. `answer_scorer` is what both share, `rows` how their benchmarks become tasks.
"""
