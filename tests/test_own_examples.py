"""docs/own-examples.md runs as it stands, on a model folder that no part of this project knows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from s0.bench.stats import compare
from tests import words, zoo
from tests.cli.calls import Done, s0

PAGE = (Path(__file__).parents[1] / "docs" / "own-examples.md").read_text(encoding="utf-8")

BODIES = ["x + 2", "x * 2", "x < 9", "x * x", "x % 3", "x - 2", "x * 3", "x + 10", "x > 9", "x - 1"]
"""What solves the page's ten problems."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's problems, and a model that solves them half of the time and writes a stub otherwise."""
    made = tmp_path_factory.mktemp("own")
    (rows,) = blocks("jsonl")
    (made / "problems.jsonl").write_text(rows)
    prompts = [json.loads(row)["prompt"] for row in rows.splitlines()]
    texts = [prompt + f"    return {body}\n" for prompt, body in zip(prompts, BODIES, strict=True)]
    texts += [prompt + "    return none\n" for prompt in prompts]
    tokenizer = words.characters()
    model = zoo.make("qwen3_5", vocab_size=len(tokenizer))
    learn_by_heart(model, tokenizer, texts)
    model.save_pretrained(made / "my-model")
    tokenizer.save_pretrained(made / "my-model")
    return made


def learn_by_heart(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> None:
    rows = tokenizer([text + "<end>" for text in texts], padding=True, padding_side="right", return_tensors="pt")
    labels = rows["input_ids"].masked_fill(rows["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(100):
        loss = model(**rows, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.slow
def test_the_page_leads_from_problems_to_a_finding(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "300")
    told: dict[str, Done] = {}
    for block in blocks("sh"):
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            done = s0(*arguments)
            assert program == "s0" and done.returncode == 0, done.stderr
            told[line.split()[1]] = done
    assert "next: s0 train" in told["collect"].stderr and "next: s0 eval" in told["train"].stderr
    assert re.search("Under the standard scoring my-state (helped|hurt|made no clear difference)", told["eval"].stderr)
    assert (folder / "results" / "report.html").is_file()
    (code,) = blocks("python")
    with pytest.warns(UserWarning, match="select example"):
        exec(compile(code, "own-examples.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_six_gained_and_none_lost_is_the_least_that_is_clear() -> None:
    def gained(count: int, n: int) -> float:
        return compare([False] * n, [True] * count + [False] * (n - count)).p_value

    for n in (60, 200):
        assert gained(5, n) > 0.05 > gained(6, n)
    assert "six problems gained and none lost is the least that counts as clear (p = 0.03)" in " ".join(PAGE.split())


def test_the_cut_of_200_rows_is_the_one_that_the_page_tells() -> None:
    from s0.tasks.sources import splits_of

    splits = splits_of([(str(i), {}) for i in range(200)])
    assert [splits.count(name) for name in ("train", "select", "final")] == [78, 20, 102]
    assert "200 rows are a good beginning: 78, 20 and 102" in PAGE


@pytest.mark.slow
def test_every_split_of_the_ten_rows_has_problems(folder: Path) -> None:
    from s0 import tasks

    task = tasks.load("own", folder / "problems.jsonl")
    assert [len(task.require_split(name)) for name in ("train", "select", "final")] == [4, 1, 5]
