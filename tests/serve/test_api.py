"""OpenAI's own client against a real server: every answer is the library's, in whole and in pieces."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import openai
import pytest
import torch

from s0.adapter.attach import alone
from s0.decode import Completion, Sampling, generate
from tests.serve.serving import Server, serving
from tests.serve.states import save
from tests.serve.talking import PROMPT, TEXT, talking_model

STATES = ("base", "a", "b")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model, tokenizer = talking_model()
    folder = tmp_path_factory.mktemp("states")
    states = {name: save(folder / name, i, model, size=0.4) for i, name in enumerate(STATES[1:])}
    with serving(model, tokenizer, max_new_tokens=400, max_samples=6, max_prompt_tokens=200) as running:
        for name, path in states.items():
            running.add(name, path)
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def library(server: Server, state: str, prompts: Sequence[Any], sampling: Sampling, n: int = 1) -> list[Completion]:
    """What the library's own `generate` writes, one prompt and one sample after the other, on the same model."""
    server.all_given_back()
    version = server.states.acquire(state)
    assert version is not None
    server.states.release(version)
    model = copy.deepcopy(server.model)
    with alone(model, version.adapter) if state != "base" else alone(model, "none of them"):
        return [
            completion
            for prompt in prompts
            for completion in generate(model, server.tokenizer, [prompt], sampling, n=n)[0]
        ]


def test_states_answer_as_the_library_does_and_differ(server, client):
    texts = []
    for name in STATES:
        (expected,) = library(server, name, [PROMPT], Sampling(60))
        answer = client.completions.create(model=name, prompt=PROMPT, temperature=0, max_tokens=60)
        (choice,) = answer.choices
        assert choice.text == expected.text
        assert choice.finish_reason == ("length" if expected.truncated else "stop")
        assert answer.usage.completion_tokens == expected.n_tokens and answer.usage.prompt_tokens == len(PROMPT)
        assert answer.usage.total_tokens == expected.n_tokens + len(PROMPT)
        assert answer.model == name and answer.id.startswith("cmpl-") and answer.object == "text_completion"
        texts.append(choice.text)
    assert texts[0] == TEXT and len(set(texts)) == 3


def test_many_clients_at_once_get_what_each_gets_alone(server):
    asked = [
        (STATES[i % 3], f"{PROMPT}{'n' * (i % 4)}", {"seed": i, "temperature": (0, 0.8, 1.3)[i % 2]}) for i in range(24)
    ]

    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:

            async def text_of(i: int) -> str:
                model, prompt, how = asked[i]
                if i % 3:
                    answer = await client.completions.create(model=model, prompt=prompt, max_tokens=20, **how)
                    return answer.choices[0].text
                chunks = await client.completions.create(model=model, prompt=prompt, max_tokens=20, stream=True, **how)
                return "".join([chunk.choices[0].text async for chunk in chunks])

            return await asyncio.gather(*map(text_of, range(len(asked))))

    answers = asyncio.run(all_of_them())
    for (model, prompt, how), answer in zip(asked, answers, strict=True):
        (expected,) = library(server, model, [prompt], Sampling(20, how["temperature"], seed=how["seed"]))
        assert answer == expected.text


@pytest.mark.parametrize("streamed", [False, True])
def test_several_samples_of_several_prompts_with_a_seed(server, client, streamed):
    prompts, how = [PROMPT, PROMPT + "na"], {"temperature": 1.1, "top_p": 0.9, "seed": 7, "max_tokens": 12, "n": 3}
    expected = library(server, "a", prompts, Sampling(12, 1.1, 0.9, seed=7), n=3)
    assert len({completion.text for completion in expected}) > 3
    for _ in range(2):
        if streamed:
            texts, ends = [""] * 6, [None] * 6
            for chunk in client.completions.create(model="a", prompt=prompts, stream=True, **how):
                (choice,) = chunk.choices
                texts[choice.index] += choice.text
                assert ends[choice.index] is None
                ends[choice.index] = choice.finish_reason
            assert None not in ends
        else:
            choices = client.completions.create(model="a", prompt=prompts, **how).choices
            assert [choice.index for choice in choices] == list(range(6))
            texts = [choice.text for choice in choices]
        assert texts == [completion.text for completion in expected]


def test_without_a_seed_samples_differ(client):
    texts = {
        client.completions.create(model="a", prompt=PROMPT, temperature=2, max_tokens=20).choices[0].text
        for _ in range(4)
    }
    assert len(texts) > 1


