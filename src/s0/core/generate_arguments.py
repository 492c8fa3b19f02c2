"""The arguments of generate(), looked at before it begins: some of it would go on from pads, or lose sight of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from s0.core.padding import CallMask, Limits
from s0.core.releases import cache_of
from s0.errors import ConfigError

_GROWING = (None, "dynamic", "offloaded", "quantized")  # caches; for others generate() makes its masks beforehand


def refuse_pads(model: Any, limits: Limits, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse prompts with pads that generate() cannot keep out of a tuned model.

    Args:
        model: the untouched model.
        limits: what in it some pads would go wrong in.
        args, kwargs: what generate() is called with.

    Raises:
        ConfigError: a prompt ends in a pad, whose logits would be gone on from; or it is read token by token over a
            static cache, for which no mask reaches the layers.
        EngineError: there are pads that another part of the model would not keep out.
    """
    arguments = GenerateArguments(model, args, kwargs)
    mask = arguments.mask()
    if mask is None:
        return
    n_rows = int((mask[:, -1] == 0).sum())
    if n_rows:
        raise ConfigError(
            f"expected prompts that end in a token, got {n_rows} that end in a pad, which generate() would go on from; "
            'pad on the left (tokenizer.padding_side = "left"), and leave out prompts without a token'
        )
    CallMask(mask, mask.shape[1]).refuse(limits)
    if arguments.reads_single_tokens_blindly() and (mask == 0).any():
        raise ConfigError(
            "expected a prefill_chunk_size of 2 or more for padded prompts over a static cache, got 1, for which "
            "transformers hands no mask to the layers"
        )


class GenerateArguments:
    """The arguments of one call of generate(): those by name, and those of a generation config."""

    def __init__(self, model: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.kwargs = kwargs
        self.prompts = args[0] if args else kwargs.get("inputs", kwargs.get("input_ids"))
        self.config = args[1] if len(args) > 1 else kwargs.get("generation_config")
        self.config_of_model = model.generation_config

    def own(self, name: str) -> Any:
        """A setting as the call has it, by name or in its config; None where it leaves that open."""
        return self.kwargs[name] if name in self.kwargs else getattr(self.config, name, None)

    def setting(self, name: str) -> Any:
        """A setting as generate() reads it: the model's config fills in what the call's leaves open."""
        own = self.own(name)
        is_open = own is None and name not in self.kwargs
        return getattr(self.config_of_model, name, None) if is_open else own

    def mask(self) -> Tensor | None:
        """(B, T) the mask that is given, or that generate() makes of pads in the prompts; None where all are tokens."""
        mask = self.kwargs.get("attention_mask")
        if mask is not None:
            return mask if isinstance(mask, Tensor) and mask.ndim == 2 else None
        pad, ends = self.setting("pad_token_id"), self.setting("eos_token_id")
        is_end = pad in (ends if isinstance(ends, (list, tuple)) else [ends])
        if pad is None or is_end or not isinstance(self.prompts, Tensor) or self.prompts.ndim != 2:
            return None
        made: Tensor = self.prompts.ne(pad)
        return made

    def reads_single_tokens_blindly(self) -> bool:
        """Whether prompts are read token by token over a cache whose masks are made beforehand."""
        cache = cache_of(self.kwargs)
        is_static = self.setting("cache_implementation") not in _GROWING or getattr(cache, "is_compileable", False)
        return is_static and self.setting("prefill_chunk_size") == 1
