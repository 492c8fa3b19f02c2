"""Questions about databases: from a completion to a query (`extraction`, `tokens`), and judging it.

Files: `scoring` (the two rules), `judge` and `worker` (running queries in processes of their own), `comparison`.
"""

from s0.tasks.sql.problem import SqlProblem
from s0.tasks.sql.scoring import SqlScorer

__all__ = ["SqlProblem", "SqlScorer"]
