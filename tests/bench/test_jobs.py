"""Collection, evaluation and the demo on the real pocket model and the real sandbox, with few problems."""

import importlib
import json
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from s0 import Example, S0Config, S0Trainer, load_model, tasks
from s0.bench import (
    POCKET_VARIANTS,
    CollectSettings,
    DemoSettings,
    Questions,
    Variant,
    collect,
    evaluate,
    run_demo,
    run_variant,
    scale_by_pass_rate,
    shown_before,
    wrong_content,
)
from s0.bench.variants import silent
from s0.errors import ConfigError, DatasetError
from s0.examples import read_examples
from s0.tasks.sandbox import Sandbox
from s0.train import LoraTuning, load_tuned
from tests.pocket_rows import write_rows

SETTINGS = CollectSettings(samples=4, per_round=2)


@pytest.fixture(scope="module")
def pocket():
    return load_model("pocket:gdn")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as cells:
        yield cells


@pytest.fixture
def task(tmp_path):
    return tasks.load("pocket-code", write_rows(tmp_path / "rows.jsonl", train=6, select=2, final=4))


def test_collected_examples_pass_their_problems(pocket, sandbox, task, tmp_path):
    examples = collect(*pocket, task, task.split("train"), tmp_path / "e.jsonl", SETTINGS, sandbox=sandbox)
    assert examples == read_examples(tmp_path / "e.jsonl")
    by_id = {problem.id: problem for problem in task.split("train")}
    replies = [(by_id[one.provenance["problem"]], one.completion) for one in examples]
    assert [one.prompt for one in examples] == [problem.prompt for problem, _ in replies]
    assert all(verdict.passed for verdict in task.verdicts(replies, sandbox=sandbox))
    assert len(by_id) >= len(examples) == len({one.provenance["problem"] for one in examples}) >= 1


def test_an_interrupted_collection_goes_on_and_ends_the_same(pocket, sandbox, task, tmp_path):
    problems = task.split("train")
    whole = collect(*pocket, task, problems, tmp_path / "whole.jsonl", SETTINGS, sandbox=sandbox)

    def interrupt(done, rounds, solved):
        raise KeyboardInterrupt

    out = tmp_path / "cut.jsonl"
    with pytest.raises(KeyboardInterrupt):
        collect(*pocket, task, problems, out, SETTINGS, sandbox=sandbox, on_round=interrupt)
    assert not out.exists()
    seen = []
    resumed = collect(
        *pocket, task, problems, out, SETTINGS, sandbox=sandbox, on_round=lambda done, *_: seen.append(done)
    )
    assert seen == [2]
    assert resumed == whole
    assert not (tmp_path / "cut.jsonl.rounds").exists()


def test_rounds_of_other_settings_are_not_taken_over(pocket, sandbox, task, tmp_path):
    problems, out = task.split("train"), tmp_path / "e.jsonl"
    (tmp_path / "e.jsonl.rounds").write_text('{"other": "settings"}\n{"x": "y"}\n')
    seen = []
    collect(*pocket, task, problems, out, SETTINGS, sandbox=sandbox, on_round=lambda done, *_: seen.append(done))
    assert seen == [1, 2]


def test_nothing_is_collected_from_final_problems(pocket, task, tmp_path):
    with pytest.raises(DatasetError, match="final"):
        collect(*pocket, task, task.split("final"), tmp_path / "e.jsonl", SETTINGS)


def test_answers_hold_both_verdicts_of_the_same_completion(pocket, sandbox, task):
    answers = evaluate(*pocket, task, task.split("final"), sandbox=sandbox)
    assert [one.problem for one in answers] == [problem.id for problem in task.split("final")]
    for scoring in ("standard", "paper"):
        replies = [(problem, one.completion) for problem, one in zip(task.split("final"), answers, strict=True)]
        verdicts = task.verdicts(replies, scoring, sandbox=sandbox)
        assert [one.passed[scoring] for one in answers] == [verdict.passed for verdict in verdicts]


@pytest.fixture(scope="module")
def demo(sandbox, tmp_path_factory):
    stages, folder = [], tmp_path_factory.mktemp("demo")

    @contextmanager
    def stage(name, total):
        stages.append(name)
        yield lambda count: None

    data = write_rows(folder / "rows.jsonl", train=6, select=4, final=4)
    settings = DemoSettings(data=str(data), samples=4)
    few = {"s0": Variant(S0Config(n_steps=2, lr=1e-2, alpha="auto")), "lora": Variant(LoraTuning(n_steps=2, rank=2))}
    record = run_demo(settings, folder / "run", stage, sandbox, few)
    return settings, folder / "run", stages, record


def test_demo_records_everything_and_never_overwrites(demo, sandbox):
    settings, folder, stages, record = demo
    assert stages == [
        "collect train", "collect select", "evaluate base", "train s0", "evaluate s0", "train lora", "evaluate lora",
    ]  # fmt: skip
    assert list(record["seconds"]) == stages
    assert json.loads((folder / "record.json").read_text()) == json.loads(json.dumps(record))
    assert [len(answers) for answers in record["answers"].values()] == [4, 4, 4]
    for split in ("train", "select"):
        assert len(read_examples(folder / f"{split}.jsonl")) == record["examples"][split]["n"]
    assert record["variants"]["s0"]["parameters"] == 8192 and record["variants"]["lora"]["method"] == "lora"
    assert record["variants"]["s0"]["scale"]["chosen"] in [
        point["alpha"] for point in record["variants"]["s0"]["scale"]["curve"]
    ]
    pairs = [(one["first"], one["second"]) for one in record["comparisons"]]
    assert pairs == [("base", "s0"), ("base", "lora"), ("s0", "lora")]
    assert all(one["standard"]["p_holm"] >= one["standard"]["p_value"] for one in record["comparisons"])
    with pytest.raises(ConfigError, match="record"):
        run_demo(settings, folder, silent, sandbox)


