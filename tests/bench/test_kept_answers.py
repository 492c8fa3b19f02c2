"""Answers that are kept as they come: none is given twice, and none is taken for another."""

import json
import random
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch

from s0 import Example, tasks
from s0.adapter.fingerprint import how_loaded
from s0.bench import (
    Answerer,
    Questions,
    Samples,
    answering,
    answers,
    asking,
    evaluate,
    evaluate_states,
    join,
    judging,
    scale_by_pass_rate,
)
from s0.bench.answers import AnswerJournal
from s0.decode import Batcher, Completion, Event
from s0.errors import ConfigError, DatasetError
from s0.models import ModelSource
from s0.record import plain
from s0.tasks import Task, Verdict
from s0.tasks.sandbox import Limits
from s0.train import load_tuned
from tests.breadth import mostly_slow
from tests.pocket_rows import write_rows

GOLDEN = Path(__file__).parents[1] / "golden"

BASE_MODEL = "the same in all of these tests"


@pytest.fixture
def task(sandbox, tmp_path):
    return tasks.load("pocket-code", write_rows(tmp_path / "rows.jsonl", train=1, final=4)).judged_in(sandbox)


@pytest.fixture
def asked(monkeypatch):
    """The requests that reach a model."""
    requests, submit = [], Batcher.submit

    def counted(self, request):
        requests.append(request)
        return submit(self, request)

    monkeypatch.setattr(Batcher, "submit", counted)
    return requests


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("group", mostly_slow([0, 1], [1]))
@pytest.mark.parametrize("before", [True, False], ids=["before it is kept", "after"])
def test_a_killed_evaluation_goes_on(pocket, sandbox, task, tmp_path, asked, monkeypatch, group, before):
    monkeypatch.setattr(judging, "_JUDGED_AT_ONCE", 2)
    problems, drawn, path = task.split("final"), Samples(2, temperature=1.0), tmp_path / "r.answers.jsonl"
    add, groups = AnswerJournal.add, []

    def ask(journal):
        return evaluate(Answerer(*pocket, journal=journal), Questions(task, problems), samples=drawn)

    def dying(self, rows):
        groups.append(rows)
        if before and len(groups) > group:
            raise Killed
        add(self, rows)
        if len(groups) > group:
            raise Killed

    whole = ask(None)
    monkeypatch.setattr(AnswerJournal, "add", dying)
    with pytest.raises(Killed):
        ask(AnswerJournal(path, BASE_MODEL))
    monkeypatch.setattr(AnswerJournal, "add", add)
    n_kept = len(path.read_text().splitlines()) - 1
    assert n_kept == sum(map(len, groups[:group] if before else groups)) < len(whole)
    asked.clear()
    told = []

    def tell(count, note="", *, earlier=False):
        told.append((count, earlier))

    answerer = Answerer(*pocket, journal=AnswerJournal(path, BASE_MODEL))
    again = evaluate(answerer, Questions(task, problems), samples=drawn, on_done=tell)
    assert again == whole and len(asked) == len(whole) - n_kept
    assert told[0] == (n_kept, True) and not any(earlier for _, earlier in told[1:])
    assert sum(count for count, _ in told) == len(whole)
    asked.clear()
    assert ask(AnswerJournal(path, BASE_MODEL)) == whole and not asked


def test_a_choice_of_scale_judges_by_what_decides_alone(pocket, sandbox, task, tmp_path, monkeypatch):
    problems, path, scorings, verdicts = task.split("final")[:1], tmp_path / "s.scale.jsonl", [], Task.verdicts

    def noted(self, completions, scoring="standard", *args, **kwargs):
        scorings.append(scoring)
        return verdicts(self, completions, scoring, *args, **kwargs)

    monkeypatch.setattr(Task, "verdicts", noted)
    trainer = load_tuned(*pocket, GOLDEN / "state")
    try:
        choice = scale_by_pass_rate(trainer, Questions(task, problems), answers=path)
        assert {*scorings} == {"standard"}
        trainer.set_scale(choice.alpha, choice)
        base = Answerer(*pocket, journal=answers.open_answers(path, pocket[0]))
        (answer,) = evaluate(base.tuned_by(trainer), Questions(task, problems))
        assert answer.passed.keys() == {"standard", "paper"}  # not the answer that the choice has kept there
    finally:
        trainer.detach()