def test_prompts_of_tokens_are_the_same_prompts(server, client):
    tokens = server.tokenizer(PROMPT)["input_ids"]
    for prompt in (PROMPT, tokens, [tokens], [PROMPT]):
        answer = client.completions.create(model="base", prompt=prompt, temperature=0)
        assert answer.choices[0].text == library(server, "base", [PROMPT], Sampling(16))[0].text


def test_a_character_of_several_bytes_is_sent_whole(client):
    chunks = [
        chunk.choices[0].text
        for chunk in client.completions.create(model="base", prompt=PROMPT, temperature=0, max_tokens=60, stream=True)
    ]
    assert "".join(chunks) == TEXT and "\ufffd" not in "".join(chunks)
    assert {"ï", "日", "🙂"} <= set(chunks)


def test_a_text_that_ends_within_a_character_says_so(client):
    n_bytes = len("naï".encode()) - 1
    chunks = [
        chunk.choices[0].text
        for chunk in client.completions.create(
            model="base", prompt=PROMPT, temperature=0, max_tokens=n_bytes, stream=True
        )
    ]
    assert "".join(chunks) == "na\ufffd"


@pytest.mark.parametrize("stop", ["STOP", ["never", " STOP"], [".", "ST"]])
def test_a_stop_text_across_chunks_is_never_sent(client, stop):
    how = {"model": "base", "prompt": PROMPT, "temperature": 0, "max_tokens": 60, "stop": stop}
    stops = [stop] if isinstance(stop, str) else stop
    expected = TEXT[: min(at for text in stops if (at := TEXT.find(text)) >= 0)]
    chunks = [chunk.choices[0] for chunk in client.completions.create(**how, stream=True)]
    assert "".join(choice.text for choice in chunks) == expected
    assert chunks[-1].finish_reason == "stop"
    whole = client.completions.create(**how).choices[0]
    assert (whole.text, whole.finish_reason) == (expected, "stop")


def test_a_stop_text_that_does_not_come_is_sent_after_all(client):
    how = {"model": "base", "prompt": PROMPT, "temperature": 0, "max_tokens": 60, "stop": "STOP it"}
    chunks = [chunk.choices[0].text for chunk in client.completions.create(**how, stream=True)]
    assert "".join(chunks) == TEXT


@pytest.mark.parametrize("chat", [False, True])
def test_the_usage_is_on_the_last_chunk_where_it_is_asked_for(client, chat):
    def chunks(**how: Any) -> list[Any]:
        if chat:
            messages = [{"role": "user", "content": PROMPT}]
            return list(
                client.chat.completions.create(model="base", messages=messages, temperature=0, stream=True, **how)
            )
        return list(client.completions.create(model="base", prompt=PROMPT, temperature=0, stream=True, **how))

    *before, last = chunks(max_tokens=9, stream_options={"include_usage": True})
    assert [chunk.usage for chunk in before] == [None] * len(before) and last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (len(PROMPT), 9, 14)
    assert all(chunk.usage is None and chunk.choices for chunk in chunks(max_tokens=9))


def test_chat_answers_as_the_library_does_through_the_template(server, client):
    messages = [{"role": "system", "content": "say"}, {"role": "user", "content": ": "}]
    for name in STATES:
        (expected,) = library(server, name, [messages], Sampling(25))
        answer = client.chat.completions.create(model=name, messages=messages, temperature=0, max_completion_tokens=25)
        (choice,) = answer.choices
        assert (choice.message.role, choice.message.content) == ("assistant", expected.text)
        chunks = [
            chunk.choices[0]
            for chunk in client.chat.completions.create(
                model=name, messages=messages, temperature=0, max_tokens=25, stream=True
            )
        ]
        assert chunks[0].delta.role == "assistant" and chunks[-1].finish_reason == choice.finish_reason
        assert "".join(chunk.delta.content or "" for chunk in chunks) == expected.text


def test_a_developer_is_the_system_and_parts_of_text_are_one_text(client):
    whole = [{"role": "system", "content": "say"}, {"role": "user", "content": ": "}]
    parts = [{"type": "text", "text": ":"}, {"type": "text", "text": " "}]
    newer = [{"role": "developer", "content": [{"type": "text", "text": "say"}]}, {"role": "user", "content": parts}]
    texts = {
        client.chat.completions.create(model="a", messages=messages, temperature=0, max_tokens=25)
        .choices[0]
        .message.content
        for messages in (whole, newer)
    }
    assert len(texts) == 1


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "refusal"])
def test_parts_of_other_types_are_refused_by_name(client, kind):
    parts = [{"type": "text", "text": "x"}, {"type": kind, kind: {"url": "x"}}]
    with pytest.raises(openai.BadRequestError, match=f"'{kind}': input should be 'text'") as error:
        client.chat.completions.create(model="base", messages=[{"role": "user", "content": parts}])
    assert error.value.param == "messages" and "messages.0.content.1.type" in str(error.value)


