"""Requests that join and leave a running batch get what they get alone, token for token.

Greedy requests are compared with `model.generate` on one prompt, sampled ones with a batcher that has nothing else to
do; in float64, since rounding differs with the number of rows.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from torch import nn

from s0 import S0AdapterConfig
from s0.decode import Batcher, Event, Request, caches
from s0.errors import ConfigError, UnsupportedModelError
from tests import words, zoo
from tests.breadth import mostly_slow
from tests.core.helpers import fill
from tests.installed import generation_behind_a_prefix

BASE = "__base__"
TOKENIZER = words.characters()
LENGTHS = (1, 2, 3, 7, 12, 20)


@pytest.fixture(autouse=True)
def few_spare_columns(monkeypatch):
    monkeypatch.setattr(caches, "_SPARE_COLUMNS", 3)


def with_states(family: str, dtype: torch.dtype = torch.float64) -> PeftModel:
    """A tiny model with random states "one", which is active, and "two"."""
    model = get_peft_model(zoo.make(family, dtype), S0AdapterConfig(), "one")
    model.add_adapter("two", S0AdapterConfig())
    fill(model, "one", seed=1)
    fill(model, "two", seed=2)
    return model.eval()


def prompt(rng: random.Random, length: int) -> tuple[int, ...]:
    return tuple(rng.randrange(3, 50) for _ in range(length))


def single(model: Any, request: Request) -> list[int]:
    """What `model.generate` writes after one prompt alone, greedily."""
    ids = torch.tensor([request.tokens])
    settings: dict[str, Any] = {} if request.state is None else {"adapter_names": [request.state]}
    if request.stop:
        settings |= {"stop_strings": list(request.stop), "tokenizer": TOKENIZER}
    ends = model.generation_config.eos_token_id or TOKENIZER.eos_token_id
    settings |= {"eos_token_id": ends, "pad_token_id": 0, "attention_mask": torch.ones_like(ids)}
    output = model.generate(input_ids=ids, max_new_tokens=request.max_new_tokens, do_sample=False, **settings)
    return output[0, ids.shape[1] :].tolist()


def drive(
    batcher: Batcher, requests: Sequence[Request], at_once: Callable[[], int] = lambda: 1000
) -> list[list[Event]]:
    """The events of every request, where `at_once()` requests are submitted between two steps."""
    left, events = list(reversed(requests)), {}
    while left or batcher.unfinished:
        for _ in range(min(at_once(), len(left))):
            events[batcher.submit(left.pop())] = []
        for event in batcher.step():
            events[event.request].append(event)
    return list(events.values())


def tokens(events: Sequence[Event]) -> list[int]:
    return [event.token for event in events]


# --- Same as alone ---


def pool(model: PeftModel, rng: random.Random) -> list[Request]:
    """Forty different requests: states, lengths, limits, stop texts, greedy and sampled."""
    requests = []
    for i in range(40):
        request = Request(
            prompt(rng, LENGTHS[i % len(LENGTHS)]), rng.choice((1, 3, 6)), state=("one", "two", BASE, None)[i // 2 % 4]
        )
        if i % 4 == 1:
            text = TOKENIZER.decode(single(model, request), skip_special_tokens=True)
            request = replace(request, stop=("never", text[2:4]) if len(text) > 3 else ("never",))
        if i % 2 == 0:
            request = replace(request, temperature=rng.choice((0.7, 1.5)), top_p=rng.choice((0.8, 1.0)), seed=i)
        requests.append(request)
    return requests


@pytest.mark.parametrize("family", mostly_slow(["qwen3_5", "falcon_h1"], ["qwen3_5"]))
def test_two_hundred_mixed_requests_get_what_they_get_alone(family):
    model, rng = with_states(family), random.Random(0)
    model.generation_config.eos_token_id = [1, 7, 30]  # some end early
    requests = pool(model, rng)
    alone = {
        one: tokens(drive(Batcher(model, TOKENIZER), [one])[0]) if one.temperature else single(model, one)
        for one in requests
    }
    by_state = [single(model, Request((5, 6, 8), 9, state=state)) for state in ("one", "two", BASE, None)]
    assert by_state[0] == by_state[3] and len({tuple(row) for row in by_state}) == 3  # the states matter
    asked = [rng.choice(requests) for _ in range(200)]
    batcher = Batcher(model, TOKENIZER, max_rows=7)
    answers = drive(batcher, asked, at_once=lambda: rng.choice((0, 1, 2, 9)))
    for request, events in zip(asked, answers, strict=True):
        assert tokens(events) == alone[request]
        done = events[-1].completion
        assert [event.completion for event in events[:-1]] == [None] * (len(events) - 1) and done is not None
        assert done.n_tokens == len(events) and "".join(event.text for event in events) == done.text
        ended = tokens(events)[-1] in (1, 7, 30)
        whole = TOKENIZER.decode(tokens(events)[: -1 if ended else None], skip_special_tokens=True)
        stopped = any(stop in whole for stop in request.stop)
        assert done.text == min((whole.split(stop)[0] for stop in request.stop), key=len, default=whole)
        assert done.truncated == (len(events) == request.max_new_tokens and not ended and not stopped)
    ends = [(events[-1].completion.truncated, events[-1].token in (1, 7, 30)) for events in answers]
    assert {(True, False), (False, True), (False, False)} <= set(ends)  # at the limit, at an end token, at a stop text


@pytest.mark.parametrize(
    "family",
    mostly_slow(
        ["kimi_linear", "nemotron_h", "zamba2", "mamba2", "glm5_next", "llama", "mamba", "lfm2"],
        ["kimi_linear", "mamba2", "llama"],
    ),
)
def test_every_kind_of_cache(family):
    # Attention only, recurrence only, both in a layer, layers without a cache, layers that rows cannot share.
    rng = random.Random(1)
    model: Any = with_states(family) if family in zoo.FAMILIES else zoo.make(family, torch.float64)
    states = ("one", "two", BASE) if family in zoo.FAMILIES else (None,)
    requests = [Request(prompt(rng, n), 3, state=states[i % len(states)]) for i, n in enumerate((5, 1, 5, 9))]
    answers = drive(Batcher(model, TOKENIZER, max_rows=3), [*requests, *requests[:2]], at_once=lambda: 2)
    want = [single(model, one) for one in requests]
    assert [tokens(events) for events in answers] == [*want, *want[:2]]


def test_a_window_that_slides_is_left_to_the_models_own_cache():
    settings = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    sliding = dict(layer_types=["sliding_attention", "full_attention"], sliding_window=4, use_sliding_window=True)
    zoo.REFUSED["qwen2"] = ("qwen2", {**settings, **sliding, "num_key_value_heads": 1})
    try:
        model, rng = zoo.make("qwen2", torch.float64), random.Random(2)
    finally:
        del zoo.REFUSED["qwen2"]
    requests = [Request(prompt(rng, n), 6) for n in (9, 2, 5)]
    answers = drive(Batcher(model, TOKENIZER), requests)
    assert [tokens(events) for events in answers] == [single(model, one) for one in requests]


def test_other_adapters_stay_on():
    model = get_peft_model(zoo.make("qwen3_5", torch.float64), LoraConfig(target_modules=["q_proj", "out_proj"])).eval()
    generator = torch.Generator().manual_seed(3)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(generator=generator)
    rng = random.Random(3)
    requests = [Request(prompt(rng, n), 5) for n in (9, 2, 5, 5)]
    answers = [tokens(events) for events in drive(Batcher(model, TOKENIZER), requests)]
    assert answers == [single(model, one) for one in requests]
    with model.disable_adapter():
        assert answers != [tokens(events) for events in drive(Batcher(model, TOKENIZER), requests)]


@generation_behind_a_prefix
def test_a_prefix_enters_once():
    model = get_peft_model(
        zoo.make("llama", torch.float64), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    ).eval()
    model.prompt_encoder.default.embedding.weight.data.normal_(generator=torch.Generator().manual_seed(4))
    model.double()
    rng = random.Random(4)
    requests = [Request(prompt(rng, n), 6) for n in (9, 2, 5, 5)]
    answers = [tokens(events) for events in drive(Batcher(model, TOKENIZER, max_rows=3), requests)]
    assert answers == [single(model, one) for one in requests]
    with model.disable_adapter():
        plain = [tokens(events) for events in drive(Batcher(model, TOKENIZER), requests)]
        assert plain == [single(model, one) for one in requests] != answers


# --- How it runs ---


def test_the_state_enters_with_the_prompt_and_never_again():
    model, rng = with_states("qwen3_5"), random.Random(5)
    requests = [Request(prompt(rng, n), 6, state=state) for n, state in ((4, "one"), (4, "two"), (6, BASE))]
    want = [single(model, one) for one in requests]
    batcher = Batcher(model, TOKENIZER)
    numbers = [batcher.submit(one) for one in requests]
    events = batcher.step()
    fill(model, "one", seed=8)  # as if other states had come in their place
    fill(model, "two", seed=9)
    while batcher.unfinished:
        events += batcher.step()
    assert [tokens([event for event in events if event.request == number]) for number in numbers] == want
    assert single(model, requests[0]) != want[0]


def test_prompts_are_never_padded_and_equal_ones_are_read_once():
    model, rng = with_states("qwen3_5"), random.Random(6)
    shapes = []
    model.register_forward_pre_hook(
        lambda module, args, given: shapes.append(given["input_ids"].shape), with_kwargs=True
    )
    long, short, others = prompt(rng, 5), prompt(rng, 3), [prompt(rng, 5) for _ in range(4)]
    requests = [Request(long, 1, temperature=1.0, seed=seed, state="one") for seed in range(20)]
    requests += [Request(long, 1, state="two"), *(Request(other, 1, state="one") for other in others)]
    requests += [Request(long, 1), Request(short, 1, state="one"), Request(long, 1, state="one")]
    drive(Batcher(model, TOKENIZER, max_rows=4), requests)
    assert shapes == [(4, 5), (2, 5), (1, 5), (1, 3)]


def test_a_model_without_attention_is_given_no_mask():
    model, rng, masks = zoo.make("mamba"), random.Random(11), []
    model.register_forward_pre_hook(
        lambda module, args, given: masks.append(given.get("attention_mask")), with_kwargs=True
    )
    drive(Batcher(model, TOKENIZER), [Request(prompt(rng, n), 4) for n in (2, 5)])
    assert masks == [None] * 5  # its mixers would take the columns for tokens to be read


def test_memory_is_bounded_by_the_rows_and_the_longest():
    model, rng = with_states("falcon_h1"), random.Random(7)
    batcher = Batcher(model, TOKENIZER, max_rows=5)
    held: list[tuple[int, int]] = []
    requests = [Request(prompt(rng, length), 1 + length % 7) for length in range(1, 21)]
    for request in [*requests, *(Request(prompt(rng, 2), 16) for _ in range(16))]:
        batcher.submit(request)
    while batcher.unfinished:
        batcher.step()
        assert len(batcher._ready) <= 8
        held += [layer.buffers[0].data.shape[::2] for layer in batcher._cache.layers]
    longest = 20 + 7 + 1 + caches._SPARE_COLUMNS
    assert max(rows for rows, _ in held) == 5 and max(columns for _, columns in held) <= longest
    assert held[-1][1] <= 2 + 16 + caches._SPARE_COLUMNS  # columns that nobody uses any more are given back


def test_cancelled_requests_leave_the_others_alone():
    model, rng = with_states("qwen3_5"), random.Random(8)
    requests = [Request(prompt(rng, 3 + i % 2), 5) for i in range(8)]
    batcher = Batcher(model, TOKENIZER, max_rows=3)
    numbers = [batcher.submit(one) for one in requests]
    events = batcher.step()  # three run, one is ready, four wait
    for number in (numbers[0], numbers[6], numbers[1], numbers[1], 999):
        batcher.cancel(number)
    assert batcher.unfinished == 5
    while batcher.unfinished:
        events += batcher.step()
    for number, request in zip(numbers, requests, strict=True):
        got = tokens([event for event in events if event.request == number])
        want = single(model, request)
        assert got == (want if number not in (numbers[0], numbers[6], numbers[1]) else want[: len(got)])
        assert len(got) == 5 or number in (numbers[0], numbers[6], numbers[1])


def test_a_row_that_overflowed_leaves_nothing_to_the_next():
    model, rng = with_states("falcon_h1"), random.Random(10)
    requests = [Request(prompt(rng, n), 3) for n in (8, 3, 5, 3)]
    batcher = Batcher(model, TOKENIZER, max_rows=2)
    want = [tokens(events) for events in drive(batcher, requests)]
    for layer in batcher._cache.layers:
        for buffer in layer.buffers:
            buffer.data.fill_(torch.inf)
        layer.recurrent_states[0].fill_(torch.nan)
    assert [tokens(events) for events in drive(batcher, requests[::-1])][::-1] == want


def test_a_sampled_text_depends_on_its_request_alone():
    model, rng = with_states("qwen3_5"), random.Random(9)
    one = Request(prompt(rng, 4), 8, temperature=1.5, seed="a")
    others = [Request(prompt(rng, n), n, temperature=1.0, seed=n) for n in LENGTHS]
    before, state = torch.get_rng_state(), random.getstate()
    alone = tokens(drive(Batcher(model, TOKENIZER), [one])[0])
    assert tokens(drive(Batcher(model, TOKENIZER, max_rows=3), [*others, one, *others])[len(others)]) == alone
    assert tokens(drive(Batcher(model, TOKENIZER), [replace(one, seed="b")])[0]) != alone
    assert torch.equal(before, torch.get_rng_state()) and state == random.getstate()


# --- Refusals ---


def test_requests_that_cannot_be_answered_are_refused():
    model = with_states("qwen3_5")
    model.config.max_position_embeddings = 12
    batcher = Batcher(model, TOKENIZER)
    with pytest.raises(ConfigError, match=r"at most 12 tokens .* prompt of 10 and `max_new_tokens=3`"):
        batcher.submit(Request((5,) * 10, 3))
    with pytest.raises(ConfigError, match=r"one of the model's states \['one', 'two'\], got 'three'"):
        batcher.submit(Request((5,), 3, state="three"))
    assert batcher.unfinished == 0
    batcher.submit(Request((5,) * 10, 2, state=BASE))
    settings = ({"max_new_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0})
    for wrong in ({"tokens": ()}, *settings, {"stop": ("",)}):
        with pytest.raises(ConfigError, match="expected"):
            Request(**{"tokens": (5,), "max_new_tokens": 3, **wrong})
    with pytest.raises(ConfigError, match="max_rows >= 1"):
        Batcher(model, TOKENIZER, max_rows=0)


@pytest.mark.parametrize(("family", "kind"), [("minimax", "MiniMaxCache"), ("recurrent_gemma", "NoneType")])
def test_models_with_a_memory_of_their_own_are_refused(family: str, kind: str):
    model: nn.Module = zoo.make(family)
    batcher = Batcher(model, TOKENIZER)
    batcher.submit(Request((5, 6), 3))
    with pytest.raises(UnsupportedModelError, match=f"in a DynamicCache, got {kind}"):
        batcher.step()


# --- Offsets ---


def with_an_offset(family: str) -> PeftModel:
    """A model with the states "one" and "two", and an offset called "offset"."""
    model = with_states(family)
    model.add_adapter("offset", S0AdapterConfig(kind="offset"))
    fill(model, "offset", seed=3)
    return model.eval()


@pytest.mark.parametrize("family", mostly_slow(["qwen3_5", "falcon_h1"], ["qwen3_5"]))
@pytest.mark.parametrize("active", ["one", "offset"])
def test_rows_keep_reading_the_offset_they_named(family: str, active: str) -> None:
    model, rng = with_an_offset(family), random.Random(5)
    model.set_adapter(active)
    states = [None, "offset", BASE, "two", "offset", None]
    requests = [Request(prompt(rng, 2 + i % 3), max_new_tokens=8, state=state) for i, state in enumerate(states)]
    want = [single(model, request) for request in requests]
    told = [single(model, replace(request, state="one")) for request in requests]
    assert want[1] != told[1] and want[4] != told[4]
    answers = drive(Batcher(model, TOKENIZER, max_rows=4), requests, lambda: 2)
    assert [tokens(events) for events in answers] == want


def test_several_active_states_beside_named_offsets_are_refused() -> None:
    model = with_an_offset("qwen3_5")
    model.base_model.set_adapter(["one", "two"])
    batcher = Batcher(model, TOKENIZER)
    batcher.submit(Request((3, 4), max_new_tokens=2))
    with pytest.raises(ConfigError, match="at most one active state"):
        batcher.submit(Request((3, 4), max_new_tokens=2, state="offset"))


# --- Log-probabilities ---


def test_logprobs_are_the_models_own_from_the_first_token_on():
    model = with_states("qwen3_5")
    asked = [
        Request(prompt(random.Random(i), 4), 5, temperature=0.8 * (i % 2), top_p=0.9, seed=i, state=state, logprobs=i)
        for i, state in enumerate(("one", "two", BASE))
    ]
    answers = drive(Batcher(model, TOKENIZER), [*asked, Request((5, 6, 7), 5)])
    assert {event.logprobs for event in answers.pop()} == {None}
    for request, events in zip(asked, answers, strict=True):
        written = tokens(events)
        ids = torch.tensor([[*request.tokens, *written[:-1]]])
        logits = model(input_ids=ids, adapter_names=[request.state]).logits[0, len(request.tokens) - 1 :]
        expected = logits.float().log_softmax(-1)
        for event, row in zip(events, expected, strict=True):
            likeliest = row.topk(request.logprobs)
            assert event.logprobs.chosen == pytest.approx(row[event.token].item(), abs=1e-5)
            assert [token for token, _ in event.logprobs.likeliest] == likeliest.indices.tolist()
            assert [value for _, value in event.logprobs.likeliest] == pytest.approx(
                likeliest.values.tolist(), abs=1e-5
            )


# --- Errors of the model ---


@pytest.mark.parametrize("fails_at", ["prefill", "decode"])
def test_an_error_takes_the_requests_that_it_concerns_and_no_others(fails_at, monkeypatch):
    model = with_states("qwen3_5")
    short, longer, late = (Request(prompt(random.Random(i), 3 + i), 6, state="one") for i in range(3))
    batcher = Batcher(model, TOKENIZER)
    first = batcher.submit(short)
    events = batcher.step()
    second = batcher.submit(longer)
    whole = nn.Module.__call__

    def failing(module: Any, *args: Any, **kwargs: Any) -> Any:
        n_columns = kwargs["input_ids"].shape[1] if module is model and "input_ids" in kwargs else 0
        if n_columns and (n_columns > 1) == (fails_at == "prefill"):
            raise RuntimeError("out of memory")
        return whole(module, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "__call__", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        batcher.step()
    monkeypatch.undo()
    dropped = {second} if fails_at == "prefill" else {first, second}
    assert batcher.failed == dropped and batcher.unfinished == 2 - len(dropped)
    third = batcher.submit(late)
    while batcher.unfinished:
        events += batcher.step()
    for number, request in {first: short, second: longer, third: late}.items():
        of_request = [event.token for event in events if event.request == number]
        assert number in dropped or of_request == single(model, request)


def test_an_end_beside_an_error_is_still_told(monkeypatch):
    model = with_states("qwen3_5")
    batcher = Batcher(model, TOKENIZER)
    running = batcher.submit(Request((5, 6, 8), 9, state="one"))
    batcher.step()
    short = batcher.submit(Request((7, 8), 1))
    monkeypatch.setattr(batcher, "_decode", lambda: [][0])
    with pytest.raises(IndexError):
        batcher.step()
    monkeypatch.undo()
    assert batcher.failed == {running} and batcher.unfinished == 1
    other = copy.copy(batcher)  # in which it is cancelled before that
    other.cancel(short)
    assert other.unfinished == 0 and other.step() == []
    (event,) = batcher.step()
    assert event.request == short and event.completion is not None and batcher.unfinished == 0


# --- Prompts in chunks, memory, beginnings ---


READ_WHOLE = {"mamba", "falcon_mamba", "jamba", "zamba", "glm5_next", "qwen4_exp", "lara_mini"}
"""Families that keep windows, indices or Mamba-1's states, which chunks could not go on from."""


