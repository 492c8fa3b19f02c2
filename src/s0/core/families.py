"""Which models have a recurrent state that can be tuned, where it lives and what shape it has: `FAMILIES`.

A *mixer* is the module that runs the recurrence of one layer. It is found by what its forward does, not by its
name: it takes the model's cache, reads a state from it and writes one back, and calls a kernel that is known here.
(Outer blocks also take the cache, and some families call both their linear and their full attention `self_attn`.)
So a new family whose mixers are of a known kind works without a line here; the table says which ones are tested.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

from torch import nn

from s0.core.recurrences import (
    GATED_DELTA_NET,
    KDA,
    LIGHTNING_ATTENTION,
    MAMBA1,
    MAMBA2,
    RECURRENCES,
    Recurrence,
)
from s0.core.releases import CACHE_NAMES
from s0.errors import UnsupportedModelError


@dataclass(frozen=True)
class Family:
    """What is known of one model family; every claim is checked against a model of it in the tests.

    Attributes:
        attribute: what its layers call the mixer.
        recurrence: the kind of recurrence, with the state's axes and the scale.
        notes: faults and limits of transformers' model that show with a state, and what is done about them.
    """

    attribute: str
    recurrence: Recurrence
    notes: str = ""


_FORGETS = "transformers drops the state where several tokens continue a cache: repaired"
FAMILIES: dict[str, Family] = {
    "qwen3_5": Family("linear_attn", GATED_DELTA_NET),
    "qwen3_5_moe": Family("linear_attn", GATED_DELTA_NET),
    "qwen3_next": Family("linear_attn", GATED_DELTA_NET),
    "qwen4_exp": Family(
        "linear_attn", GATED_DELTA_NET, "with n-gram embeddings (ple_layer_ids), pads between tokens are refused"
    ),
    "olmo_hybrid": Family("linear_attn", GATED_DELTA_NET),
    "lara_mini": Family(
        "linear_attn",
        GATED_DELTA_NET,
        "in transformers from 5.24 on; pads between tokens are refused in batches wider than its attention window",
    ),
    "kimi_linear": Family("self_attn", KDA),
    "bailing_hybrid": Family("self_attn", KDA),
    "glm5_next": Family("self_attn", KDA, "its attention goes by pools of columns: pads between tokens are refused"),
    "minimax": Family(
        "self_attn",
        LIGHTNING_ATTENTION,
        "token by token in Python: slow; the state enters in the model's dtype; transformers' cache mistakes its "
        "length and forgets beams: repaired where a state has entered",
    ),
    "falcon_h1": Family("mamba", MAMBA2),
    "bamba": Family("mamba", MAMBA2, "its default position_ids ignore the cache: pass them"),
    "granitemoehybrid": Family("mamba", MAMBA2),
    "nemotron_h": Family("mixer", MAMBA2),
    "zamba2": Family("mamba", MAMBA2),
    "mamba2": Family("mixer", MAMBA2, "generate() over a cache takes new tokens alone"),
    "jamba": Family("mamba", MAMBA1, _FORGETS),
    "zamba": Family("mamba", MAMBA1, _FORGETS),
    "mamba": Family("mixer", MAMBA1, _FORGETS + "; generate() over a cache takes new tokens alone"),
    "falcon_mamba": Family("mixer", MAMBA1, _FORGETS + "; generate() over a cache takes new tokens alone"),
}
"""The families that the equality tests cover, by transformers' model type (a `_text` suffix is ignored)."""

REFUSED: Mapping[str, str] = {
    "lfm2": "its recurrent layers are short convolutions, which keep no matrix state",
    "zaya": "what its layers carry on is one token's value for the token after it, so a start reaches the first token "
    "only",
    "recurrent_gemma": "it resets its recurrence at position 0, which erases any initial state",
}
"""Families with something recurrent in them that cannot be tuned, and why."""

_NO_CODE = (lambda: None).__code__  # for forwards that are not plain Python