def test_chat_goes_on_as_long_as_there_is_room(client):
    messages = [{"role": "user", "content": PROMPT}]
    answer = client.chat.completions.create(model="base", messages=messages, temperature=0)
    assert answer.choices[0].message.content == TEXT


def test_chat_without_a_template_says_what_to_do(server, client, monkeypatch):
    monkeypatch.setattr(server.service.tokenizer, "chat_template", None)
    with pytest.raises(openai.BadRequestError, match=r"chat_template\.jinja") as error:
        client.chat.completions.create(model="base", messages=[{"role": "user", "content": "hello"}])
    assert error.value.code == "no_chat_template" and "/v1/completions" in str(error.value)


# --- Log-probabilities ---


def logprobs_alone(server: Server, tokens: Sequence[int]) -> torch.Tensor:
    """Of each token behind the prompt, by the model on the whole text at once; the base model's."""
    server.all_given_back()
    prompt = server.tokenizer(PROMPT)["input_ids"]
    ids = torch.tensor([[*prompt, *tokens]])
    with torch.no_grad(), alone(server.model, "none of them"):
        return server.model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)


@pytest.mark.parametrize("streamed", [False, True])
def test_completions_tell_the_logprobs_of_every_token_from_the_first_on(server, client, streamed):
    how: dict[str, Any] = {"model": "base", "prompt": PROMPT, "temperature": 0, "max_tokens": 12, "logprobs": 2}
    if streamed:
        parts = [chunk.choices[0].logprobs for chunk in client.completions.create(**how, stream=True)]
    else:
        parts = [client.completions.create(**how).choices[0].logprobs]
    tokens = [token for part in parts for token in part.tokens]
    values = [value for part in parts for value in part.token_logprobs]
    offsets = [offset for part in parts for offset in part.text_offset]
    likeliest = [top for part in parts for top in part.top_logprobs]
    ids = server.tokenizer(TEXT)["input_ids"][:12]
    expected = logprobs_alone(server, ids)
    assert tokens == [server.tokenizer.decode([token]) for token in ids] and tokens[0] == "n"
    assert values == pytest.approx([expected[i, token].item() for i, token in enumerate(ids)], abs=1e-4)
    assert offsets == [0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 9]  # ï and é are two bytes
    for row, top in zip(expected, likeliest, strict=True):
        assert max(top.values()) == pytest.approx(row.max().item(), abs=1e-4) and len(top) <= 3


@pytest.mark.parametrize("streamed", [False, True])
def test_chat_tells_them_too(server, client, streamed):
    how: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": PROMPT}], "temperature": 0}
    how |= {"max_tokens": 60, "logprobs": True, "top_logprobs": 3}
    if streamed:
        chunks = [chunk.choices[0].logprobs for chunk in client.chat.completions.create(**how, stream=True)]
        content = [entry for logprobs in chunks if logprobs for entry in logprobs.content]
    else:
        content = client.chat.completions.create(**how).choices[0].logprobs.content
    ids = server.tokenizer(TEXT)["input_ids"]
    expected = logprobs_alone(server, ids)
    assert len(content) == len(ids)  # the end token is none of the text
    for entry, token, row in zip(content, ids, expected, strict=True):
        assert entry.logprob == pytest.approx(row[token].item(), abs=1e-4)
        assert [top.logprob for top in entry.top_logprobs] == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)
        assert entry.bytes is None if "\ufffd" in entry.token else bytes(entry.bytes).decode() == entry.token


def test_those_who_ask_for_no_logprobs_get_none(client):
    messages = [{"role": "user", "content": PROMPT}]
    assert client.completions.create(model="base", prompt=PROMPT).choices[0].logprobs is None
    assert client.chat.completions.create(model="base", messages=messages).choices[0].logprobs is None
    chosen = client.completions.create(model="base", prompt=PROMPT, logprobs=0, temperature=0).choices[0].logprobs
    assert [len(top) for top in chosen.top_logprobs] == [1] * len(chosen.token_logprobs)
    assert all(map(math.isfinite, chosen.token_logprobs))