def lengths_read(model: Any) -> list[tuple[int, int]]:
    """The shapes (rows, tokens) of all calls of the model from now on."""
    shapes: list[tuple[int, int]] = []
    model.register_forward_pre_hook(
        lambda module, args, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    return shapes


@pytest.mark.parametrize("kept", [0, 1 << 30])
@pytest.mark.parametrize(
    "family", mostly_slow([family for family in zoo.FAMILIES if family != "minimax"], ["qwen3_5", "bamba", "mamba"])
)
def test_prompts_in_chunks_get_what_whole_ones_get(family: str, kept: int) -> None:
    model, rng = with_states(family), random.Random(12)
    shared = prompt(rng, 9)
    states = ("one", "two", BASE)
    requests = [Request(shared + prompt(rng, n), 4, state=states[n % 3]) for n in (1, 2, 3, 4, 5, 6)]
    requests += [Request(prompt(rng, n), 4, state=states[n % 3]) for n in (1, 4, 8, 13)]
    batcher = Batcher(model, TOKENIZER, max_rows=4, chunk_tokens=4, prefix_bytes=kept)
    answers = drive(batcher, [*requests, *requests], at_once=lambda: 2)
    whole = drive(Batcher(model, TOKENIZER), requests)
    assert [tokens(events) for events in answers] == [tokens(events) for events in [*whole, *whole]]
    reads_in_chunks = batcher._reader.chunk_tokens is not None
    assert reads_in_chunks == (family not in READ_WHOLE)
    assert bool(batcher.n_tokens_reused) == bool(kept and reads_in_chunks)


def test_an_untouched_mamba_reads_prompts_whole() -> None:
    """transformers would drop its state between two chunks."""
    model, asked = zoo.make("mamba", torch.float64), Request(prompt(random.Random(13), 11), 5)
    (events,) = drive(Batcher(model, TOKENIZER, chunk_tokens=4), [asked])
    assert tokens(events) == single(model, asked)


def test_rows_that_run_go_on_between_the_chunks_of_a_prompt() -> None:
    model, rng = with_states("qwen3_5"), random.Random(14)
    batcher = Batcher(model, TOKENIZER, chunk_tokens=4)
    running = batcher.submit(Request(prompt(rng, 2), 20, state="one"))
    batcher.step()
    shapes = lengths_read(model)
    long = batcher.submit(Request(prompt(rng, 14), 3, state="two"))
    short = [batcher.submit(Request(prompt(rng, 3), 2, state="one")) for _ in range(3)]
    by_step = [[event.request for event in batcher.step()] for _ in range(4)]
    assert by_step[:3] == [[running]] * 3 and {*by_step[3]} == {running, long, short[0]}
    assert shapes[:8] == [(1, 4), (1, 1), (1, 4), (1, 1), (1, 4), (1, 1), (1, 2), (1, 3)]
    assert shapes[8] == (3, 1)  # what begins below a chunk is read, the next one waits
    while batcher.unfinished:
        batcher.step()


def test_a_prompt_that_nobody_waits_for_any_more_is_not_read_on() -> None:
    model, rng = with_states("qwen3_5"), random.Random(15)
    batcher = Batcher(model, TOKENIZER, chunk_tokens=4)
    running, asked = batcher.submit(Request(prompt(rng, 2), 9)), Request(prompt(rng, 14), 3, seed=1)
    batcher.step()
    first, second = batcher.submit(asked), batcher.submit(replace(asked, temperature=1.0))
    batcher.step()
    batcher.cancel(first)
    events = batcher.step()
    shapes = lengths_read(model)
    batcher.cancel(second)
    events += batcher.step()
    assert shapes == [(1, 1)] and {event.request for event in events} == {running} and batcher.unfinished == 1


def test_a_known_beginning_comes_to_the_same_bits() -> None:
    for family in ("qwen3_5", "falcon_h1", "llama"):
        model, rng = zoo.make(family).eval(), random.Random(16)
        state: str | None = BASE
        if family != "llama":
            model, state = with_states(family, torch.float32), "one"
        shared = prompt(rng, 8)
        asked = Request(shared + prompt(rng, 7), 6, state=state, logprobs=3)
        cold, warm = (Batcher(model, TOKENIZER, chunk_tokens=4, prefix_bytes=1 << 20) for _ in range(2))
        for n in (1, 2, 5):  # its turn before, and two that share less
            drive(warm, [Request(asked.tokens[:-n], 1, state=state)])
        shapes = lengths_read(model)
        (miss,) = drive(cold, [asked])
        assert shapes[:4] == [(1, 4), (1, 4), (1, 4), (1, 3)]
        del shapes[:]
        (hit,) = drive(warm, [asked])
        assert shapes[0] == (1, 3)
        assert [(event.token, event.logprobs) for event in hit] == [(event.token, event.logprobs) for event in miss]


def test_a_beginning_is_known_by_all_its_tokens_and_its_state() -> None:
    model, rng = with_states("qwen3_5"), random.Random(17)
    batcher = Batcher(model, TOKENIZER, chunk_tokens=4, prefix_bytes=1 << 20)
    head, tail = prompt(rng, 8), prompt(rng, 3)
    drive(batcher, [Request(head + tail, 1, state="one")])
    other = (head[0] + 1, *head[1:])
    for request in (Request(head + tail, 1, state="two"), Request(other + tail, 1, state="one"), Request(head, 1)):
        drive(batcher, [request])
    assert batcher.n_tokens_reused == 0
    drive(batcher, [Request(head + tail[:1], 1, state="one")])
    assert batcher.n_tokens_reused == 8


def test_what_many_prompts_begin_with_is_kept_from_the_second_on() -> None:
    model, rng = with_states("qwen3_5"), random.Random(18)
    batcher = Batcher(model, TOKENIZER, chunk_tokens=4, prefix_bytes=1 << 20)
    shared, reused = prompt(rng, 5), []
    for _ in range(3):
        drive(batcher, [Request(shared + prompt(rng, 9), 1, state="one")])
        reused.append(batcher.n_tokens_reused)
    assert reused == [0, 0, 4]


def test_beginnings_take_no_more_memory_than_they_are_given() -> None:
    model, rng = with_states("qwen3_5"), random.Random(19)
    measure = Batcher(model, TOKENIZER, chunk_tokens=4, prefix_bytes=1 << 30)
    prompts = [prompt(rng, 6) for _ in range(3)]
    drive(measure, [Request(prompts[0], 1, state="one")])
    room = 2 * measure.prefix_bytes
    batcher = Batcher(model, TOKENIZER, chunk_tokens=4, prefix_bytes=room)
    for i in (0, 1, 0, 2, 0, 1):
        drive(batcher, [Request(prompts[i], 1, state="one")])
        assert batcher.prefix_bytes <= room
    assert batcher.n_tokens_reused == 4 * 2  # the first one twice; the second had left when it came again
    small = Batcher(model, TOKENIZER, chunk_tokens=4, prefix_bytes=10)
    drive(small, [Request(prompts[0], 1, state="one")] * 2)
    assert small.prefix_bytes == small.n_tokens_reused == 0


def test_a_row_joins_only_if_it_fits() -> None:
    model, rng = with_states("falcon_h1"), random.Random(20)
    batcher = Batcher(model, TOKENIZER, max_rows=8, max_batch_tokens=60)
    requests = [Request(prompt(rng, length), new) for length, new in ((5, 5), (5, 5), (5, 5), (20, 10), (5, 5), (2, 4))]
    longest = {batcher.submit(request): len(request.tokens) + request.max_new_tokens for request in requests}
    seen = []
    while batcher.unfinished:
        events = batcher.step()
        running = [row.number for row in batcher._rows] + [event.request for event in events if event.completion]
        seen.append(len({*running}) * max(longest[number] for number in {*running}))
    assert max(seen) == 60 and len(seen) > 10
    with pytest.raises(ConfigError, match="expected at most 60 tokens, for which there is memory"):
        batcher.submit(Request(prompt(rng, 50), 11))


@pytest.mark.parametrize(
    "bounds",
    [{"max_batch_tokens": 0}, {"chunk_tokens": 0}, {"prefix_bytes": 5}, {"prefix_bytes": -1, "chunk_tokens": 4}],
)
def test_bounds_that_cannot_be_are_refused(bounds: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"expected {next(iter(bounds))}"):
        Batcher(with_states("qwen3_5"), TOKENIZER, **bounds)
