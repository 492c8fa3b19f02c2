"""No parameter of OpenAI's client is forgotten: each is taken, or refused where it would change something."""

from __future__ import annotations

from typing import get_type_hints

import pytest
from openai.types import completion_create_params as completions
from openai.types.chat import completion_create_params as chat

from s0.serve.parameters import REFUSED, ChatBody, CompletionBody, parse
from s0.serve.refusals import RequestError

BODIES = {CompletionBody: completions, ChatBody: chat}
LEAST = {
    CompletionBody: {"model": "m", "prompt": "x"},
    ChatBody: {"model": "m", "messages": [{"role": "user", "content": "x"}]},
}
bodies = pytest.mark.parametrize("body", BODIES)


@bodies
def test_every_parameter_of_the_client_is_taken_or_refused(body):
    params = BODIES[body]
    of_client = {
        *get_type_hints(params.CompletionCreateParamsStreaming),
        *get_type_hints(params.CompletionCreateParamsNonStreaming),
    }
    assert of_client == set(body.model_fields) | set(REFUSED[body])
    assert set(body.model_fields) & set(REFUSED[body]) == set()
    assert all(field.description for field in body.model_fields.values())


@bodies
def test_what_changes_nothing_is_taken_and_anything_else_refused(body):
    for name, neutral in REFUSED[body].items():
        for value in neutral:
            parse(body, {**LEAST[body], name: value})
        for value in ("anything", 1.5, True, {"a": 1}, [1]):
            with pytest.raises(RequestError, match=f"`{name}`") as error:
                parse(body, {**LEAST[body], name: value})
            assert (error.value.param, error.value.code) == (name, "unsupported_parameter")


def test_zero_is_not_false_and_one_is_not_true():
    for name, value in (("echo", 0), ("best_of", True), ("presence_penalty", False)):
        with pytest.raises(RequestError, match=name):
            parse(CompletionBody, {**LEAST[CompletionBody], name: value})


@bodies
def test_a_parameter_without_its_value_is_as_if_it_were_left_out(body):
    optional = {name for name, field in body.model_fields.items() if not field.is_required()}
    assert parse(body, {**LEAST[body], **dict.fromkeys(optional)}) == parse(body, LEAST[body])


def test_a_message_is_what_chat_templates_know():
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": parts}, {"role": "user", "content": "c"}]
    asked = parse(ChatBody, {"model": "m", "messages": messages})
    assert [message.for_template() for message in asked.messages] == [
        {"role": "system", "content": "a b"},
        {"role": "user", "content": "c"},
    ]