# --- Refusals ---


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 7}, "n"),
        ({"n": 2, "temperature": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 401}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"stop": ""}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": "x" * 129}, "stop"),
        ({"logprobs": 21}, "logprobs"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [10**6]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": "x" * 201}, "prompt"),
        ({"prompt": ["a"] * 7}, "n"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options"),
        ({"echo": True}, "echo"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"extra_body": {"top_k": 5}}, "top_k"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_name(client, changed, param):
    asked = {"model": "base", "prompt": PROMPT, **changed}
    with pytest.raises(openai.BadRequestError, match="expected") as error:
        client.completions.create(**asked)
    assert error.value.param == param and error.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"prompt": {}}, "another `prompt` than {}: input should be a valid string, or input should be a valid list"),
        ({"prompt": ["a", 1]}, "another `prompt.1` than 1: input should be a valid string"),
        ({"prompt": [[5], [6, -1]]}, "another `prompt.1.1` than -1: input should be greater than or equal to 0"),
        ({"stop": 5}, "another `stop` than 5: input should be a valid string, or input should be a valid list"),
        ({"stop": ["a", ""]}, "another `stop.1` than '': string should have at least 1 character"),
    ],
    ids=str,
)
def test_what_may_be_of_several_types_is_refused_where_it_is_wrong(client, changed, said):
    with pytest.raises(openai.BadRequestError, match=re.escape(said)):
        client.completions.create(**{"model": "base", "prompt": PROMPT, **changed})


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 201}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x", "name": "me"}]}, "messages"),
        ({"messages": [{"role": "user", "content": []}]}, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, "messages"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"store": True}, "store"),
    ],
    ids=str,
)
def test_the_same_of_chat(client, changed, param):
    with pytest.raises(openai.BadRequestError, match="expected") as error:
        client.chat.completions.create(**{"model": "base", "messages": [{"role": "user", "content": "x"}], **changed})
    assert error.value.param == param


def test_values_that_change_nothing_are_taken(client):
    how: dict[str, Any] = {
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "user": "me",
        "top_p": None,
    }
    assert client.completions.create(model="base", prompt=PROMPT, echo=False, best_of=1, suffix=None, **how).choices
    messages = [{"role": "user", "content": PROMPT}]
    how |= {"response_format": {"type": "text"}, "tools": [], "tool_choice": "none", "modalities": ["text"]}
    assert client.chat.completions.create(model="base", messages=messages, store=False, **how).choices


@pytest.mark.parametrize("name", ["nothing", "__base__", "served_0", "A", "", "base "])
def test_an_unknown_model_is_not_found_and_never_the_base_model(client, name):
    for ask in (
        lambda: client.completions.create(model=name, prompt=PROMPT),
        lambda: client.completions.create(model=name, prompt=PROMPT, stream=True),
        lambda: client.chat.completions.create(model=name, messages=[{"role": "user", "content": "x"}]),
    ):
        with pytest.raises(openai.NotFoundError, match="expected `model`") as error:
            ask()
        assert error.value.code == "model_not_found" and error.value.param == "model"


def test_the_models_are_the_base_model_and_its_states(client):
    models = {model.id: model for model in client.models.list()}
    assert list(models) == ["base", "a", "b"]
    assert [model.parent for model in models.values()] == [None, "base", "base"]
    assert client.models.retrieve("a").parent == "base"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("c")


# --- Clients that go ---


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_goes_gives_its_rows_back(server, client, streamed):
    async def ask_and_go() -> None:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as leaving:
            how: dict[str, Any] = {
                "model": "b",
                "prompt": PROMPT + "x" * 9,
                "max_tokens": 400,
                "n": 6,
                "temperature": 2,
            }
            if streamed:
                chunks = await leaving.completions.create(**how, stream=True)
                async for _ in chunks:
                    break
                await chunks.close()
            else:
                asking = asyncio.create_task(leaving.completions.create(**how))
                while not server.service.runner._running:
                    await asyncio.sleep(0.002)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking

    before = cancelled(server)
    asyncio.run(ask_and_go())
    server.all_given_back()
    assert cancelled(server) > before


def cancelled(server: Server) -> float:
    lines = server.service.metrics.text().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if 'outcome="cancelled"' in line and "_total" in line)


def test_raw_events_are_as_openai_sends_them(server, client):
    raw = client.completions.with_streaming_response.create(
        model="base", prompt=PROMPT, temperature=0, max_tokens=3, stream=True
    )
    with raw as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    bodies = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert [body["choices"][0]["text"] for body in bodies] == ["n", "a", "\ufffd"]
    assert len({body["id"] for body in bodies}) == 1 and bodies[-1]["choices"][0]["finish_reason"] == "length"