def test_what_demo_trained_loads_and_answers_the_same(demo, sandbox, pocket):
    settings, folder, _, record = demo
    task = tasks.load(settings.task, settings.data)
    for name in ("s0", "lora"):
        model, tokenizer = load_model("pocket:gdn")
        tuner = load_tuned(model, tokenizer, folder / name)
        answers = evaluate(tuner.model, tokenizer, task, task.split("final"), sandbox=sandbox)
        assert [one.completion for one in answers] == [one["completion"] for one in record["answers"][name]]


def test_a_variant_leaves_the_model_untouched(sandbox, task):
    model, tokenizer = load_model("pocket:gdn")
    ids = torch.tensor([tokenizer("def f(x):\n")["input_ids"]])
    with torch.no_grad():
        before = model(input_ids=ids).logits
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    examples = [Example(problem.prompt, problem.canonical_solution) for problem in task.split("train")[:2]]
    for settings in (S0Config(n_steps=1, alpha=1.0), LoraTuning(n_steps=1, rank=2)):
        questions = Questions(task, task.split("final")[:1])
        run_variant("x", Variant(settings), model, tokenizer, questions, examples, sandbox=sandbox)
        with torch.no_grad():
            assert torch.equal(model(input_ids=ids).logits, before)
        assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == flags


def test_demo_variants_are_the_winners_of_the_recorded_grid(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks")
    grid = importlib.import_module("grid")
    for model, variants in POCKET_VARIANTS.items():
        for kind, variant in variants.items():
            assert json.loads(json.dumps(asdict(variant.settings))) == grid.winner(model, kind)


# --- Controls ---


def solved(task, form):
    """Every training problem solved, in one form."""
    texts = {"body": "{body}", "function": "{signature}\n{body}", "fenced": "```python\n{signature}\n{body}\n```"}
    return [
        Example(
            problem.prompt,
            texts[form].format(signature=problem.prompt.split("\n")[0], body=problem.canonical_solution.rstrip("\n")),
            {"problem": problem.id},
        )
        for problem in task.split("train")
    ]


@pytest.mark.parametrize("form", ["body", "function", "fenced"])
def test_wrong_content_keeps_the_form_and_fails(sandbox, task, form):
    examples = solved(task, form)
    wrong = wrong_content(examples, task, seed=0, sandbox=sandbox)
    problems = {problem.id: problem for problem in task.problems}
    assert len(wrong) >= len(examples) - 1
    replies = [(problems[one.provenance["problem"]], one.completion) for one in wrong]
    assert [task.format_of(problem, text) for problem, text in replies] == [form] * len(wrong)
    assert not any(verdict.passed for verdict in task.verdicts(replies, sandbox=sandbox))
    assert [one.prompt for one in wrong] == [problem.prompt for problem, _ in replies]
    assert wrong == wrong_content(examples, task, seed=0, sandbox=sandbox)
    assert wrong != wrong_content(examples, task, seed=1, sandbox=sandbox)


def test_wrong_content_needs_problems_and_company(sandbox, task):
    with pytest.raises(DatasetError, match="provenance"):
        wrong_content([Example("a", "b")], task, seed=0, sandbox=sandbox)
    with pytest.raises(DatasetError, match="two problems"):
        wrong_content(solved(task, "body")[:1], task, seed=0, sandbox=sandbox)


def test_examples_are_shown_before_a_prompt():
    shots = [Example("def a():\n", "    return 1\n"), Example("def b():\n", "    return 2")]
    assert shown_before(shots, "def c():\n") == ("def a():\n    return 1\n\n\ndef b():\n    return 2\n\n\ndef c():\n")
    chat = [{"role": "user", "content": "one?"}]
    turns = shown_before([Example(chat, "1")], [{"role": "user", "content": "two?"}])
    assert [turn["content"] for turn in turns] == ["one?", "1", "two?"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert shown_before([], "as it is") == "as it is"
    with pytest.raises(DatasetError, match="kind"):
        shown_before(shots, chat)


def test_the_scale_with_the_best_pass_rate_is_that_of_single_runs(sandbox, task):
    """All scales in one batch give the verdicts that one scale after the other gives."""
    trainer = S0Trainer(*load_model("pocket:gdn"), S0Config(n_steps=3, lr=1e-2, alpha=1.0))
    trainer.train(solved(task, "body"), progress=False)
    problems = task.split("select") + task.split("train")
    choice = scale_by_pass_rate(trainer, task, problems, sandbox=sandbox)
    assert choice.by == "pass rate" and choice.alpha in choice.alphas
    trainer.activate()
    for alpha, rate in list(zip(choice.alphas, choice.values, strict=True))[::5]:
        trainer.config.alpha = alpha
        trainer.activate()
        answers = evaluate(trainer.model, trainer.tokenizer, task, problems, sandbox=sandbox)
        assert sum(one.passed["standard"] for one in answers) / len(problems) == rate
