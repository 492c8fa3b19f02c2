"""Collection, evaluation and the demo on the real pocket model and the real sandbox, with few problems."""

import json

import pytest

from s0 import load_model, tasks
from s0.bench import CollectSettings, DemoSettings, collect, evaluate, run_demo
from s0.errors import ConfigError, DatasetError
from s0.examples import read_examples
from s0.tasks.sandbox import Sandbox
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


def test_demo_records_everything_and_never_overwrites(sandbox, tmp_path):
    from contextlib import contextmanager

    stages = []

    @contextmanager
    def stage(name, total):
        stages.append(name)
        yield lambda count: None

    data = write_rows(tmp_path / "rows.jsonl", train=6, select=2, final=4)
    settings = DemoSettings(data=str(data), samples=4)
    record = run_demo(settings, tmp_path / "run", stage, sandbox)
    assert stages == ["collect", "train", "evaluate base", "evaluate tuned"]
    assert json.loads((tmp_path / "run" / "record.json").read_text()) == json.loads(json.dumps(record))
    assert record["comparison"]["standard"]["n"] == 4 == len(record["answers"]["tuned"])
    assert len(read_examples(tmp_path / "run" / "examples.jsonl")) == record["examples"]["n"]
    assert {"settings", "environment", "task", "seconds", "model", "training"} <= set(record)
    with pytest.raises(ConfigError, match="record"):
        run_demo(settings, tmp_path / "run", stage, sandbox)