def test_a_choice_of_scale_that_is_killed_goes_on(pocket, sandbox, task, tmp_path, asked, monkeypatch):
    problems, path, add, n_groups = task.split("final")[:1], tmp_path / "s.scale.jsonl", AnswerJournal.add, []
    trainer = load_tuned(*pocket, GOLDEN / "state")
    try:
        whole = scale_by_pass_rate(trainer, Questions(task, problems))
        n_asked = len(asked)

        def dying(self, rows):
            add(self, rows)
            n_groups.append(len(rows))
            if len(n_groups) == 5:
                raise Killed

        monkeypatch.setattr(AnswerJournal, "add", dying)
        with pytest.raises(Killed):
            scale_by_pass_rate(trainer, Questions(task, problems), answers=path)
        monkeypatch.setattr(AnswerJournal, "add", add)
        n_kept = sum(n_groups)
        asked.clear()
        stages = []

        @contextmanager
        def stage(name, total):
            stages.append([name, total, 0, 0])
            yield lambda count, note="", *, earlier=False: tell(count, earlier)

        def tell(count, earlier):
            stages[-1][2 + earlier] += count

        assert scale_by_pass_rate(trainer, Questions(task, problems), answers=path, stage=stage) == whole
        assert len(asked) == n_asked - n_kept and 0 < n_kept < n_asked
        assert [name for name, *_ in stages] == ["scale"] * len(stages)
        assert all(total == anew + earlier for _, total, anew, earlier in stages)
        assert sum(earlier for *_, earlier in stages) == n_kept
        asked.clear()
        assert scale_by_pass_rate(trainer, Questions(task, problems), answers=path) == whole and not asked
        trainer.set_scale(2 * trainer.alpha)  # what is deployed is not what is measured
        assert scale_by_pass_rate(trainer, Questions(task, problems), answers=path) == whole and not asked
        next(iter(trainer._states().values())).data.mul_(2)
        scale_by_pass_rate(trainer, Questions(task, problems), answers=path)
        assert len(asked) >= n_asked / 2
    finally:
        trainer.detach()


def test_an_evaluation_killed_at_any_byte_ends_the_same(pocket, sandbox, task, tmp_path, asked):
    problems, path = task.split("final"), tmp_path / "r.answers.jsonl"
    whole = evaluate(Answerer(*pocket, journal=AnswerJournal(path, BASE_MODEL)), Questions(task, problems))
    written = path.read_bytes()
    header, chance = written.index(b"\n") + 1, random.Random(0)
    for cut in [header, len(written) - 1, *(chance.randrange(header, len(written)) for _ in range(3))]:
        path.write_bytes(written[:cut])
        asked.clear()
        assert evaluate(Answerer(*pocket, journal=AnswerJournal(path, BASE_MODEL)), Questions(task, problems)) == whole
        n_whole = written[header:cut].count(b"\n")
        assert len(asked) == len(problems) - n_whole
        lines = path.read_bytes().splitlines()
        assert lines[: 1 + n_whole] == written.splitlines()[: 1 + n_whole] and len(lines) == 1 + len(problems)


@pytest.mark.parametrize(
    "spoiled", ['{"key": 1}', "nonsense", '{"key": "k", "prompt": "p", "answer": {}}', '{"extra": 1, %s']
)
def test_a_damaged_line_is_refused(pocket, sandbox, task, tmp_path, spoiled):
    path = tmp_path / "r.answers.jsonl"
    evaluate(Answerer(*pocket, journal=AnswerJournal(path, BASE_MODEL)), Questions(task, task.split("final")[:2]))
    header, first, second = path.read_text().splitlines()
    spoiled = spoiled.replace("%s", first[1:])
    path.write_text("\n".join([header, spoiled, second, ""]))
    with pytest.raises(DatasetError, match=r"an answer in line 2 of .*r.answers.jsonl"):
        AnswerJournal(path, BASE_MODEL)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "r.answers.jsonl").write_text('{"kind": "answers", "format_version": 99}\n')
    with pytest.raises(ConfigError, match="format_version"):
        AnswerJournal(tmp_path / "r.answers.jsonl", BASE_MODEL)


