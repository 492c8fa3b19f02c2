"""Every parameter of OpenAI's requests: those that are taken, and those that are refused unless they change nothing.

Nothing is ignored. A name that is neither here nor there is refused as unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from s0.serve.refusals import RequestError

Body = TypeVar("Body", bound=BaseModel)

MOST_LOGPROBS = 20
_MOST_STOPS, _LONGEST_STOP = 16, 128

StopText = Annotated[str, Field(min_length=1, max_length=_LONGEST_STOP)]
Token = Annotated[int, Field(ge=0)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(_Body):
    """What a stream holds beyond text."""

    include_usage: bool | None = None


class TextPart(_Body):
    """A part of a message, of the one type that there is here."""

    type: Literal["text"]
    text: str


def _kind_of_content(content: Any) -> str:
    return "parts" if isinstance(content, list) else "text"


class Message(_Body):
    """A turn of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[TextPart], Field(min_length=1), Tag("parts")],
        Discriminator(_kind_of_content),  # so that an error names what is wrong with a part
    ]

    def for_template(self) -> dict[str, str]:
        """As chat templates know it."""
        role = "system" if self.role == "developer" else self.role  # as OpenAI's newer models call it
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": role, "content": content}


class Sampled(_Body):
    """What both kinds of completions take.

    Attributes:
        asks_in: the parameter that holds what is to be continued.
    """

    asks_in: ClassVar[str]

    model: str = Field(description="The base model, or a state: what the completion starts from. Unknown: 404.")
    max_tokens: int | None = Field(
        None, ge=1, description="Upper bound; default 16 for completions, for chat as many as there is room for."
    )
    temperature: float | None = Field(
        None, ge=0, le=2, allow_inf_nan=False, description="Default 1; 0 takes the likeliest token at every step."
    )
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False, description="Default 1.")
    n: int | None = Field(None, ge=1, description="Samples of each prompt; default 1. Above 1 only with a temperature.")
    seed: int | None = Field(None, description="The same seed gives the same text; default: another one each time.")
    stop: StopText | Annotated[list[StopText], Field(max_length=_MOST_STOPS)] | None = Field(
        None, description=f"Up to {_MOST_STOPS} texts of up to {_LONGEST_STOP} characters; they are cut off."
    )
    stream: bool | None = Field(None, description="Server-sent events, piece by piece.")
    stream_options: StreamOptions | None = Field(
        None, description="`include_usage` alone, with `stream`: the last chunk has the usage."
    )
    user: str | None = Field(None, max_length=256, description="Stands in the log.")


class CompletionBody(Sampled):
    """`POST /v1/completions`."""

    asks_in = "prompt"

    prompt: str | list[str] | list[Token] | list[list[Token]] = Field(
        description="A text, a list of tokens, or a list of either; never cut."
    )
    logprobs: int | None = Field(
        None, ge=0, le=MOST_LOGPROBS, description=f"So many of the likeliest tokens, up to {MOST_LOGPROBS}, at each."
    )


class ChatBody(Sampled):
    """`POST /v1/chat/completions`."""

    asks_in = "messages"

    messages: list[Message] = Field(
        min_length=1,
        description="`role` system (or developer, the same), user or assistant; `content` a text, or a list of parts "
        '`{"type": "text", "text": ...}`, which are joined as they are; nothing else.',
    )
    max_completion_tokens: int | None = Field(None, ge=1, description="The same as `max_tokens`; one of the two.")
    logprobs: bool | None = Field(None, description="The log-probability of each token, the first one's included.")
    top_logprobs: int | None = Field(
        None, ge=0, le=MOST_LOGPROBS, description=f"Up to {MOST_LOGPROBS} of the likeliest, with `logprobs`."
    )


class LoadBody(_Body):
    """`POST /v1/load_lora_adapter`, as vLLM has it."""

    lora_name: str
    lora_path: str


class UnloadBody(_Body):
    """`POST /v1/unload_lora_adapter`, as vLLM has it."""

    lora_name: str


