"""Collection, evaluation and the demo on the real pocket model and the real sandbox, with few problems."""

import json
import random
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path

import pytest
import torch

from s0 import Example, S0Config, S0Trainer, load_model, tasks
from s0.bench import (
    Answerer,
    CollectSettings,
    Questions,
    Samples,
    Variant,
    answer,
    collect,
    evaluate,
    evaluation_record,
    run_variant,
    sampled_summary,
    scale_by_pass_rate,
    shown_before,
    wrong_content,
)
from s0.bench.answers import UNTOUCHED
from s0.bench.collection import samples_file
from s0.bench.variants import learned_from, silent
from s0.errors import ConfigError, DatasetError
from s0.examples import read_examples
from s0.progress import unheard
from s0.record import Model, plain
from s0.study import POCKET_VARIANTS, DemoSettings, run_demo
from s0.study.grids import winner
from s0.study.spec import read_study
from s0.study.store import Store
from s0.train import LoraTuning, load_tuned
from tests import forking
from tests.breadth import mostly_slow
from tests.pocket_rows import write_rows

SETTINGS = CollectSettings(samples=4, per_round=2)
GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def task(sandbox, tmp_path):
    return tasks.load("pocket-code", write_rows(tmp_path / "rows.jsonl", train=6, select=2, final=4)).judged_in(sandbox)


def test_collected_examples_pass_their_problems(pocket, sandbox, task, tmp_path):
    examples = collect(Answerer(*pocket), Questions(task, task.split("train")), tmp_path / "e.jsonl", SETTINGS)
    assert examples == read_examples(tmp_path / "e.jsonl")
    by_id = {problem.id: problem for problem in task.split("train")}
    replies = [(by_id[one.provenance["problem"]], one.completion) for one in examples]
    assert [one.prompt for one in examples] == [problem.prompt for problem, _ in replies]
    assert all(verdict.passed for verdict in task.verdicts(replies))
    assert len(by_id) >= len(examples) == len({one.provenance["problem"] for one in examples}) >= 1


def telling(calls):
    """An `Advance` that takes down what it is told."""

    def advance(count, note="", *, earlier=False):
        calls.append((count, note, earlier))

    return advance


def rows_of(path):
    """The samples of a collection, in the order in which they were judged; not one that was cut short."""
    return [json.loads(line) for line in samples_file(path).read_text().split("\n")[1:-1]]


def numbers(rows):
    return [(row["problem"], row["sample"]) for row in rows]


@pytest.mark.parametrize("keep", ["first", "shortest", "all"])
def test_what_is_kept_is_what_the_samples_say(pocket, sandbox, task, tmp_path, keep):
    problems, out, told = task.split("train"), tmp_path / "e.jsonl", []
    settings = replace(SETTINGS, keep=keep)
    examples = collect(Answerer(*pocket), Questions(task, problems), out, settings, on_done=telling(told))
    rows = sorted(rows_of(out), key=lambda row: row["sample"])
    assert sum(count for count, *_ in told) == 4 * len(problems)
    n_passed = sum(row["passed"] for row in rows)
    assert f"{100 * n_passed / len(rows):.0f}% of {len(rows)} passed" in told[-1][1]
    by_id = {problem.id: problem for problem in problems}
    judged = [(by_id[row["problem"]], row["text"]) for row in rows if row["reason"] != "truncated"]
    passed = iter(verdict.passed for verdict in task.verdicts(judged))
    assert all(row["passed"] == (row["reason"] != "truncated" and next(passed)) for row in rows)
    for problem in problems:
        mine = [row for row in rows if row["problem"] == problem.id]
        passing = [row for row in mine if row["passed"]]
        early = [row for row in mine if row["sample"] < 2]
        assert len(mine) == (2 if keep == "first" and any(row["passed"] for row in early) else 4)
        wanted = {
            "first": passing[:1],
            "shortest": sorted(passing, key=lambda row: row["n_tokens"])[:1],
            "all": list({row["text"]: row for row in reversed(passing)}.values())[::-1],
        }[keep]
        kept = [one for one in examples if one.provenance["problem"] == problem.id]
        assert [(one.completion, one.provenance["sample"]) for one in kept] == [
            (row["text"], row["sample"]) for row in wanted
        ]


