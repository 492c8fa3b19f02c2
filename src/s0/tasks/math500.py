r"""MATH-500: competition mathematics, answers in LaTeX. Hendrycks et al. 2021; these 500: Lightman et al. 2023.

Rows: problem, solution, and answer (else the answer is what the last \boxed{} of the solution holds). The 500 are
final, always. Training problems come from the rest of the MATH test split: of the 4,500 that are left without the
500, 200 to train and 50 to select are used (`s0.tasks.sources.learning_parts` says which). A folder holds train.jsonl
(problems of MATH; those that are among the test problems are left out) and test.jsonl. One file alone is final
altogether, unless its rows carry `split`.

Raw prompt: "Problem:", the problem, a blank line, "Solution:". Chat: the problem, and the request to put the answer in
\boxed{}. Judged by `s0.tasks.math.scoring`.
"""

from __future__ import annotations

from pathlib import Path

from s0.errors import DatasetError
from s0.tasks.base import Task
from s0.tasks.math.finding import boxed
from s0.tasks.math.rows import Benchmark, Row, rows_of
from s0.tasks.math.scoring import MathScorer
from s0.tasks.sources import Hub, field, folded, learning_parts, read_parts, splits_of

SUBJECTS = {
    "algebra": 1187,
    "counting_and_probability": 474,
    "geometry": 479,
    "intermediate_algebra": 903,
    "number_theory": 540,
    "prealgebra": 871,
    "precalculus": 546,
}
TRAIN = [Hub("EleutherAI/hendrycks_math", "test", n_rows, subject) for subject, n_rows in SUBJECTS.items()]
TEST = Hub("HuggingFaceH4/MATH-500", "test", 500)
CHANGES = (
    "last box, else what is marked or stated; compared by value at several points, sets and pairs by parts",
    "formulas are read whole or not at all, words compared with words alone, names and units where both sides have "
    "them; answers are found below their announcement, and boxes that belong together are one",
)
SCORER = MathScorer(
    "{question}\n\nReason step by step, and put the final answer in \\boxed{{}}.",
    ends=("\nProblem:",),
)
_BENCHMARK = Benchmark(
    name="math500",
    prompt="Problem:\n{question}\n\nSolution:",
    keys=("unique_id", "problem"),
    max_new_tokens=1024,
    scorer=SCORER,
    changes=CHANGES,
)


def load_math500(data: Path | None) -> Task:
    """MATH-500 from a folder with train.jsonl and test.jsonl, from one file, or from the hub where `data` is None.

    Raises:
        DatasetError: see `s0.tasks.load`.
    """
    train, test = read_parts(data, TRAIN, TEST)
    rows = rows_of(_Row, test, "test")
    if train is None:
        fields = [(row.place, row.fields) for row in rows]
        splits = splits_of(fields) if any("split" in row for _, row in fields) else ["final"] * len(rows)
        chosen = [*zip(rows, splits, strict=True)]
    else:
        final = {folded(row.question) for row in rows}
        others = [row for row in rows_of(_Row, train, "train") if folded(row.question) not in final]
        chosen = learning_parts(others, lambda row: row.question)
        chosen += [(row, "final") for row in rows]
    return _BENCHMARK.task(chosen, [test] if train is None else [train, test])


class _Row(Row):
    @property
    def id(self) -> str:
        return field(self.place, self.fields, "unique_id", str, "MATH") if "unique_id" in self.fields else self.number

    @property
    def question(self) -> str:
        return field(self.place, self.fields, "problem", str, "MATH")

    @property
    def answer(self) -> str:
        if "answer" in self.fields:
            return field(self.place, self.fields, "answer", str, "MATH")
        solution = field(self.place, self.fields, "solution", str, "MATH")
        answer = next(boxed(solution), None)
        if answer is None:
            raise DatasetError(
                f"{self.place}: expected an 'answer', or a solution with \\boxed{{}}; got neither; correct the row"
            )
        return answer
