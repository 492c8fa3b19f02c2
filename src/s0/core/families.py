"""Which models have a recurrent state that can be tuned, where it lives and what shape it has.

A *mixer* is the module that runs the recurrence of one layer. It is found by what its forward does, not by its
name: it takes `cache_params`, reads `get_recurrent_state` and writes `update_recurrent_state`. (Outer blocks
also take `cache_params`, and some families call both their linear and their full attention `self_attn`.)
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

from torch import nn

from s0.errors import UnsupportedModelError


@dataclass(frozen=True)
class Recurrence:
    """One kind of recurrence: how its state is laid out and which scale is published for it.

    Attributes:
        name: the word used in files and messages.
        kernel: the function a mixer of this kind calls on whole sequences; it identifies the kind.
        shape: attributes of the mixer that give the state's shape without batch; alternatives separated by "|".
        axes: what the axes mean.
        alpha: the published scale at deployment.
        alpha_source: where that scale comes from.
    """

    name: str
    kernel: str
    shape: tuple[str, ...]
    axes: str
    alpha: float
    alpha_source: str

    def state_shape(self, mixer: nn.Module) -> tuple[int, ...]:
        """Shape of one row's state in `mixer`, without the batch axis."""
        return tuple(_first_attribute(mixer, names.split("|")) for names in self.shape)


def _first_attribute(mixer: nn.Module, names: list[str]) -> int:
    for name in names:
        value = getattr(mixer, name, None)
        if isinstance(value, int):
            return value
    raise UnsupportedModelError(
        f"expected {type(mixer).__name__} to have one of the attributes {names}, found none; "
        "this model's code differs from the transformers versions this library knows (>= 5.23)"
    )


RECURRENCES = (
    Recurrence(
        name="gated_delta_net",
        kernel="torch_chunk_gated_delta_rule",
        shape=("num_v_heads", "head_k_dim", "head_v_dim"),
        axes="(value heads, key dim, value dim)",
        alpha=0.07,
        alpha_source="Young 2026, Qwen3.5",
    ),
    Recurrence(
        name="kimi_delta_attention",
        kernel="chunk_kimi_delta_attention",
        shape=("num_heads", "head_dim", "head_dim"),
        axes="(heads, key dim, value dim)",
        alpha=0.07,
        alpha_source="none published; GatedDeltaNet's value",
    ),
    Recurrence(
        name="mamba2",
        kernel="mamba2_chunk_scan",
        shape=("num_heads", "head_dim", "ssm_state_size"),
        axes="(heads, head dim, state dim)",
        alpha=0.65,
        alpha_source="Young 2026, Falcon-H1",
    ),
)

FAMILIES: Mapping[str, str] = {
    "qwen3_5": "gated_delta_net",
    "qwen3_5_moe": "gated_delta_net",
    "qwen3_next": "gated_delta_net",
    "qwen4_exp": "gated_delta_net",
    "olmo_hybrid": "gated_delta_net",
    "kimi_linear": "kimi_delta_attention",
    "bailing_hybrid": "kimi_delta_attention",
    "glm5_next": "kimi_delta_attention",
    "falcon_h1": "mamba2",
    "bamba": "mamba2",
    "granitemoehybrid": "mamba2",
    "nemotron_h": "mamba2",
    "zamba2": "mamba2",
    "mamba2": "mamba2",
}
"""Model families the equality tests cover, by transformers model type (a `_text` suffix is ignored)."""

_NO_CODE = (lambda: None).__code__  # for forwards that are not plain Python
_MAMBA1_KERNEL = "mamba_selective_scan"
_REFUSALS: Mapping[str, str] = {
    "lfm2": "its recurrent layers are short convolutions, which keep no matrix state",
    "zaya": "its state reaches the first token only, so there is nothing to tune",
    "recurrent_gemma": "it resets its recurrence at position 0, which erases any initial state",
    "minimax": "it keeps its state in a cache of its own that this version does not seed",
}


def family_of(model: nn.Module) -> str:
    """The model's family: its text config's model type without a `_text` suffix."""
    config = getattr(model, "config", None)
    if config is None:
        return type(model).__name__
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    return str(text_config.model_type).removesuffix("_text")


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
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if _seeds_a_recurrence(module) and _known_recurrence(module) is not None:
            found[plain_name(name)] = module
    if not found:
        raise UnsupportedModelError(_refusal(model))
    return dict(sorted(found.items(), key=lambda item: layer_index(item[1])))


def plain_name(name: str) -> str:
    """A module's name in the untouched model: without the parts that PEFT adds."""
    return name.removeprefix("base_model.model.").replace(".base_layer", "")


def layer_index(mixer: nn.Module) -> int:
    """The index of the mixer's layer: its key in the model's cache."""
    return int(getattr(mixer, "layer_idx"))  # noqa: B009  (nn.Module attributes are untyped)


def kernel_globals(mixer: nn.Module) -> dict[str, Any]:
    """The namespace in which the mixer looks its kernels up at every call."""
    forward: Any = inspect.unwrap(type(mixer).forward)
    namespace: dict[str, Any] = forward.__globals__
    return namespace


def _known_recurrence(module: nn.Module) -> Recurrence | None:
    called = _forward_code(module).co_names
    return next((recurrence for recurrence in RECURRENCES if recurrence.kernel in called), None)


def _forward_code(module: nn.Module) -> CodeType:
    forward: Any = inspect.unwrap(type(module).forward)
    code: CodeType = getattr(forward, "__code__", _NO_CODE)
    return code


def _seeds_a_recurrence(module: nn.Module) -> bool:
    code = _forward_code(module)
    reads_and_writes = {"get_recurrent_state", "update_recurrent_state"} <= set(code.co_names)
    return reads_and_writes and "cache_params" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _refusal(model: nn.Module) -> str:
    family = family_of(model)
    reason = next((text for name, text in _REFUSALS.items() if family.startswith(name)), None)
    if reason is None:
        if any(_MAMBA1_KERNEL in _forward_code(module).co_names for module in model.modules()):
            reason = "its Mamba-1 kernel takes no initial state, which this version does not work around"
        else:
            reason = "it has no recurrent layer"
    return (
        f"expected a model with a recurrent state that can be tuned, got {type(model).__name__} ({family}): {reason}. "
        f"Supported families: {', '.join(sorted(FAMILIES))}"
    )
