"""Questions with one answer: finding it in a reply (`finding`), and judging it as a number or as mathematics.

`numbers` is the scorer for numbers. `scoring` is the scorer for LaTeX: `latex` decides what letters can, `comparing`
the rest, in processes (`worker`, `processes`) that are killed when they take too long. `scorer` is what both share,
`rows` how their benchmarks become tasks.
"""