# --- What forbids that an answer is taken again ---


class Saying:
    """A batcher that answers everything at once, in the same words."""

    n_asked = 0

    def __init__(self, *_):
        self.unfinished = 0

    def submit(self, request):
        Saying.n_asked += 1
        self.unfinished += 1
        return self.unfinished

    def step(self):
        count, self.unfinished = self.unfinished, 0
        return [Event(number, 0, "", Completion("    return 1", 3, False)) for number in range(1, count + 1)]


class Judging:
    """A task with verdicts that need no sandbox."""

    def __init__(self, task):
        self.task = task

    def __getattr__(self, name):
        return getattr(self.task, name)

    def verdicts(self, replies, scoring="standard", **_):
        return [Verdict(True, "passed") for _ in replies]


class Backend:
    """A sandbox of another kind."""

    def __init__(self, backend="bubblewrap", limits=Limits()):  # noqa: B008  # frozen
        self.backend, self.limits = backend, limits


class Asking:
    """All that `evaluate` is told, for changing one thing of it."""

    def __init__(self, pocket, task, monkeypatch):
        self.model, self.tokenizer = pocket
        self.task, self.monkeypatch = task, monkeypatch
        self.who, self.how = {}, {}  # further arguments of `Answerer` and `Questions`
        self.samples, self.sandbox = Samples(2), Backend()
        self.undo = lambda: None

    def sampled(self, **changed):
        self.samples = replace(self.samples, **changed)

    def spoil(self, weight):
        before = weight.detach().clone()
        self.undo = lambda: weight.data.copy_(before)
        weight.data.flatten()[-1] += 0.01

    def version_of(self, package):
        self.monkeypatch.setattr(asking, "version", lambda name: "0.0" if name == package else metadata.version(name))


