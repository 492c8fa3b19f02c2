"""4-bit layers of bitsandbytes on a CPU: kept from a form of their weights that no gradient passes.

On processors with AVX512-BF16 such a layer repacks its weights, for good, the first time it runs in eval mode on an
input without a gradient (bitsandbytes 0.50, `Linear4bit.forward`). What it computes from then on is cut off from what
came before it, so a state would learn nothing through it, in silence.
"""

from __future__ import annotations

from torch import nn

from s0.errors import EngineError

_SWITCH = "support_avx512bf16_for_cpu"
_SWITCHED_OFF = "s0_keeps_it_unpacked"


def keep_unpacked(model: nn.Module) -> bool:
    """Let no 4-bit layer of `model` repack its weights.

    Returns:
        whether some layer has done it already, and passes no gradient.
    """
    for module in model.modules():
        if getattr(module, _SWITCH, False):
            setattr(module, _SWITCH, False)
            setattr(module, _SWITCHED_OFF, True)
    weights = (getattr(module, "weight", None) for module in model.modules())
    return any(getattr(getattr(weight, "quant_state", None), "packing_format_for_cpu", False) for weight in weights)


def let_pack(model: nn.Module) -> None:
    """Undo `keep_unpacked`."""
    for module in model.modules():
        if vars(module).pop(_SWITCHED_OFF, False):
            setattr(module, _SWITCH, True)


def no_gradient_error() -> EngineError:
    """The error to raise where a state would learn behind 4-bit weights that pass no gradient."""
    return EngineError(
        "expected a 4-bit model that passes gradients, got one that bitsandbytes has packed for inference, as it does "
        "on this processor the first time a model runs; load the model anew, and put the state on before it runs"
    )
