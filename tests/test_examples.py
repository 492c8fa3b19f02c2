"""Examples and their files: what is written reads back, and what cannot be read is refused by file and line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s0 import Example
from s0.errors import DatasetError
from s0.examples import examples_sha256, read_examples, read_prompts, write_examples

texts = st.text(min_size=1)
messages = st.fixed_dictionaries({"role": st.sampled_from(["system", "user"]), "content": st.text()})
facts = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()))
weights = st.just(1.0) | st.floats(0, exclude_min=True, allow_infinity=False, allow_nan=False)
examples = st.builds(Example, texts | st.lists(messages, min_size=1), texts, facts, weights)

GOOD = '{"prompt": "a", "completion": "b"}'


def row(**fields: Any) -> str:
    return json.dumps({**json.loads(GOOD), **fields})


@settings(max_examples=20)
@given(written=st.lists(examples, min_size=1))
@example(written=[Example("a\u2028b\u0085c\x1cd\r\ne", "\u2029")])  # all of them ends of lines to str.splitlines
def test_what_is_written_reads_back_equal(tmp_path: Path, written: list[Example]) -> None:
    path = tmp_path / "new" / "examples.jsonl"
    write_examples(path, iter(written))
    assert read_examples(path) == written
    assert examples_sha256(read_examples(path)) == examples_sha256(written)


def test_blank_lines_windows_line_ends_and_unknown_fields_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    path.write_bytes(f"\r\n{GOOD}\r\n \r\n{row(score=1)}".encode())
    assert read_examples(path) == [Example("a", "b"), Example("a", "b")]


def test_a_weight_is_written_where_it_is_not_that_of_every_example(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    write_examples(path, [Example("a", "b"), Example("a", "c", weight=0.5)])
    assert ["weight" in json.loads(line) for line in path.read_text().splitlines()] == [False, True]
    assert [example.weight for example in read_examples(path)] == [1, 0.5]
    assert examples_sha256([Example("a", "b")]) != examples_sha256([Example("a", "b", weight=2)])


@pytest.mark.parametrize("weight", [0, -1, None, "2", True, float("inf"), float("nan")])
def test_a_weight_that_is_none_is_refused_by_line(tmp_path: Path, weight: Any) -> None:
    path = tmp_path / "examples.jsonl"
    path.write_text(f"{GOOD}\n{row(weight=weight)}\n")
    with pytest.raises(DatasetError, match=r"expected the weight of line 2 of .* to be a finite number above 0"):
        read_examples(path)


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    for text in (GOOD, f"\n{GOOD}"):
        path.write_text(text, encoding="utf-8-sig")
        assert read_examples(path) == [Example("a", "b")]


ASKED = {"role": "user", "content": "a"}
ANSWERED = {"role": "assistant", "content": "b"}


def chat(*messages: Any, **fields: Any) -> str:
    return json.dumps({"messages": messages, **fields})


@pytest.mark.parametrize("before", [[ASKED], [{"role": "system", "content": ""}, ASKED], [ASKED, ANSWERED, ASKED]])
def test_the_last_of_messages_is_the_completion(tmp_path: Path, before: list[dict[str, str]]) -> None:
    path = tmp_path / "examples.jsonl"
    path.write_text(f"{chat(*before, ANSWERED, provenance={'id': 1}, prompt=None, completion=None, n=3)}\n")
    (read,) = read_examples(path)
    assert read == Example(before, "b", {"id": 1})
    write_examples(path, [read])
    assert read_examples(path) == [read]
    path.write_text(row(messages=None))
    assert read_examples(path) == [Example("a", "b")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            chat(ASKED, ANSWERED, **json.loads(GOOD)),
            "either 'messages' or .* 'prompt' and 'completion'; remove one form",
        ),
        (chat(ASKED, ANSWERED, completion="b"), "got 'messages' and 'completion'; remove one form"),
        (chat(ASKED, ANSWERED, ASKED), "to be the assistant's.*got one of role 'user'; remove what follows"),
        (chat(ANSWERED), "list of two or more with 'role' and 'content'.*write each turn as one message"),
        (chat(), "list of two or more"),
        (chat(ASKED, {"role": "assistant", "content": None}), "list of two or more"),
        (chat({"from": "human", "value": "a"}, ANSWERED), "with 'role' and 'content'"),
        ('{"messages": "a"}', "list of two or more"),
        (chat(ASKED, {**ANSWERED, "content": ""}), "completion of .* to be a non-empty text"),
        ('{"prompt": "a", "test": "def check(f): pass"}', "it is a problem: `s0 collect` makes examples of problems"),
        ('{"text": "a"}', r"'prompt' and 'completion', or 'messages', got \['text'\]; rename its fields"),
    ],
)
def test_messages_that_teach_nothing_are_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "examples.jsonl"
    path.write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(DatasetError, match=message) as refused:
        read_examples(path)
    assert "line 2 of" in str(refused.value)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param('{"prompt": "a", "completion": ', id="cut"),
        pytest.param("[" * 100_000, id="nested too deep"),
        pytest.param('["a", "b"]', id="array"),
        pytest.param("7", id="number"),
        pytest.param('{"prompt": "a"}', id="no completion"),
        pytest.param('{"completion": "b"}', id="no prompt"),
        pytest.param(row(completion=""), id="empty completion"),
        pytest.param(row(completion=["b"]), id="completion of a wrong type"),
        pytest.param(row(completion=None), id="null completion"),
        pytest.param(row(completion="b\ud800"), id="half a character"),
        pytest.param(row(prompt=""), id="empty prompt"),
        pytest.param(row(prompt=None), id="null prompt"),
        pytest.param(row(prompt=[]), id="no messages"),
        pytest.param(row(prompt=["a"]), id="message of a wrong type"),
        pytest.param(row(prompt=[{"content": "a"}]), id="message without a role"),
        pytest.param(row(prompt=[{"role": "user", "content": None}]), id="message without a text"),
        pytest.param(row(prompt=[{"role": 1, "content": "a"}]), id="role of a wrong type"),
        pytest.param(row(provenance=["HumanEval/0"]), id="provenance of a wrong type"),
    ],
)
def test_a_malformed_line_is_refused_by_file_and_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "examples.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n")
    with pytest.raises(DatasetError, match=r"line 3 of .*examples\.jsonl"):
        read_examples(path)


@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"\xff\xfe\x00"], ids=["missing", "empty", "blank", "binary"])
def test_a_file_without_examples_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "examples.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"examples\.jsonl"):
        read_examples(path)


def interrupted() -> Iterator[Example]:
    yield Example("a", "b")
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("source", "error"),
    [
        pytest.param(interrupted, KeyboardInterrupt, id="interrupted"),
        pytest.param(lambda: [Example("a", "b"), Example("a", "")], DatasetError, id="unreadable"),
        pytest.param(lambda: [Example("a", "b", {"when": object()})], TypeError, id="no JSON"),
    ],
)
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, source: Any, error: type) -> None:
    path = tmp_path / "examples.jsonl"
    write_examples(path, [Example("old", "file")])
    with pytest.raises(error):
        write_examples(path, source())
    assert read_examples(path) == [Example("old", "file")]
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_examples(tmp_path / "examples.jsonl", [Example("a", "b")])
    assert list(tmp_path.iterdir()) == []


def test_the_hash_of_examples_never_changes() -> None:
    chat = [{"role": "user", "content": "größer?"}]
    hashed = rb'["def f():", "\n    return 1"][[{"content": "gr\u00f6\u00dfer?", "role": "user"}], "ja"]'
    got = examples_sha256([Example("def f():", "\n    return 1"), Example(chat, "ja")])
    assert got == hashlib.sha256(hashed).hexdigest()


def test_the_hash_tells_prompts_completions_and_order_and_nothing_else() -> None:
    chat, turned = {"role": "user", "content": "a"}, {"content": "a", "role": "user"}
    assert examples_sha256([Example([chat], "b", {"seed": 1})]) == examples_sha256([Example([turned], "b")])
    one, two = Example("a", "b"), Example("ab", "c")
    different = [[], [one], [two], [one, two], [two, one], [Example("a", "bc")], [Example("b", "a")]]
    assert len({examples_sha256(each) for each in different}) == len(different)


def test_prompts_are_texts_or_messages_and_other_fields_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    lines = [GOOD, "", json.dumps({"prompt": [ASKED], "messages": None}), chat(ASKED, ANSWERED, ASKED, id=7)]
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    assert read_prompts(path) == ["a", [ASKED], [ASKED, ANSWERED, ASKED]]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("def f(x):", "line 2 of .* to be a JSON object, as in .*, got 'def f"),
        ('"a"', "line 2 of .* to have either 'prompt' or 'messages', got str"),
        ('{"text": "a"}', r"line 2 of .* to have either 'prompt' or 'messages', got \['text'\]; rename"),
        (chat(ASKED, prompt="a"), "line 2 of .* to have either"),
        ('{"prompt": ""}', "the prompt of line 2 of .* to be a non-empty text"),
        ('{"prompt": 7}', "the prompt of line 2"),
        ('{"prompt": "\\ud800"}', "the prompt of line 2"),
        ('{"messages": "a"}', "the messages of line 2"),
        (chat(), "the messages of line 2"),
        (chat({"role": "user"}), "the messages of line 2"),
        (chat(ASKED, ANSWERED), "line 2 of .* to end before the assistant's answer"),
    ],
)
def test_what_is_no_prompt_is_refused_by_file_and_line(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(DatasetError, match=says):
        read_prompts(path)


@pytest.mark.parametrize("content", [None, b"\n \n", b"\xff\xfe\x00"], ids=["missing", "blank", "binary"])
def test_a_file_without_prompts_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "prompts.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"expected .*prompts.*prompts\.jsonl"):
        read_prompts(path)
