"""lm-evaluation-harness runs a tuned model with its state active and reads the same completions as `s0.bench.evaluate`.

The harness pads a batch on the left and generates up to the longest prompt plus `max_gen_toks`, so every prompt of a
batch has the same room. A batch ends early only when all its rows have met the same stop text, which costs time alone:
texts are cut at the first stop text afterwards. What can differ on other models: the harness lets the model's own
generation config in (a repetition penalty, say), of which `evaluate` takes the end tokens alone; and it cuts prompts
from the left that leave no room in the model's context, where `evaluate` refuses them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import get_peft_model

from s0 import S0AdapterConfig, load_model
from s0.bench import Answerer, Questions, evaluate
from s0.core.states import state_layers
from s0.tasks import load

pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install lm_eval")
import lm_eval
from datasets import Dataset, DatasetDict
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM

MAX_NEW_TOKENS = 32
TASK = load("pocket-code")
PROBLEMS = sorted(TASK.split("select"), key=lambda problem: len(problem.prompt))[:6]
QUESTIONS = Questions(TASK, PROBLEMS, max_new_tokens=MAX_NEW_TOKENS)


def judged(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """The harness's verdict on one completion: that of the sandbox."""
    (verdict,) = TASK.verdicts([(PROBLEMS[doc["number"]], results[0])])
    return {"passed": float(verdict.passed)}


def task() -> ConfigurableTask:
    """The pocket problems as a `generate_until` task of the harness."""
    rows = [{"number": i, "prompt": problem.prompt} for i, problem in enumerate(PROBLEMS)]
    return ConfigurableTask(
        config={
            "task": "pocket_code",
            "custom_dataset": lambda **_: DatasetDict({"test": Dataset.from_list(rows)}),
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{prompt}}",
            "doc_to_target": "",
            "target_delimiter": "",
            "generation_kwargs": {"until": list(TASK.stop), "max_gen_toks": MAX_NEW_TOKENS, "do_sample": False},
            "process_results": judged,
            "metric_list": [{"metric": "passed", "aggregation": "mean", "higher_is_better": True}],
        }
    )


@pytest.fixture
def quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    yield
    logging.disable(before)


@pytest.mark.usefixtures("quiet")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_harness_reads_the_same_completions_and_verdicts() -> None:
    model, tokenizer = load_model("pocket:gdn")
    untouched = [answer.completion for answer in evaluate(Answerer(model, tokenizer), QUESTIONS)]
    tuned = get_peft_model(model, S0AdapterConfig(alpha=3.0))
    generator = torch.Generator().manual_seed(5)
    for layer in state_layers(tuned):
        layer.s0_state["default"].data.copy_(4 * torch.randn(layer.state_shape, generator=generator))
    tuned.eval()
    want = evaluate(Answerer(tuned, tokenizer), QUESTIONS)
    assert len({len(tokenizer(problem.prompt)["input_ids"]) for problem in PROBLEMS}) > 1  # so that there are pads
    assert sum(one.completion != before for one, before in zip(want, untouched, strict=True)) >= len(PROBLEMS) // 2

    harness = HFLM(pretrained=tuned, tokenizer=tokenizer, batch_size=3)
    results = lm_eval.evaluate(harness, {"tasks": {"pocket_code": task()}}, bootstrap_iters=0)
    samples = sorted(results["samples"]["pocket_code"], key=lambda sample: sample["doc_id"])
    assert [sample["resps"][0][0] for sample in samples] == [one.completion for one in want]
    assert [sample["passed"] for sample in samples] == [float(one.passed["standard"]) for one in want]
    mean = sum(one.passed["standard"] for one in want) / len(want)
    assert results["results"]["pocket_code"]["passed,none"] == pytest.approx(mean)