def test_a_collection_killed_at_any_byte_ends_the_same_and_judges_nothing_twice(pocket, sandbox, task, tmp_path):
    problems, whole = task.split("train")[:3], tmp_path / "whole.jsonl"
    examples = collect(Answerer(*pocket), Questions(task, problems), whole, SETTINGS)
    written = samples_file(whole).read_bytes()
    header = written.index(b"\n") + 1
    rng, out = random.Random(0), tmp_path / "cut.jsonl"
    for cut in [header, len(written), *(rng.randrange(header, len(written)) for _ in range(6))]:
        samples_file(out).write_bytes(written[:cut])
        before = written[header:cut].count(b"\n")
        assert collect(Answerer(*pocket), Questions(task, problems), out, SETTINGS) == examples
        rows = rows_of(out)
        assert rows[:before] == rows_of(whole)[:before]
        assert sorted(numbers(rows)) == sorted(numbers(rows_of(whole)))
        out.unlink()
        samples_file(out).unlink()


@pytest.mark.slow
def test_a_killed_process_leaves_every_verdict_it_told_of(tmp_path):
    rows, out = write_rows(tmp_path / "rows.jsonl", train=40), tmp_path / "e.jsonl"
    asked = ["collect", "--model", "pocket:gdn", "--task", "pocket-code", "--data", rows, "--samples", 4]
    asked += ["--keep", "all", "--out", out]
    process = forking.begun(forking.COMMAND, *asked)
    while process.poll() is None and (not samples_file(out).exists() or len(rows_of(out)) < 10):
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not out.exists()
    first = rows_of(out)
    assert forking.run(forking.COMMAND, *asked).returncode == 0
    found = rows_of(out)
    assert 10 <= len(first) < len(found) == 160 and found[: len(first)] == first
    assert len(set(numbers(found))) == 160 and len(read_examples(out)) >= 1


def test_ctrl_c_keeps_the_verdicts_that_are_being_found(pocket, sandbox, task, tmp_path, monkeypatch):
    calls, judge = [], task.verdicts

    def interrupt(count, note, earlier):
        if calls:
            raise KeyboardInterrupt

    def verdicts(replies, **rest):
        calls.append(len(replies))
        return judge(replies, **rest)

    watched = Watched(task, verdicts)
    with pytest.raises(KeyboardInterrupt):
        collect(
            Answerer(*pocket), Questions(watched, task.split("train")), tmp_path / "e.jsonl", SETTINGS,
            on_done=interrupt,
        )  # fmt: skip
    assert len([row for row in rows_of(tmp_path / "e.jsonl") if row["reason"] != "truncated"]) == sum(calls) > 0


class Watched:
    def __init__(self, task, verdicts):
        self.task, self.verdicts = task, verdicts

    def __getattr__(self, name):
        return getattr(self.task, name)


def test_more_samples_or_another_choice_draw_only_what_is_missing(pocket, sandbox, task, tmp_path):
    problems, out, fresh = task.split("train"), tmp_path / "e.jsonl", tmp_path / "fresh.jsonl"
    collect(Answerer(*pocket), Questions(task, problems), out, replace(SETTINGS, samples=2))
    before, more = rows_of(out), replace(SETTINGS, keep="all", samples=5)
    told = []
    examples = collect(Answerer(*pocket), Questions(task, problems), out, more, on_done=telling(told))
    assert (told[0][0], told[0][2]) == (len(before), True) and not any(earlier for *_, earlier in told[1:])
    assert sum(count for count, *_ in told) == 5 * len(problems)
    assert rows_of(out)[: len(before)] == before and len(set(numbers(rows_of(out)))) == 5 * len(problems)
    assert examples == collect(Answerer(*pocket), Questions(task, problems), fresh, more)


def test_how_many_rows_are_decoded_at_once_changes_no_example(pocket, sandbox, task, tmp_path):
    settings = replace(SETTINGS, keep="all")
    alone, four = (Questions(task, task.split("train"), batch_rows=rows) for rows in (1, 4))
    examples = collect(Answerer(*pocket), alone, tmp_path / "alone.jsonl", settings)
    assert collect(Answerer(*pocket), four, tmp_path / "four.jsonl", settings) == examples
    first, *rows = (
        sorted(samples_file(tmp_path / name).read_text().splitlines()) for name in ("alone.jsonl", "four.jsonl")
    )
    assert rows == [first]
    before = samples_file(tmp_path / "alone.jsonl").read_text()
    collect(Answerer(*pocket), four, tmp_path / "alone.jsonl", settings)  # it goes on with other rows
    assert samples_file(tmp_path / "alone.jsonl").read_text() == before


