"""The command that is told to come next asks and judges as the one before it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s0 import Example
from s0_cli.groups import CollectingOptions, JudgingOptions, ModelOptions, StateOptions, TaskOptions
from s0_cli.work.collect import _after_collecting
from s0_cli.work.train import _after_training

MODEL, OUT = ModelOptions("m", dtype="bfloat16"), Path("e.jsonl")
MESSAGES = [{"role": "user", "content": "2 + 2?"}]
TASK = {"task": "gsm8k"}


def asked_by(samples: int = 16, **others: Any) -> CollectingOptions:
    usual = {"chat": False, "max_new_tokens": None, "batch_rows": 64, "temperature": 0.7, "top_p": 0.95, "seed": 0}
    return CollectingOptions(samples=samples, keep="first", **{**usual, **others})


@pytest.mark.parametrize(
    ("asking", "judging", "words"),
    [
        (asked_by(samples=8, seed=1), JudgingOptions(unsafe=True), ""),
        (
            asked_by(chat=True, max_new_tokens=64, temperature=1.0, top_p=0.9),
            JudgingOptions(timeout_s=8.0),
            "--chat --temperature 1.0 --top-p 0.9 --max-new-tokens 64 --timeout-s 8",
        ),
    ],
)
def test_select_examples_are_collected_as_the_train_examples_were(
    asking: CollectingOptions, judging: JudgingOptions, words: str
) -> None:
    states, asked = StateOptions(("s",), allow_other_base=True), TaskOptions("gsm8k", data=Path("d"), split="train")
    words_after = _after_collecting(MODEL, states, asked, asking, judging, OUT)
    whole = f"collect --model m --dtype bfloat16 --state s --allow-other-base --task gsm8k --data d {words}"
    assert [*map(str, words_after)] == f"{whole} --split select --out e-select.jsonl".split()


@pytest.mark.parametrize(
    ("prompts", "words"), [([MESSAGES, MESSAGES], "--chat"), (["2 + 2 =", "1 + 1 ="], ""), ([MESSAGES, "1 + 1 ="], "")]
)
def test_what_was_learned_through_the_chat_template_is_evaluated_through_it(
    prompts: list[str | list[dict[str, str]]], words: str
) -> None:
    learned = [Example(prompt, "4", TASK) for prompt in prompts]
    words_after = _after_training(MODEL, Path("state"), learned, None, JudgingOptions(timeout_s=0.5))
    whole = f"eval --model m --dtype bfloat16 --state state --task gsm8k {words} --timeout-s 0.5"
    assert [*map(str, words_after)] == f"{whole} --out state-eval".split()
