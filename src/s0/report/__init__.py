"""Results to look at: a record as one page, with its plots, or as tables in a terminal, in the same words."""
