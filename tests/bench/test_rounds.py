"""Rounds: what each learns from, which one is the result, when they end, and that a killed one goes on the same."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from s0 import Example, S0Config, tasks
from s0.bench import Answerer, Improvement, ImproveSettings, Questions, Variant, improve
from s0.bench.answers import open_answers
from s0.bench.rounds import LEARNED_FILE, TUNED_FOLDER, Round, _has_fallen_behind, _merged
from s0.bench.variants import Outcome
from s0.errors import ConfigError
from s0.examples import read_examples
from s0.progress import unheard
from s0.tasks import Task
from s0.tasks.sandbox import Sandbox
from s0.train import LoraTuning
from tests.pocket_rows import write_rows

LEARNER = Variant(S0Config(n_steps=6, lr=1e-2, alpha="auto"))
SETTINGS = ImproveSettings(LEARNER, rounds=2, keep=2, samples=6, select_samples=4)


@pytest.fixture
def task(sandbox: Sandbox, tmp_path: Path) -> Task:
    rows = write_rows(tmp_path / "rows.jsonl", train=8, select=6, final=1)
    return tasks.load("pocket-code", rows).judged_in(sandbox)


@pytest.fixture
def questions(task: Task) -> dict[str, Questions]:
    return {split: Questions(task, task.split(split)) for split in ("train", "select")}


class Killed(BaseException):
    """Ends the process, as far as what it was doing is concerned."""


def run(
    pocket: tuple[PreTrainedModel, Any],
    questions: Mapping[str, Questions],
    out: Path,
    killed_at: int = -1,
    settings: ImproveSettings = SETTINGS,
) -> tuple[Improvement | None, list[str]]:
    """The rounds, and the stages that have begun; killed where the given one, counted from 0, has."""
    stages: list[str] = []

    class Showing:
        def __init__(self, name: str, _: int | None) -> None:
            stages.append(name)

        def __enter__(self) -> Any:
            if len(stages) - 1 == killed_at:
                raise Killed
            return unheard

        def __exit__(self, *_: object) -> None:
            pass

    base = Answerer(*pocket, journal=open_answers(out / "answers.jsonl", pocket[0]))
    try:
        return improve(base, questions, out, settings, stage=Showing), stages
    except Killed:
        return None, stages


def seen(improvement: Improvement) -> list[Any]:
    """All that two runs must agree in."""
    return [
        (
            *(each.number, each.n_new, each.n_examples, each.n_solved, each.n_select),
            [answer.completion for answer in each.outcome.answers],
            [*each.outcome.facts["training"]["losses"]],
        )
        for each in improvement.rounds
    ]


def test_each_round_learns_from_all_that_has_passed_and_a_killed_one_goes_on(pocket, questions, tmp_path):
    ids = torch.tensor([pocket[1]("def f(x):\n")["input_ids"]])
    with torch.no_grad():
        before = pocket[0](input_ids=ids).logits
    whole, stages = run(pocket, questions, tmp_path / "whole")
    assert whole is not None and whole.rounds
    n_all = 0
    for each in whole.rounds:
        learned = read_examples(each.folder / LEARNED_FILE)
        by_problem = Counter(example.provenance["problem"] for example in learned)
        assert len(learned) == each.n_examples == n_all + each.n_new and max(by_problem.values()) <= SETTINGS.keep
        assert len(by_problem) == each.n_solved == pytest.approx(sum(example.weight for example in learned))
        assert len({(example.prompt, example.completion) for example in learned}) == len(learned)
        assert (each.folder / TUNED_FOLDER / "adapter_model.safetensors").is_file()
        n_all = each.n_examples
    for number in range(1, len(whole.rounds)):
        drawn = json.loads((whole.rounds[number].folder / "train.samples.jsonl").read_text().splitlines()[0])
        assert "tuned" in json.dumps(drawn)  # by what the round before has learned
    with torch.no_grad():
        assert torch.equal(pocket[0](input_ids=ids).logits, before)

    killed_at = stages.index("train round 1"), len(stages) - 1
    out = tmp_path / "killed"
    for stage in killed_at:
        assert run(pocket, questions, out, stage)[0] is None
    again, _ = run(pocket, questions, out)
    assert again is not None and seen(again) == seen(whole)
    assert (again.n_select_before, again.ended_by, again.best.number) == (
        *(whole.n_select_before, whole.ended_by),
        whole.best.number,
    )


@pytest.mark.slow
@pytest.mark.parametrize("settings", [LoraTuning(n_steps=4, rank=4), S0Config(n_steps=4, kind="offset", alpha="auto")])
def test_other_methods_go_the_same_way_and_more_rounds_go_on(pocket, questions, tmp_path, settings):
    asked = replace(SETTINGS, variant=Variant(settings), rounds=1)
    first, _ = run(pocket, questions, tmp_path, settings=asked)
    more, stages = run(pocket, questions, tmp_path, settings=replace(asked, rounds=2))
    assert first is not None and more is not None
    assert seen(more)[:1] == seen(first) and "train round 1" not in stages


def test_rounds_end_where_nothing_new_passes(pocket, questions, tmp_path):
    asked = replace(SETTINGS, variant=Variant(S0Config(n_steps=1, alpha=1e-6)), rounds=9, keep=1)
    improvement, _ = run(pocket, questions, tmp_path, settings=asked)
    assert improvement is not None
    assert improvement.ended_by == "no new answers" and 1 <= len(improvement.rounds) < 9


# --- What is kept, and which round is the result ---


def example(problem: int, completion: int) -> Example:
    return Example("p", f"c{completion}", {"problem": str(problem)})


answers = st.lists(st.builds(example, st.integers(0, 3), st.integers(0, 5)), max_size=12)


@given(earlier=answers, new=answers, keep=st.integers(1, 4))
def test_the_earliest_different_answers_are_kept_and_problems_count_alike(earlier, new, keep):
    problems = [SimpleNamespace(id=str(i)) for i in range(4)]
    before = _merged([], earlier, SimpleNamespace(problems=problems), keep)
    after = _merged(before, new, SimpleNamespace(problems=problems), keep)
    for i in range(4):
        seen = list(dict.fromkeys(each.completion for each in (*earlier, *new) if each.provenance["problem"] == str(i)))
        kept = [each for each in after if each.provenance["problem"] == str(i)]
        assert [each.completion for each in kept] == seen[:keep]
        assert not kept or sum(each.weight for each in kept) == pytest.approx(1)
    assert [each.provenance["problem"] for each in after] == sorted(each.provenance["problem"] for each in after)


def rounds_with(solved: Sequence[int]) -> list[Round]:
    return [Round(i, 1, 1, 1, n, Outcome({}, []), Path()) for i, n in enumerate(solved, start=1)]


@given(before=st.integers(0, 9), solved=st.lists(st.integers(0, 9), min_size=1))
def test_the_best_round_is_the_first_that_solves_most(before, solved):
    best = Improvement(before, rounds_with(solved), "rounds").best
    assert best.n_select == max(solved) and all(n < best.n_select for n in solved[: best.number - 1])


@pytest.mark.parametrize(
    ("solved", "has_fallen"),
    [([5], False), ([4], True), ([6, 6], False), ([7, 6], True), ([6, 5], True), ([5, 8], False)],
)
def test_a_round_that_solves_fewer_than_one_before_it_is_the_last(solved, has_fallen):
    assert _has_fallen_behind(5, rounds_with(solved)) is has_fallen


@pytest.mark.parametrize(
    "wrong",
    [{"rounds": 0}, {"keep": 0}, {"samples": 0}, {"select_samples": 0}, {"temperature": 0}, {"variant": Variant()}],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match="expected"):
        replace(SETTINGS, **wrong)


def test_problems_of_other_splits_are_refused_before_anything_is_asked(pocket, questions, task, tmp_path):
    final = Questions(task, task.split("final"))
    for wrong in ({**questions, "select": final}, {"train": final, "select": final}, {"train": questions["train"]}):
        with pytest.raises(ConfigError, match="expected problems of the splits train and select"):
            improve(Answerer(*pocket), wrong, tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_put_on_the_model_is_refused_before_anything_is_asked(pocket, questions, tmp_path):
    settings = replace(SETTINGS, variant=Variant(S0Config(state_rank=33)))
    with pytest.raises(ConfigError, match="1 to 32"):
        improve(Answerer(*pocket), questions, tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()
