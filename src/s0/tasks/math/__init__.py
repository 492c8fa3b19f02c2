"""Questions with one answer: finding it in a reply (`finding`), and judging it as a number or as mathematics.

`numbers` is the scorer for numbers. `scoring` is the scorer for LaTeX: `latex` and `words` decide what letters can,
`comparing` the rest, in processes (`worker`, `comparers`) that are killed when they take too long; `names`, `units`,
`sets`, `formula` and `values` are one part of its rule each. `paper` is the published harness's. `scorer` is what both
share, `rows` how their benchmarks become tasks.
"""
