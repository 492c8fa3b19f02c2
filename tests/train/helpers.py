"""What every test of training needs: small data, a trainer on a tiny model, and a slow loop to compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel, get_peft_model
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast
from transformers.modeling_layers import GradientCheckpointingLayer

from s0 import Example, S0AdapterConfig, S0Config, S0Trainer
from s0.core.states import state_layers
from s0.train import Batch, FitSettings, batches, tokenize
from tests import words, zoo
from tests.breadth import mostly_slow

PAIRS = [
    ("def add(a, b):\n    return a + b\n", 15),
    ("def double(x):\n    return x * 2\n", 14),
    ("def sub(a, b, c):\n    d = a - b\n    return d - c\n", 18),
    ("def one():\n    return 1\n", 10),
    ("def big(a):\n    return a > 10\n", 12),
]
"""(text, prompt length in characters, which are `words.characters()`'s tokens)."""

EXAMPLES = [Example(text[:length], text[length:]) for text, length in PAIRS]
FAMILIES = {"qwen3_5": 0.07, "falcon_h1": 0.65}
"""One family for each of the two published recurrences, with its published alpha."""
every_family = pytest.mark.parametrize("family", mostly_slow(FAMILIES, ["qwen3_5"]))

BUDGETS = {1: 1, 100: 3, 4096: 5}
"""Token budget of a micro-batch -> rows in the largest micro-batch of `PAIRS`."""

END = 1
"""The end token of both tokenizers."""

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'user' %}{{ raise_exception('the user speaks first') }}{% endif %}"
    "{{ '<end>' }}{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'bot:' }}{% endif %}"
    "{% if enable_thinking is not defined or enable_thinking %}{{ ' hm' }}{% endif %}"
)
CHAT = [{"role": "user", "content": "add a to b"}]


def tokenizer(make: Callable[[], PreTrainedTokenizerFast] = words.characters, *, bos: bool = False) -> Any:
    """A tokenizer with a chat template; with `bos`, it puts its end token before every text, as some models do."""
    made = make()
    made.chat_template = CHAT_TEMPLATE
    if bos:
        made.backend_tokenizer.post_processor = TemplateProcessing(single="<end> $A", special_tokens=[("<end>", END)])
    return made


def in_batches(data: Any = PAIRS, budget: int = 4096) -> list[Batch]:
    """`data` as micro-batches of at most `budget` tokens."""
    rows = tokenize(data, words.characters(), end_token=END, max_length=100)
    return batches(rows, pad_token=0, max_tokens=budget)


def trainer(family: str = "qwen3_5", model: nn.Module | None = None, **settings: Any) -> S0Trainer:
    """A new trainer, on a model of its own unless there is one."""
    model = zoo.make(family) if model is None else model
    return S0Trainer(model, tokenizer(), S0Config(**settings))


def trained(family: str = "qwen3_5", model: nn.Module | None = None, **settings: Any) -> S0Trainer:
    """A trainer with a state so large that it shows at every position; not active."""
    made = trainer(family, model, **{"n_steps": 2, "lr": 0.5, "alpha": 1.0, **settings})
    made.train(PAIRS)
    return made


@cache
def shared(family: str) -> S0Trainer:
    """`trained(family)`, made once; for tests that leave it as it is."""
    return trained(family)


def states(of: S0Trainer) -> dict[int, Tensor]:
    """A copy of the trainer's raw states, by layer index."""
    name = of.adapter_name
    held = [layer for layer in state_layers(of.model) if name in layer.s0_state]
    return {layer.layer_idx: layer.s0_state[name].detach().clone() for layer in held}


def tuned(family: str = "qwen3_5", **settings: Any) -> PeftModel:
    """A tiny model with a zero state to train, without a trainer."""
    return get_peft_model(zoo.make(family), S0AdapterConfig(**settings))


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that PEFT has left trainable."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@torch.no_grad()
def logits(model: nn.Module, *texts: str, **kwargs: Any) -> Tensor:
    """(B, T, vocabulary) logits of texts of one length, or of one text."""
    ids = words.characters()(list(texts or ["def add(a, b"]))["input_ids"]
    return model(input_ids=torch.tensor(ids), use_cache=False, **kwargs).logits


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that training touches and must put back."""
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    return {
        "requires_grad": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "gradients": {name for name, parameter in model.named_parameters() if parameter.grad is not None},
        "training": {name: module.training for name, module in model.named_modules()},
        "scales": [(s.alpha, s.normalize) for layer in state_layers(model) for s in layer.deployments.values()],
        "switches": [(layer.active_adapters, layer.disable_adapters) for layer in state_layers(model)],
        "checkpointing": [
            (id(vars(layer).get("_gradient_checkpointing_func")), layer.gradient_checkpointing) for layer in layers
        ],
        "hooks": {name: len(module._forward_hooks) for name, module in model.named_modules() if module._forward_hooks},
    }


def assert_states_equal(got: Sequence[Tensor], want: Sequence[Tensor], tolerance: float = 1e-5) -> None:
    """Equal, and not because nothing was learned."""
    assert sum(one.norm().item() for one in want) > 100 * tolerance
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=0)


def slow_losses(model: nn.Module, data: Any = PAIRS) -> list[Tensor]:
    """Each example's loss, run alone, from the logits of every position and labels of -100 at the prompt."""
    losses = []
    for row in tokenize(data, words.characters(), end_token=END, max_length=100):
        ids = torch.tensor([row.tokens])
        labels = torch.tensor([[-100] * row.prompt_length + row.tokens[row.prompt_length :]])
        output = model(input_ids=ids, use_cache=False).logits.float()
        losses.append(F.cross_entropy(output[0, :-1], labels[0, 1:]))
    return losses


def slow_fit(model: nn.Module, parameters: Sequence[nn.Parameter], settings: FitSettings, data: Any = PAIRS) -> list:
    """What `fit` should do, as plainly as it can be written. Returns the loss before each step."""
    optimizer, history = torch.optim.Adam(parameters, lr=settings.lr), []
    for _ in range(settings.n_steps):
        optimizer.zero_grad()
        mean = sum(slow_losses(model, data)) / len(data)
        (mean + settings.l2_lambda * sum(p.pow(2).sum() for p in parameters)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings.grad_clip)
        optimizer.step()
        history.append(mean.item())
    return history


@contextmanager
def raising_in_step(error: Any, number: int) -> Iterator[None]:
    """The optimiser's step of this number, from 0, raises instead; the error has to come out of this context."""
    usual, steps = torch.optim.Adam.step, iter(range(100))

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if next(steps) == number:
            raise error
        return usual(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(error):
        patched.setattr(torch.optim.Adam, "step", step)
        yield
