"""Wrong answers made out of right ones, and a proof without the judge that they are wrong.

`kinds` makes them, one step from the right answer each; `meaning` reads both and shows that they differ; `trial` asks
a judge about every pair and counts; `golds` has right answers written by hand for each kind.
"""
