"""The small problems that ship with the package, for pocket models, in the formats of GSM8K and Spider.

Everything but names and lengths is that of the benchmark whose format they have. `pocket-code` stands in
`humaneval`. Rows carry their split. How they were made: `s0.pocket.benchmark`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from s0.tasks.base import Task
from s0.tasks.gsm8k import load_gsm8k
from s0.tasks.spider import load_spider

_SHIPPED = Path(__file__).parent / "data"


def load_pocket_math(data: Path | None) -> Task:
    """The small word problems, or a file of the same format.

    Raises:
        DatasetError: see `s0.tasks.load`.
    """
    return replace(load_gsm8k(data or _SHIPPED / "pocket_math.jsonl"), name="pocket-math", max_new_tokens=64)


def load_pocket_sql(data: Path | None) -> Task:
    """The small questions about databases, or a folder of the same format.

    Raises:
        DatasetError: see `s0.tasks.load`.
    """
    return replace(load_spider(data or _SHIPPED / "pocket_sql"), name="pocket-sql", max_new_tokens=96)
