"""The jobs on problems that ask for an answer instead of a program."""

import json

import pytest

from s0 import load_model, tasks
from s0.bench import Answerer, CollectSettings, Questions, asking, collect, collection, evaluate, summary, wrong_content
from s0.decode import Completion, Event
from s0.examples import Example


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "rows.jsonl"
    rows = [{"prompt": f"What is {n} + 1?\nAnswer:", "answer": str(n + 1), "split": "train"} for n in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tasks.load("own", path)


def test_answers_are_evaluated_and_collected(task, tmp_path, monkeypatch):
    answerer = Answerer(*load_model("pocket:gdn"))
    answers = evaluate(answerer, Questions(task, task.problems[:2], max_new_tokens=6))
    assert all(one.format in task.scorer.formats and {*one.passed} == {*tasks.SCORINGS} for one in answers)
    assert list(summary(answers).formats)[-2:] == ["unparsable", "empty"]
    monkeypatch.setattr(collection, "Batcher", Saying)
    monkeypatch.setattr(asking, "encode_prompt", lambda tokenizer, prompt: (1,))
    found = collect(
        answerer, Questions(task, task.problems, chat=True), tmp_path / "e.jsonl", CollectSettings(samples=1)
    )
    assert [example.provenance["problem"] for example in found] == ["2"]
    assert found[0].prompt == task.prompt(task.problems[2], chat=True)


class Saying:
    """A batcher that answers everything at once, in the same words."""

    def __init__(self, *_):
        self.unfinished = 0

    def submit(self, request):
        self.unfinished += 1
        return self.unfinished

    def step(self):
        asked, self.unfinished = self.unfinished, 0
        said = Completion("2 and 1 are 3. The answer is 3.", 9, False)
        return [Event(number + 1, 0, "", said) for number in range(asked)]


def test_wrong_content_is_the_answer_to_another_problem(task):
    examples = [
        Example(problem.prompt, f"It is \\boxed{{{problem.answer}}}.", {"problem": problem.id})
        for problem in task.problems
    ]
    wrong = wrong_content(examples, task, seed=0)
    replies = [(problem, one.completion) for problem, one in zip(task.problems, wrong, strict=True)]
    assert {task.format_of(problem, text) for problem, text in replies} == {"boxed"}
    assert not any(one.passed for one in task.verdicts(replies))
    assert {one.completion for one in wrong} <= {one.completion for one in examples}