def family_facts() -> list[dict[str, str | float]]:
    """`FAMILIES` as rows for people and for JSON."""
    return [
        {
            "family": name,
            "layer": family.attribute,
            "recurrence": family.recurrence.name,
            "state": family.recurrence.axes,
            "alpha": family.recurrence.alpha,
            "alpha_source": family.recurrence.alpha_source,
            "notes": family.notes,
        }
        for name, family in FAMILIES.items()
    ]


def family_of(model: nn.Module) -> str:
    """The model's family: its text config's model type without a `_text` suffix."""
    config = getattr(model, "config", None)
    if config is None:
        return type(model).__name__
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    return str(text_config.model_type).removesuffix("_text")


def recurrence_in(model: nn.Module) -> Recurrence:
    """The kind of recurrence that `model`'s mixers run; all of a model run one.

    Raises:
        UnsupportedModelError: it has none whose state can be tuned.
    """
    return recurrence_of(next(iter(find_mixers(model).values())))


def recurrence_of(mixer: nn.Module) -> Recurrence:
    """The kind of recurrence `mixer` runs.

    Raises:
        UnsupportedModelError: it runs none whose state can be tuned.
    """
    recurrence = _known_recurrence(mixer)
    if recurrence is None:
        raise UnsupportedModelError(
            f"expected a mixer with a recurrent state, got {type(mixer).__name__}; leave target_modules unset to find "
            "the recurrent layers by inspection"
        )
    return recurrence


def find_mixers(model: nn.Module) -> dict[str, nn.Module]:
    """Every mixer with a tunable state, by module name, in layer order.

    Names are those of the untouched model: an adapter's wrapper (`.base_layer`) does not show in them.

    Raises:
        UnsupportedModelError: the model has none; says why and lists the families that do.
    """
    mixers: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        # A wrapper may look like the mixer in it, which comes after it and takes its place.
        if _known_recurrence(module) is not None:
            mixers[plain_name(name)] = module
    if not mixers:
        raise UnsupportedModelError(_refusal(model))
    return dict(sorted(mixers.items(), key=lambda item: layer_index(item[1])))


def plain_name(name: str) -> str:
    """A module's name in the untouched model: without the parts that PEFT adds."""
    return name.removeprefix("base_model.model.").replace(".base_layer", "")


def is_beside_decoder(name: str) -> bool:
    """Whether a module or weight of this name is in no layer that text goes through: a vision tower, spare heads."""
    return any(part in name for part in ("visual", "vision", "mtp."))


def unwrapped(model: Any) -> Any:
    """The model within a wrapper of PEFT's, or the model itself."""
    return getattr(model, "get_base_model", lambda: model)()


def layer_index(mixer: nn.Module) -> int:
    """The index of the mixer's layer: its key in the model's cache."""
    return int(getattr(mixer, "layer_idx"))  # noqa: B009  (nn.Module attributes are untyped)


def kernel_globals(mixer: nn.Module) -> dict[str, Any]:
    """The namespace in which the mixer looks its kernels up at every call."""
    forward: Any = inspect.unwrap(type(mixer).forward)
    namespace: dict[str, Any] = forward.__globals__
    return namespace


def _known_recurrence(module: nn.Module) -> Recurrence | None:
    """The recurrence that a module runs: it takes the model's cache, reads a state there, and calls a known kernel."""
    code = _forward_code(module)
    parameters, called = {*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]}, {*code.co_names}
    if parameters.isdisjoint(CACHE_NAMES):
        return None
    known = (
        recurrence
        for recurrence in RECURRENCES
        if recurrence.recognised_by in called and recurrence.cache_calls <= called
    )
    return next(known, None)


def _forward_code(module: nn.Module) -> CodeType:
    forward: Any = inspect.unwrap(type(module).forward)
    code: CodeType = getattr(forward, "__code__", _NO_CODE)
    return code


def _refusal(model: nn.Module) -> str:
    family = family_of(model)
    reason = next((text for name, text in REFUSED.items() if family.startswith(name)), None)
    return (
        f"expected a model with a recurrent state that can be tuned, got {type(model).__name__} ({family}): "
        f"{reason or 'it has no recurrent layer of a known kind'}. Supported families: {', '.join(sorted(FAMILIES))}. "
        "Other models can learn by LoRA: s0 train --method lora"
    )
