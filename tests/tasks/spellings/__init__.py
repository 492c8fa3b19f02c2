"""Spellings of right and wrong answers, one table a kind; the tests read them, and the benchmark of judges does too."""
