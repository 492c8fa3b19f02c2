"""Controls: what a gain may come from other than the state having learned to solve problems.

Format: train on completions whose form is right and whose content is wrong; what still improves is form. Examples in
the prompt: show the untouched model the same examples instead of training on them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from s0.errors import DatasetError
from s0.examples import Example
from s0.tasks import CodeProblem, Problem, Task

_DONORS = 8  # completions of other problems that are tried for an example


def wrong_content(examples: Sequence[Example], task: Task, seed: int) -> list[Example]:
    """Give every example the content of another one's completion, in the form it had.

    Where a completion repeats the signature, the own signature stays. Each new completion has the format of the old one
    and was seen to fail; an example for which no such completion is found among a few is left out.

    Args:
        examples: collected from `task`, with the problem's id in their provenance.
        task: judges, by its standard scoring.
        seed: of the choice.

    Raises:
        DatasetError: an example without its problem, or no wrong completion at all.
    """
    problems = {problem.id: problem for problem in task.problems}
    owners = [problems.get(str(example.provenance.get("problem"))) for example in examples]
    if None in owners:
        raise DatasetError(
            f"expected every example to name a problem of {task.name} in its provenance, got "
            f"{examples[owners.index(None)].provenance!r:.80}; collect examples with `s0 collect`"
        )
    owned = [(problem, example.completion) for problem, example in zip(owners, examples, strict=True) if problem]
    rng = random.Random(f"wrong content {seed}")
    tried: list[list[str]] = []
    for problem, completion in owned:
        donors = [other for other in owned if other[0].id != problem.id]
        rng.shuffle(donors)
        offered = (_moved(text, donor, problem) for donor, text in donors)
        wanted = task.format_of(problem, completion)
        tried.append([text for text in offered if task.format_of(problem, text) == wanted][:_DONORS])
    replies = [(problem, text) for (problem, _), texts in zip(owned, tried, strict=True) for text in texts]
    verdicts = iter(task.verdicts(replies)) if replies else iter(())
    failing = [[text for text in texts if not next(verdicts).passed] for texts in tried]
    wrong = [
        replace(example, completion=texts[0], provenance={**example.provenance, "content": "wrong"})
        for example, texts in zip(examples, failing, strict=True)
        if texts
    ]
    if not wrong:
        raise DatasetError("expected examples of at least two problems with completions of one form, got none")
    return wrong


def _moved(completion: str, donor: Problem, problem: Problem) -> str:
    """What was written for `donor`, as an answer to `problem`: a function gets the signature that is asked for."""
    if not isinstance(donor, CodeProblem) or not isinstance(problem, CodeProblem):
        return completion
    return completion.replace(_signature(donor), _signature(problem))


def _signature(problem: CodeProblem) -> str:
    """The line that opens the function a problem asks for."""
    lines = [line for line in problem.prompt.splitlines() if line.lstrip().startswith(f"def {problem.entry_point}")]
    return lines[-1] if lines else problem.prompt


def shown_before(examples: Sequence[Example], prompt: str | list[dict[str, str]]) -> str | list[dict[str, str]]:
    """The prompt with solved examples in front of it: as earlier turns of a chat, or as text with blank lines between.

    Raises:
        DatasetError: an example is a chat and the prompt a text, or the other way round.
    """
    if any(isinstance(example.prompt, str) != isinstance(prompt, str) for example in examples):
        raise DatasetError("expected examples of the prompt's kind, chat or text; collect them with the same --chat")
    if isinstance(prompt, str):
        return "".join(f"{example.prompt}{example.completion.rstrip()}\n\n\n" for example in examples) + prompt
    turns: list[dict[str, str]] = []
    for example in examples:
        turns += [*_messages(example), {"role": "assistant", "content": example.completion}]
    return [*turns, *prompt]


def _messages(example: Example) -> list[dict[str, str]]:
    return [] if isinstance(example.prompt, str) else example.prompt