def test_samples_of_a_tuned_model_are_known_by_its_checksum(sandbox, task, tmp_path):
    problems, out = task.split("train")[:3], tmp_path / "e.jsonl"
    trainer = load_tuned(*load_model("pocket:gdn"), GOLDEN / "state")

    def sampled(out, tuned):
        return collect(
            Answerer(trainer.model, trainer.tokenizer, tuned=tuned), Questions(task, problems), out, SETTINGS
        )

    examples = sampled(out, trainer.checksum)
    assert {one.provenance["tuned"] for one in examples} == {trainer.checksum}
    texts = {(row["problem"], row["sample"]): row["text"] for row in rows_of(out)}
    assert sampled(out, trainer.checksum) == examples
    for other in (UNTOUCHED, "of another state"):
        with pytest.raises(ConfigError, match="got other tuned"):
            sampled(out, other)
    trainer.deactivate()
    untouched = sampled(tmp_path / "base.jsonl", UNTOUCHED)
    assert all("tuned" not in one.provenance for one in untouched)
    assert texts != {(row["problem"], row["sample"]): row["text"] for row in rows_of(tmp_path / "base.jsonl")}
    with pytest.raises(ConfigError, match="got other tuned"):
        sampled(tmp_path / "base.jsonl", trainer.checksum)


def test_other_peoples_files_are_not_touched(pocket, sandbox, task, tmp_path, monkeypatch):
    problems, out = task.split("train")[:1], tmp_path / "e.jsonl"
    out.write_text("mine")
    with pytest.raises(ConfigError, match="holds others"):
        collect(Answerer(*pocket), Questions(task, problems), out, SETTINGS)
    assert out.read_text() == "mine" and not samples_file(out).exists()
    out.unlink()
    collect(Answerer(*pocket), Questions(task, problems), out, SETTINGS)
    before = samples_file(out).read_text()
    others = (({"seed": 1}, {}, "got other seed;"), ({"temperature": 0.8}, {"chat": True}, "temperature, chat"))
    for settings, asked, says in others:
        with pytest.raises(ConfigError, match=says):
            collect(Answerer(*pocket), Questions(task, problems, **asked), out, replace(SETTINGS, **settings))
    with monkeypatch.context() as patch:
        fla = {"chunk_gated_delta_rule": "fla"}
        patch.setattr(sys.modules["s0.adapter.fingerprint"], "packages_of", lambda model: fla)
        with pytest.raises(ConfigError, match="got other kernels;"):
            collect(Answerer(*pocket), Questions(task, problems), out, SETTINGS)
    with pytest.raises(ConfigError, match="got other dtype;"):
        collect(Answerer(*load_model("pocket:gdn", dtype=torch.bfloat16)), Questions(task, problems), out, SETTINGS)
    assert samples_file(out).read_text() == before
    samples_file(out).write_text(before.replace('"sample": 0', '"sampel": 0'))
    with pytest.raises(DatasetError, match="line 2 of"):
        collect(Answerer(*pocket), Questions(task, problems), out, SETTINGS)
    samples_file(out).write_text("hello\n")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="holds something else"):
            collect(Answerer(*pocket), Questions(task, problems), out, SETTINGS, overwrite=overwrite)
    assert samples_file(out).read_text() == "hello\n"


def test_a_collection_is_replaced_only_where_that_is_asked_for(pocket, sandbox, task, tmp_path):
    problems, out = task.split("train")[:2], tmp_path / "e.jsonl"
    first = collect(Answerer(*pocket), Questions(task, problems), out, SETTINGS)
    other = replace(SETTINGS, seed=1)
    with pytest.raises(ConfigError, match="other seed"):
        collect(Answerer(*pocket), Questions(task, problems), out, other)
    assert read_examples(out) == first
    anew = collect(Answerer(*pocket), Questions(task, problems), out, other, overwrite=True)
    assert read_examples(out) == anew != first
    before = samples_file(out).read_text()
    collect(Answerer(*pocket), Questions(task, problems), out, other, overwrite=True)  # the same one goes on
    assert samples_file(out).read_text() == before


