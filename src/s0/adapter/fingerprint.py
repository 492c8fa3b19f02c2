"""Which model a state was tuned on: a short name for its weights, cheap to compute and independent of the dtype."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from s0.core.families import is_beside_decoder, plain_name
from s0.core.kernel_backends import TORCH, packages_of, versions_of
from s0.core.tuned_weights import untouched_values
from s0.errors import StateMismatchError

UNKNOWN = "unknown"
_TENSORS, _VALUES_EACH = 32, 16
_WRAPPED = ("base_layer", "original_module")  # where PEFT's wrappers keep what they wrap


def check_base(expected: str, model: nn.Module) -> None:
    """Refuse a model whose weights are known to differ from those a state was tuned on."""
    got = fingerprint(model)
    if UNKNOWN not in (expected, got) and expected != got:
        raise StateMismatchError(
            f"expected the base model with fingerprint {expected}, got {got}: the state was tuned on other weights; "
            "load that base model, or pass `allow_other_base=True` if you know the state fits this one"
        )


def fingerprint(model: nn.Module) -> str:
    """Identifies the base model by its text config and a few of its weights, without what was tuned on or in it.

    The same for float32, bfloat16 and, where the weights were published in bfloat16, float16. Reads 16 values from each
    of at most 32 decoder tensors, never all weights. "unknown" where the weights are quantised, sharded or not loaded.
    A recurrent layer of torch.nn has no config, and no tensors but its own.
    """
    config = getattr(model, "config", None)
    text = config.get_text_config() if config is not None and hasattr(config, "get_text_config") else config
    fields = {name: getattr(text, name, None) for name in ("model_type", "hidden_size", "num_hidden_layers")}
    fields["model_type"] = str(fields["model_type"]).removesuffix("_text")
    all_count = isinstance(model, nn.RNNBase)
    weights = [(name, weight) for name, weight in _base_weights(model) if all_count or _is_decoder_weight(name)]
    weights.sort(key=lambda item: item[0])
    stride = max(1, -(-len(weights) // _TENSORS))
    samples = []
    for _, weight in weights[::stride]:
        if not weight.is_floating_point() or weight.is_meta or type(weight.data) is not Tensor:
            return UNKNOWN
        picked = torch.arange(_VALUES_EACH) * (weight.numel() - 1) // (_VALUES_EACH - 1)
        samples.append(weight.detach().flatten()[picked.to(weight.device)].float().cpu())
    if not samples:
        return UNKNOWN
    values = torch.cat(samples).to(torch.bfloat16)
    values = torch.where(values.abs() < 2.0**-14, torch.zeros_like(values), values)  # float16 cannot hold smaller ones
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    digest.update(values.view(torch.int16).numpy().astype("<i2").tobytes())
    return digest.hexdigest()[:32]


def weights_digest(model: nn.Module) -> str:
    """Tells a base model from any other: all its weights and the whole of its config, adapters left out.

    For what must not be taken over from a model that differs anywhere, where `fingerprint` is for what is tuned on it:
    that one reads a few values and three fields, so that it is the same in every dtype. Each weight is summed up where
    it lies, its bits eight bytes at a time by odd numbers, one for each place, modulo 2^64: that finds changes, and is
    no seal against somebody who makes them.
    """
    config = getattr(model, "config", None)
    fields = {} if config is None else config.to_dict()
    of_loading = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
    fields = {name: value for name, value in fields.items() if name not in of_loading}
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode())
    for name, weight in sorted(_base_weights(model), key=lambda item: item[0]):
        digest.update(json.dumps([name, list(weight.shape), str(weight.dtype), _sum_of_bits(weight)]).encode())
    return digest.hexdigest()[:32]


_BLOCK = 2**22  # words at once: bounds the copies


@torch.no_grad()
def _sum_of_bits(weight: Tensor) -> int:
    data = weight.detach().contiguous().flatten().view(torch.uint8)
    n_missing = -len(data) % 8
    words = (functional.pad(data, (0, n_missing)) if n_missing else data).view(torch.int64)  # to pad is to copy
    total = 0
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        places = torch.arange(start, start + len(block), device=block.device) * 2 + 1
        total = (total + int((block * places).sum())) % 2**64
    return total


def how_loaded(model: nn.Module) -> dict[str, str]:
    """What besides its weights a model's figures depend on.

    Returns:
        `dtype`: that of most of its weights, as torch names it; `device`: of the first of them, a GPU by its name;
        `kernels`: the packages that run its recurrences, with their versions, where that is not transformers alone.
    """
    sizes: Counter[torch.dtype] = Counter()
    for _, weight in _base_weights(model):
        sizes[weight.dtype] += weight.numel()
    (dtype, _), *_ = sizes.most_common(1)
    device = next(weight.device for _, weight in _base_weights(model) if weight.dtype == dtype)
    on_gpu = device.type == "cuda"
    packages = versions_of({*packages_of(model).values()} - {TORCH})
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
        **({"kernels": packages} if packages else {}),
    }


def rounding_entry(model: nn.Module) -> dict[str, str]:
    """What files tell that go on only with the same rounding, on one device: the dtype, and packages' kernels.

    Nothing is told of float32 and of transformers' own kernels, as in files of earlier versions.
    """
    usual = {"dtype": "float32"}
    return {name: value for name, value in how_loaded(model).items() if name != "device" and usual.get(name) != value}


def _base_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The untouched model's weights by their names there, whatever was put around them or tuned in their place."""
    untouched = untouched_values(model)
    for name, parameter in base_parameters(model):
        yield name, untouched.get(name, parameter)


def base_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """A base model's parameters by their names there, whatever methods of PEFT have put adapters around them.

    Args:
        model: with or without adapters.

    Yields:
        name and parameter; of tied ones, the first.
    """
    wrappers = {name for name, module in model.named_modules() if hasattr(module, "adapter_layer_names")}
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        if not any(".".join(parts[:i]) in wrappers and parts[i] not in _WRAPPED for i in range(1, len(parts))):
            yield plain_name(name), parameter


def _is_decoder_weight(name: str) -> bool:
    return "layers." in name and not is_beside_decoder(name)