CHANGES = {
    "an embedding": lambda now: now.spoil(now.model.get_input_embeddings().weight),
    "a bias": lambda now: now.spoil(next(weight for weight in now.model.parameters() if weight.ndim == 1)),
    "config": lambda now: now.monkeypatch.setattr(now.model.config, "rms_norm_eps", 1e-3),
    "dtype": lambda now: setattr(now, "model", now.model.to(torch.bfloat16)),
    "tuned": lambda now: now.who.update(tuned="abc"),
    "task": lambda now: setattr(now, "task", replace(now.task, name="other")),
    "task version": lambda now: setattr(now, "task", replace(now.task, version="other")),
    "data": lambda now: setattr(now, "task", replace(now.task, data_sha256="other")),
    "prompt": lambda now: now.how.update(shots=[Example("def f():\n", "    return 2\n")]),
    "greedy": lambda now: setattr(now, "samples", None),
    "temperature": lambda now: now.sampled(temperature=0.8),
    "top_p": lambda now: now.sampled(top_p=0.9),
    "seed": lambda now: now.sampled(seed=1),
    "max_new_tokens": lambda now: now.how.update(max_new_tokens=7),
    "chat": lambda now: now.how.update(chat=True),
    "stop": lambda now: setattr(now, "task", replace(now.task, stop=["\n\n"])),
    "end tokens": lambda now: now.monkeypatch.setattr(asking, "end_tokens", lambda *_: [1]),
    "limits": lambda now: setattr(now, "sandbox", Backend(limits=Limits(timeout_s=5.0))),
    "sandbox": lambda now: setattr(now, "sandbox", Backend("none")),
    "device": lambda now: now.monkeypatch.setattr(
        asking, "how_loaded", lambda model: {**how_loaded(model), "device": "NVIDIA H100"}
    ),
    **{package: (lambda now, package=package: now.version_of(package)) for package in asking._PACKAGES},
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_answer_is_taken_again_only_where_this_is_the_same(pocket, task, tmp_path, monkeypatch, change):
    path = tmp_path / "r.answers.jsonl"
    monkeypatch.setattr(answering, "Batcher", Saying)
    if change == "chat":
        monkeypatch.setattr(asking, "encode_prompt", lambda tokenizer, prompt: (1,))  # there is no template
    now, problems = Asking(pocket, task, monkeypatch), task.split("final")

    def n_asked():
        before = Saying.n_asked
        journal = answers.open_answers(path, now.model)
        questions = Questions(Judging(now.task.judged_in(now.sandbox)), problems, **now.how)
        evaluate(Answerer(now.model, now.tokenizer, journal=journal, **now.who), questions, samples=now.samples)
        return Saying.n_asked - before

    try:
        assert (n_asked(), n_asked()) == (8, 0)
        CHANGES[change](now)
        n_all = {"greedy": 4}.get(change, 8)
        assert (n_asked(), n_asked()) == (n_all, 0)
        told = [row["of"] for row in map(json.loads, path.read_text().splitlines()) if "of" in row]
        assert len(told) == 1 + (change != "prompt")  # in words, once for each key
    finally:
        now.undo()
        now.model.to(torch.float32)


def test_a_second_state_does_not_ask_the_base_again(sandbox, task, tmp_path, asked):
    questions, path = Questions(task, task.split("final")[:2]), tmp_path / "r.answers.jsonl"
    states = [str(GOLDEN / name) for name in ("state", "lora")]
    first = evaluate_states(ModelSource("pocket:gdn"), states[:1], questions, answers=path)
    assert len(asked) == 4
    both = evaluate_states(ModelSource("pocket:gdn"), states, questions, answers=path)
    assert len(asked) == 6
    again = evaluate_states(ModelSource("pocket:gdn"), states, questions, answers=path)
    assert len(asked) == 6
    assert plain(again)["answers"] == plain(both)["answers"]
    assert both.answers["base"] == first.answers["base"] and both.answers["state"] == first.answers["state"]


def test_more_samples_draw_only_what_is_missing(pocket, sandbox, task, tmp_path, asked):
    problems, path = task.split("final")[:2], tmp_path / "r.answers.jsonl"

    def draw(n, journal):
        return evaluate(Answerer(*pocket, journal=journal), Questions(task, problems), samples=Samples(n))

    few = draw(2, AnswerJournal(path, BASE_MODEL))
    asked.clear()
    more = draw(5, AnswerJournal(path, BASE_MODEL))
    assert len(asked) == 2 * 3 and [one for one in more if one.sample < 2] == few
    assert more == draw(5, None)
    asked.clear()
    assert draw(2, AnswerJournal(path, BASE_MODEL)) == few and not asked


def test_a_look_at_some_problems_is_told_and_asks_none_twice(sandbox, task, tmp_path, asked):
    problems, path = task.split("final"), tmp_path / "r.answers.jsonl"

    def looked(problems, batch_rows=64):
        questions = Questions(task, problems, batch_rows=batch_rows)
        return evaluate_states(ModelSource("pocket:gdn"), [], questions, answers=path)

    some = looked(problems[:2], batch_rows=1)
    assert len(asked) == 2 and some.of_problems == 4 and len(some.problems) == 2
    every = looked(problems)
    assert len(asked) == 4 and "of_problems" not in plain(every)
    assert every.answers["base"][:2] == some.answers["base"]
    with pytest.raises(DatasetError, match="same problems, got 2 in some and 4 in every, of which 2"):
        join({"some": some, "every": every})


def test_the_scale_of_a_state_and_of_a_lora_tells_their_answers_apart(pocket):
    from s0 import S0Trainer
    from s0.train import BaselineTrainer, LoraTuning, load_tuned

    state = load_tuned(*pocket, GOLDEN / "state")
    assert isinstance(state, S0Trainer)
    before = state.checksum
    state.set_scale(2 * state.alpha)
    assert state.checksum != before
    state.set_scale(state.alpha / 2)
    assert state.checksum == before
    state.detach()
    loras = set()
    for alpha in (2.0, 4.0):
        lora = BaselineTrainer(*pocket, LoraTuning(rank=2, alpha=alpha))
        loras.add(lora.checksum)
        lora.detach()
    assert len(loras) == 2


def test_answers_of_weights_that_cannot_be_told_apart_are_not_kept(pocket, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "fingerprint", lambda model: answers.UNKNOWN)
    with pytest.warns(UserWarning, match="not kept"):
        assert answers.open_answers(tmp_path / "r.answers.jsonl", pocket[0]) is None
    assert not list(tmp_path.iterdir())