def test_examples_of_other_problems_or_changed_ones_are_not_replaced(pocket, sandbox, task, tmp_path):
    out = tmp_path / "e.jsonl"
    collect(Answerer(*pocket), Questions(task, task.split("train")[:2]), out, SETTINGS)
    with pytest.raises(ConfigError, match="other examples, or changed"):
        collect(Answerer(*pocket), Questions(task, task.split("select")[:2]), out, SETTINGS)
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join([*lines, '{"prompt": "mine", "completion": "too"}\n']))
    with pytest.raises(ConfigError, match="other examples, or changed"):
        collect(Answerer(*pocket), Questions(task, task.split("train")[:2]), out, SETTINGS)
    assert "mine" in out.read_text()


@pytest.mark.parametrize("wrong", [{"keep": "best"}, {"samples": 0}, {"per_round": 0}, {"temperature": 0.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        CollectSettings(**wrong)


def test_nothing_is_collected_from_final_problems(pocket, task, tmp_path):
    with pytest.raises(DatasetError, match="final"):
        collect(Answerer(*pocket), Questions(task, task.split("final")), tmp_path / "e.jsonl", SETTINGS)


def test_examples_are_not_collected_behind_shots(pocket, task, tmp_path):
    questions = Questions(task, task.split("train"), shots=[Example("def one():\n", "    return 1\n")])
    with pytest.raises(ConfigError, match="without shots"):
        collect(Answerer(*pocket), questions, tmp_path / "e.jsonl", SETTINGS)
    assert not list(tmp_path.glob("e*"))


def test_answers_hold_both_verdicts_of_the_same_completion(pocket, sandbox, task):
    answers = evaluate(Answerer(*pocket), Questions(task, task.split("final")))
    assert [one.problem for one in answers] == [problem.id for problem in task.split("final")]
    for scoring in ("standard", "paper"):
        replies = [(problem, one.completion) for problem, one in zip(task.split("final"), answers, strict=True)]
        verdicts = task.verdicts(replies, scoring)
        assert [one.passed[scoring] for one in answers] == [verdict.passed for verdict in verdicts]


def test_sampled_answers_have_both_verdicts_and_unbiased_rates(pocket, sandbox, task):
    problems, drawn = task.split("final"), Samples(4, temperature=1.0)
    answers = evaluate(Answerer(*pocket), Questions(task, problems), samples=drawn)
    assert [(one.problem, one.sample) for one in answers] == [(p.id, i) for p in problems for i in range(4)]
    alone = evaluate(Answerer(*pocket), Questions(task, problems[1:2]), samples=drawn)
    assert alone == answers[4:8]  # whatever else is asked
    assert answers != evaluate(Answerer(*pocket), Questions(task, problems), samples=replace(drawn, seed=1))
    told = plain(sampled_summary(answers, drawn))
    for scoring in ("standard", "paper"):
        replies = [(problems[i // 4], one.completion) for i, one in enumerate(answers)]
        passed = [verdict.passed for verdict in task.verdicts(replies, scoring)]
        assert [one.passed[scoring] for one in answers] == passed
        counts = [sum(passed[i : i + 4]) for i in range(0, 16, 4)]
        found = told["pass_at_k"][scoring]
        assert list(found) == ["1", "2", "4"]
        assert found["1"]["value"] == pytest.approx(sum(passed) / 16)
        assert found["4"]["value"] == pytest.approx(sum(count > 0 for count in counts) / 4)
        subsets = [any(passed[4 * p + i] for i in pair) for p in range(4) for pair in combinations(range(4), 2)]
        assert found["2"]["value"] == pytest.approx(sum(subsets) / len(subsets))


def test_sampled_variants_are_compared_problem_by_problem(pocket, sandbox, task):
    questions = Questions(task, task.split("final"), samples=Samples(2, temperature=1.0))
    outcomes = {
        "base": answer(Answerer(*pocket), questions, {"method": "base"}),
        "again": answer(Answerer(*pocket), questions, {"method": "base"}),
    }
    record = plain(evaluation_record("eval", Model("m", "f"), questions, outcomes))
    sampled = record["sampled"]
    assert sampled["answers"]["base"] == sampled["answers"]["again"] and len(sampled["answers"]["base"]) == 8
    (pair,) = sampled["comparisons"]
    assert (pair["first"], pair["second"]) == ("base", "again")
    assert {k: one["difference"] for k, one in pair["standard"].items()} == {"1": 0, "2": 0}
    assert json.loads(json.dumps(record))["sampled"]["n"] == 2
    assert record["max_new_tokens"] == task.max_new_tokens
    short = evaluation_record("eval", Model("m", "f"), replace(questions, max_new_tokens=7), outcomes)
    assert short.max_new_tokens == 7


@pytest.fixture(scope="module")
def demo(sandbox, tmp_path_factory):
    stages, folder = [], tmp_path_factory.mktemp("demo")

    @contextmanager
    def stage(name, total):
        stages.append(name)
        yield unheard

    data = write_rows(folder / "rows.jsonl", train=6, select=4, final=4)
    settings = DemoSettings(data=str(data), samples=4)
    few = {"s0": Variant(S0Config(n_steps=2, lr=1e-2, alpha="auto")), "lora": Variant(LoraTuning(n_steps=2, rank=2))}
    record = plain(run_demo(settings, folder / "run", stage, sandbox, few))
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
    task = tasks.load(settings.task, settings.data).judged_in(sandbox)
    for name in ("s0", "lora"):
        model, tokenizer = load_model("pocket:gdn")
        tuner = load_tuned(model, tokenizer, folder / name)
        answers = evaluate(Answerer(tuner.model, tokenizer), Questions(task, task.split("final")))
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
        run_variant(Variant(settings), Answerer(model, tokenizer), questions, {"train": examples})
        with torch.no_grad():
            assert torch.equal(model(input_ids=ids).logits, before)
        assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == flags


@pytest.mark.parametrize(
    "settings", [S0Config(n_steps=1, alpha=1.0), LoraTuning(n_steps=1, rank=2)], ids=["s0", "lora"]
)
@pytest.mark.slow
def test_what_was_trained_in_another_dtype_is_trained_again(sandbox, task, tmp_path, settings):
    examples = [Example(problem.prompt, problem.canonical_solution) for problem in task.split("train")[:2]]
    questions, trained_in = Questions(task, task.split("final")[:1]), []

    @contextmanager
    def stage(name, total):
        if name == "train":
            trained_in.append(dtype)
        yield unheard

    dtypes = ("float32", "float32", "bfloat16", "bfloat16", "float32")
    for dtype in dtypes:
        pocket = load_model("pocket:gdn", dtype=getattr(torch, dtype))
        run_variant(
            Variant(settings), Answerer(*pocket), questions, {"train": examples}, out=tmp_path / "x", stage=stage
        )
    assert trained_in == ["float32", "bfloat16", "float32"]


def test_demo_variants_are_the_winners_of_the_recorded_grid():
    benchmarks = Path(__file__).resolve().parents[2] / "benchmarks"
    grid, store = read_study(benchmarks / "studies" / "grid.toml"), Store(benchmarks / "results" / "studies")
    for model, variants in POCKET_VARIANTS.items():
        for name, variant in variants.items():
            best = winner(grid, store, name, model, "pocket-code")
            assert asdict(variant.settings) == asdict(type(variant.settings)(**best.settings))


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


@pytest.mark.parametrize("form", mostly_slow(["body", "function", "fenced"], ["fenced"]))
def test_wrong_content_keeps_the_form_and_fails(sandbox, task, form):
    examples = solved(task, form)
    wrong = wrong_content(examples, task, seed=0)
    problems = {problem.id: problem for problem in task.problems}
    assert len(wrong) >= len(examples) - 1
    replies = [(problems[one.provenance["problem"]], one.completion) for one in wrong]
    assert [task.format_of(problem, text) for problem, text in replies] == [form] * len(wrong)
    assert not any(verdict.passed for verdict in task.verdicts(replies))
    assert [one.prompt for one in wrong] == [problem.prompt for problem, _ in replies]
    assert wrong == wrong_content(examples, task, seed=0)
    assert wrong != wrong_content(examples, task, seed=1)


def test_wrong_content_needs_problems_and_company(sandbox, task):
    with pytest.raises(DatasetError, match="provenance"):
        wrong_content([Example("a", "b")], task, seed=0)
    with pytest.raises(DatasetError, match="two problems"):
        wrong_content(solved(task, "body")[:1], task, seed=0)


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


@pytest.mark.slow
def test_the_scale_with_the_best_pass_rate_is_that_of_single_runs(sandbox, task):
    """All scales in one batch give the verdicts that one scale after the other gives."""
    trainer = S0Trainer(*load_model("pocket:gdn"), S0Config(n_steps=3, lr=1e-2, alpha=1.0))
    trainer.train(solved(task, "body"))
    problems = task.split("select") + task.split("train")
    choice = scale_by_pass_rate(trainer, Questions(task, problems))
    assert choice.by == "pass rate" and choice.alpha in choice.alphas
    trainer.activate()
    for alpha, rate in list(zip(choice.alphas, choice.values, strict=True))[::5]:
        trainer.set_scale(alpha)
        trainer.activate()
        answers = evaluate(Answerer(trainer.model, trainer.tokenizer), Questions(task, problems))
        assert sum(one.passed["standard"] for one in answers) / len(problems) == rate


def test_overwriting_a_collection_spares_examples_of_other_origin(pocket, sandbox, task, tmp_path):
    problems, out = task.split("train")[:2], tmp_path / "e.jsonl"
    collect(Answerer(*pocket), Questions(task, problems), out, SETTINGS)
    mine = out.read_text() + '{"prompt": "mine", "completion": "too"}\n'
    out.write_text(mine)
    samples = samples_file(out).read_text()
    with pytest.raises(ConfigError, match="other origin"):
        collect(Answerer(*pocket), Questions(task, problems), out, replace(SETTINGS, seed=1), overwrite=True)
    assert out.read_text() == mine and samples_file(out).read_text() == samples


def test_a_collection_that_comes_to_nothing_has_not_destroyed_the_one_before(pocket, sandbox, task, tmp_path):
    problems, out = task.split("train")[:2], tmp_path / "e.jsonl"
    before = collect(Answerer(*pocket), Questions(task, problems), out, SETTINGS)
    samples, cut = samples_file(out).read_text(), Questions(task, problems, max_new_tokens=1)
    with pytest.raises(DatasetError, match=r"What was there before is in .*\.e\.jsonl\.s0-before"):
        collect(Answerer(*pocket), cut, out, SETTINGS, overwrite=True)
    with pytest.raises(DatasetError, match="What was there before"):  # nor has a second try
        collect(Answerer(*pocket), cut, out, replace(SETTINGS, seed=3), overwrite=True)
    assert read_examples(tmp_path / ".e.jsonl.s0-before") == before and not out.exists()
    assert (tmp_path / ".e.samples.jsonl.s0-before").read_text() == samples
    anew = collect(Answerer(*pocket), Questions(task, problems), out, replace(SETTINGS, seed=1), overwrite=True)
    assert read_examples(out) == anew
    assert not list(tmp_path.glob("*.s0-before"))


def test_a_collection_of_nothing_says_what_the_model_writes(pocket, sandbox, tmp_path):
    test = "def check(candidate):\n    assert False\n"
    rows = [{"prompt": "def f(x):\n", "entry_point": "f", "test": test, "split": "train"}]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = tasks.load("own", tmp_path / "own.jsonl").judged_in(sandbox)
    with pytest.raises(DatasetError, match=r"none did; \d+ [a-z ]+.*; for example '.*' \(.*; try more samples"):
        collect(Answerer(*pocket), Questions(own, own.problems), tmp_path / "e.jsonl", SETTINGS)


@pytest.mark.parametrize("spoiled", [{"sample": "0"}, {"problem": [1]}, {"passed": "yes"}, {"text": None}])
def test_a_sample_with_a_field_of_another_kind_is_refused(pocket, sandbox, task, tmp_path, spoiled):
    problems, out = task.split("train")[:1], tmp_path / "e.jsonl"
    collect(Answerer(*pocket), Questions(task, problems), out, SETTINGS)
    first, line, *rest = samples_file(out).read_text().splitlines()
    samples_file(out).write_text("\n".join([first, json.dumps({**json.loads(line), **spoiled}), *rest, ""]))
    with pytest.raises(DatasetError, match="line 2 of"):
        collect(Answerer(*pocket), Questions(task, problems), out, SETTINGS)


def test_problems_that_were_learned_from_are_told(pocket, task):
    model, tokenizer = pocket
    problems = task.split("final")[:3]
    trainer = S0Trainer(model, tokenizer, S0Config(n_steps=1))
    try:
        trainer.train([Example(problems[1].prompt, problems[1].canonical_solution)])
        (told,) = learned_from(trainer, Questions(task, problems))
        assert told.startswith("1 of the 3 problems asked are among those learned from")
        assert learned_from(trainer, Questions(task, problems[2:])) == []
    finally:
        trainer.detach()
