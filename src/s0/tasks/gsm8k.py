"""GSM8K: word problems of grade-school arithmetic whose answer is a number. Cobbe et al. 2021.

Rows: question, answer (a worked solution that ends with `#### 18`). The test table is final; of the training table 250
problems are used, 200 to train and 50 to select (`s0.tasks.sources.learning_parts` says which). One file alone is cut
as HumanEval is, unless its rows carry `split`.

Raw prompt: "Question: ...", a line break, "Answer:". No solved problem stands before it (the published harness shows
five); show some with `shots`. Chat: the question, and the request to end with `#### ` and the number. Judged by
`s0.tasks.math.numbers`.
"""

from __future__ import annotations

from pathlib import Path

from s0.errors import DatasetError
from s0.tasks.base import Task
from s0.tasks.math.numbers import NumberScorer, first_number
from s0.tasks.math.rows import Benchmark, Row, rows_of
from s0.tasks.sources import Hub, field, learning_parts, read_parts, splits_of

TRAIN, TEST = Hub("openai/gsm8k", "train", 7473, "main"), Hub("openai/gsm8k", "test", 1319, "main")
CHANGES = (
    "the last #### counts, else the box, else what is stated, else the last number; compared as numbers",
    "numbers are read in every usual spelling; ranges, choices, times and sums that are not worked out equal none",
)
SCORER = NumberScorer(
    "{question}\n\nReason step by step. End with a line that holds #### and the answer as a number, like this: #### 7",
    ends=("\nQuestion:",),
)
_BENCHMARK = Benchmark(
    name="gsm8k",
    prompt="Question: {question}\nAnswer:",
    keys=("id", "question"),
    max_new_tokens=512,
    scorer=SCORER,
    changes=CHANGES,
)


def load_gsm8k(data: Path | None) -> Task:
    """GSM8K from a folder with train.jsonl and test.jsonl, from one file, or from the hub where `data` is None.

    Raises:
        DatasetError: see `s0.tasks.load`.
    """
    train, test = read_parts(data, [TRAIN], TEST)
    rows = rows_of(_Row, test, "test")
    if train is None:
        chosen = [*zip(rows, splits_of([(row.place, row.fields) for row in rows]), strict=True)]
    else:
        chosen = learning_parts(rows_of(_Row, train, "train"), lambda row: row.question)
        chosen += [(row, "final") for row in rows]
    return _BENCHMARK.task(chosen, [test] if train is None else [train, test])


class _Row(Row):
    @property
    def question(self) -> str:
        return field(self.place, self.fields, "question", str, "GSM8K")

    @property
    def answer(self) -> str:
        """What follows the last `####` of the solution."""
        _, mark, answer = field(self.place, self.fields, "answer", str, "GSM8K").rpartition("####")
        if not mark or first_number(answer) is None:
            raise DatasetError(
                f"{self.place}: expected an 'answer' that ends with #### and a number; got {answer!r:.60}; correct it"
            )
        return answer.strip()
