"""Full fine-tuning: all weights of a model learn, the upper reference for methods of fewer numbers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from s0.adapter.fingerprint import base_parameters
from s0.core.families import is_beside_decoder, unwrapped
from s0.errors import ConfigError
from s0.train.settings import TuningSettings


@dataclass(frozen=True, kw_only=True)
class FullTuning(TuningSettings):
    """Settings of full fine-tuning. Nothing about it is random: it starts from the model's own weights."""

    n_steps: int = 20
    lr: float = 1e-4  # of 3e-5 to 3e-3, with 3e-4 the best on select problems of pocket-code


def weights_to_tune(model: nn.Module) -> dict[str, nn.Parameter]:
    """All weights that text goes through: embeddings, layers, head; whatever their `requires_grad` is.

    Args:
        model: with or without adapters on it, which do not count.

    Returns:
        the parameters by name; of tied ones, the first.

    Raises:
        ConfigError: they are not float32, or quantised, sharded or offloaded.
    """
    base = unwrapped(model)
    weights = {name: weight for name, weight in base_parameters(base) if not is_beside_decoder(name)}
    is_quantised = getattr(getattr(base, "config", None), "quantization_config", None) is not None
    foreign = [
        name
        for name, weight in weights.items()
        if not weight.is_floating_point() or weight.is_meta or type(weight.data) is not Tensor
    ]
    if is_quantised or foreign:
        what = "a quantised model" if is_quantised else f"{foreign[0]} quantised, sharded or offloaded"
        raise ConfigError(
            f"expected whole weights that can learn, each on its device, got {what}; load the model in float32 "
            "(--dtype float32) on one device, or tune something on it: a state, LoRA"
        )
    dtypes = sorted({str(weight.dtype).removeprefix("torch.") for weight in weights.values()} - {"float32"})
    if dtypes:
        raise ConfigError(
            f"expected weights in float32 to learn, got {', '.join(dtypes)}, which rounds small steps away; load the "
            "model in float32 (--dtype float32)"
        )
    return weights