class VerdictBody(_Body):
    """`POST /playground/verdict`."""

    task: str = Field(description="One of `GET /playground`.")
    problem: str = Field(description="The id of one of its problems.")
    completion: str = Field(description="The whole answer.")


_ALONE: tuple[Any, ...] = (None,)
_REFUSED_BY_BOTH: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (None, 0),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
}
REFUSED: dict[type[BaseModel], dict[str, tuple[Any, ...]]] = {
    CompletionBody: {**_REFUSED_BY_BOTH, "best_of": (None, 1), "echo": (None, False), "suffix": (None, "")},
    ChatBody: {
        **_REFUSED_BY_BOTH,
        "audio": _ALONE,
        "function_call": (None, "none"),
        "functions": (None, []),
        "metadata": (None, {}),
        "modalities": (None, ["text"]),
        "moderation": _ALONE,
        "parallel_tool_calls": _ALONE,
        "prediction": _ALONE,
        "prompt_cache_key": _ALONE,
        "prompt_cache_options": _ALONE,
        "prompt_cache_retention": _ALONE,
        "reasoning_effort": (None, "none"),
        "response_format": (None, {"type": "text"}),
        "safety_identifier": _ALONE,
        "service_tier": (None, "auto", "default"),
        "store": (None, False),
        "tool_choice": (None, "none"),
        "tools": (None, []),
        "verbosity": _ALONE,
        "web_search_options": _ALONE,
    },
}
"""The values that change nothing, by parameter; any other one is refused."""


def parse(body: type[Body], values: Mapping[str, Any]) -> Body:
    """The parameters of a request, checked.

    Raises:
        RequestError: one is unknown, refused, or not what it may be; names the first.
    """
    refused = REFUSED.get(body, {})
    for name, value in values.items():
        if name in refused and not any(_is_same(value, neutral) for neutral in refused[name]):
            raise RequestError(
                f"expected no `{name}`, which this server has not, got {value!r:.80}; leave it out",
                name,
                code="unsupported_parameter",
            )
    try:
        return body.model_validate({name: value for name, value in values.items() if name not in refused})
    except ValidationError as error:
        raise _in_words(error, values) from None


def _is_same(value: Any, neutral: Any) -> bool:
    is_number = isinstance(neutral, int) and not isinstance(neutral, bool)
    kinds = (int, float) if is_number else (type(neutral),)
    return type(value) in kinds and bool(value == neutral)


def _in_words(error: ValidationError, values: Mapping[str, Any]) -> RequestError:
    errors = error.errors(include_url=False, include_context=False)
    name = str(errors[0]["loc"][0])
    of_parameter = [each for each in errors if each["loc"][0] == errors[0]["loc"][0]]  # by each type that it may have
    first = max(of_parameter, key=lambda each: _place(each, values).count("."))  # of the type that fits the furthest
    place = _place(first, values)
    if first["type"] == "extra_forbidden":
        return RequestError(
            f"expected parameters of the API, got `{place:.100}`; leave it out", name, code="unknown_parameter"
        )
    if first["type"] == "missing":
        return RequestError(f"expected `{place}`, got none; add it", name, code="missing_parameter")
    said = dict.fromkeys(
        f"{each['msg'][0].lower()}{each['msg'][1:]}" for each in of_parameter if _place(each, values) == place
    )
    return RequestError(
        f"expected another `{place:.100}` than {first['input']!r:.80}: {', or '.join(said)}", name, code="invalid_value"
    )


def _place(error: Mapping[str, Any], values: Any) -> str:
    """Where in a request something is wrong, in the request's own names: pydantic puts its types between them."""
    names = []
    for part in error["loc"]:
        is_name = isinstance(values, Mapping) and part in values
        is_index = isinstance(values, list) and isinstance(part, int)
        if is_name or is_index:
            values = values[part]
            names.append(str(part))
    if error["type"] == "missing":
        names.append(str(error["loc"][-1]))
    return ".".join(names)
