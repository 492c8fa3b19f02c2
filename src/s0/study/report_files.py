"""What a study's report is made of, by name: commands look for it before they write one, and load nothing for that."""

PAGE, FIGURES, PLOTS = "report.md", "report.json", ("gains.svg", "examples.svg")
METHOD_COMPARISON = "method_comparison"
"""A folder of files, see `s0.study.method_comparison`."""
