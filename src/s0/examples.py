r"""A verified example: a prompt and a completion that solved it. One JSON object per line in a file.

    {"prompt": "def double(x):\n", "completion": "    return 2 * x"}
    {"messages": [{"role": "user", "content": "Twice 3?"}, {"role": "assistant", "content": "6"}]}

The second form is read, not written: its last message is the completion, those before it are the prompt.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from s0.errors import DatasetError
from s0.files import write_text


@dataclass(frozen=True)
class Example:
    """What a model should continue, and how.

    Attributes:
        prompt: text, or chat messages ({"role": ..., "content": ...}) that go through the chat template.
        completion: the text to learn after it; the token that ends generation is learned after that.
        provenance: where it comes from: problem id, base model, sampling settings.
        weight: how much it counts in what is learned and measured, beside the others.
    """

    prompt: str | list[dict[str, str]]
    completion: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0

    @classmethod
    def from_row(cls, row: Any, where: str) -> Example:
        """Check a mapping with `prompt` and `completion`, or with `messages` that end with the assistant's.

        Args:
            row: as read. `provenance` and `weight` are kept, other keys are not.
            where: names it in errors.

        Raises:
            DatasetError: a field is missing, of the wrong kind or empty; or there are `messages` beside `prompt` or
                `completion`, so that it is not clear what should be learned.
        """
        if isinstance(row, Mapping) and row.get("messages") is not None:
            row = _from_messages(row, where)
        if not isinstance(row, Mapping) or not {"prompt", "completion"} <= set(row):
            got = sorted(row) if isinstance(row, Mapping) else type(row).__name__
            is_problem = isinstance(row, Mapping) and bool({"test", "answer", "canonical_solution"} & set(row))
            remedy = "it is a problem: `s0 collect` makes examples of problems" if is_problem else "rename its fields"
            raise DatasetError(
                f"expected {where} to have 'prompt' and 'completion', or 'messages', got {got}; {remedy}"
            )
        prompt, completion = row["prompt"], row["completion"]
        if not is_text(completion) or not completion:
            raise DatasetError(f"expected the completion of {where} to be a non-empty text, got {completion!r:.60}")
        if not _is_prompt(prompt):
            raise DatasetError(
                f"expected the prompt of {where} to be a non-empty text or a list of messages with 'role' and "
                f"'content', got {prompt!r:.60}"
            )
        provenance = row.get("provenance") or {}
        if not isinstance(provenance, Mapping):
            raise DatasetError(f"expected the provenance of {where} to be an object, got {type(provenance).__name__}")
        weight = row.get("weight", 1.0)
        if type(weight) not in (int, float) or not 0 < weight < math.inf:
            raise DatasetError(
                f"expected the weight of {where} to be a finite number above 0, got {weight!r:.60}; leave it out to "
                "count it as every other example, or rename a field that is none"
            )
        return cls(prompt, completion, provenance, float(weight))


def _from_messages(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The row with `prompt` and `completion` taken from its `messages`."""
    beside = [key for key in ("prompt", "completion") if row.get(key) is not None]
    if beside:
        raise DatasetError(
            f"expected {where} to have either 'messages' or 'prompt' and 'completion', got 'messages' and "
            f"{' and '.join(map(repr, beside))}; remove one form"
        )
    messages = row["messages"]
    if not (isinstance(messages, list) and _is_prompt(messages[:-1]) and _is_prompt(messages[-1:])):
        raise DatasetError(
            f"expected the messages of {where} to be a list of two or more with 'role' and 'content', both texts, "
            f"got {messages!r:.60}; write each turn as one message"
        )
    if messages[-1]["role"] != "assistant":
        raise DatasetError(
            f"expected the last message of {where} to be the assistant's, which is what is learned, got one of role "
            f"{messages[-1]['role']!r:.60}; remove what follows the assistant's answer"
        )
    return {**row, "prompt": messages[:-1], "completion": messages[-1]["content"]}


def _is_prompt(prompt: Any) -> bool:
    if isinstance(prompt, list):
        return bool(prompt) and all(
            isinstance(message, Mapping) and is_text(message.get("role")) and is_text(message.get("content"))
            for message in prompt
        )
    return is_text(prompt) and bool(prompt)


def is_text(value: Any) -> bool:
    """Whether a value is text that can be written."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair, which no tokenizer and no file takes
        return False
    return True


def read_examples(path: str | Path) -> list[Example]:
    """Read examples from a JSONL file.

    Raises:
        DatasetError: no such file, no examples, or a line that is none; names the line.
    """
    examples = [Example.from_row(row, where) for where, row in _rows(path, "examples")]
    if not examples:
        raise DatasetError(f"expected examples in {path}, found none; collect some with `s0 collect`")
    return examples


def read_prompts(path: str | Path) -> list[str | list[dict[str, str]]]:
    """Read prompts from a JSONL file, one object per line with `prompt`, or with `messages`; other keys are not read.

    Raises:
        DatasetError: no such file, no prompts, or a line without one; names the line.
    """
    prompts = [_prompt_of(row, where) for where, row in _rows(path, "prompts")]
    if not prompts:
        raise DatasetError(f"""expected prompts in {path}, found none; write {{"prompt": "..."}}, one a line""")
    return prompts


def _prompt_of(row: Any, where: str) -> str | list[dict[str, str]]:
    forms = [key for key in ("prompt", "messages") if isinstance(row, Mapping) and row.get(key) is not None]
    if len(forms) != 1:
        got = sorted(row) if isinstance(row, Mapping) else type(row).__name__
        raise DatasetError(f"expected {where} to have either 'prompt' or 'messages', got {got}; rename its fields")
    prompt = row[forms[0]]
    if not _is_prompt(prompt) or (forms == ["messages"] and isinstance(prompt, str)):
        raise DatasetError(
            f"expected the {forms[0]} of {where} to be a non-empty text or a list of messages with 'role' and "
            f"'content', got {prompt!r:.60}"
        )
    if isinstance(prompt, list) and prompt[-1]["role"] == "assistant":
        raise DatasetError(
            f"expected the messages of {where} to end before the assistant's answer, got one of role 'assistant' last; "
            "remove it"
        )
    return prompt  # type: ignore[no-any-return]


def _rows(path: str | Path, of_what: str) -> Iterator[tuple[str, Any]]:
    """The rows of a JSONL file, each with the name that errors call it by."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")  # splitlines() also splits inside JSON texts
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"expected a JSONL file of {of_what}, got {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"line {number} of {path}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DatasetError(
                    f'expected {where} to be a JSON object, as in {{"prompt": "..."}}, got {line[:60]!r} ({error})'
                ) from error
            yield where, row


def write_examples(path: str | Path, examples: Iterable[Example]) -> None:
    """Write examples to a JSONL file: under a temporary name first, then renamed.

    Raises:
        DatasetError: an example that could not be read back; names it.
    """
    checked = (Example.from_row(vars(example), f"example {i}") for i, example in enumerate(examples))
    lines = [json.dumps(_as_row(example), ensure_ascii=False) for example in checked]
    write_text(path, "".join(f"{line}\n" for line in lines))


def _as_row(example: Example) -> dict[str, Any]:
    """An example as it is written; without the weight that all have where nothing is said of it."""
    row = asdict(example)
    if example.weight == 1:
        del row["weight"]
    return row


def examples_sha256(examples: Iterable[Example]) -> str:
    """Identifies what was learned from: sha256 over prompts, completions and weights other than 1, in order."""
    digest = hashlib.sha256()
    for example in examples:
        weight = [] if example.weight == 1 else [example.weight]
        digest.update(json.dumps([example.prompt, example.completion, *weight], sort_keys=True).encode())
    return digest.hexdigest()
