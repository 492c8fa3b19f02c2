"""The account of a training: with what and on what it went, as it is saved with what was learned."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from torch import nn

from s0.adapter.fingerprint import rounding_entry
from s0.cautions import Caution, cautions
from s0.train.data import TrainingSets
from s0.train.settings import recorded

_MOST_PROMPTS = 10_000  # of an account, which stands in a file of modest size


def account(settings: Any, model: nn.Module, sets: TrainingSets) -> dict[str, Any]:
    """The account of a training that begins. It counts as interrupted until that is taken out.

    Args:
        settings: of the method, a dataclass.
        model: what is trained on.
        sets: the examples.

    Returns:
        JSON: settings, dtype, hashes, digests of the prompts, versions.
    """
    train, select = sets.train, sets.select
    begun = {
        "settings": recorded(settings),
        **rounding_entry(model),
        "n_examples": train.n_examples,
        "prompts": sorted({prompt_digest(prompt) for prompt in train.prompts[:_MOST_PROMPTS]}),
        **hashes(sets),
        "versions": {name: version(name) for name in ("s0-tuning", "torch", "transformers", "peft")},
        "interrupted": True,
    }
    if select is None:
        return begun
    prompts = set(train.prompts)
    n_shared = sum(prompt in prompts for prompt in select.prompts)
    return {**begun, "n_select": select.n_examples, "n_select_shared": n_shared}


def hashes(sets: TrainingSets) -> dict[str, str]:
    """SHA-256, hexadecimal, of the tokens that are learned from and chosen on."""
    select = {} if sets.select is None else {"select_tokens_sha256": sets.select.tokens_sha256}
    return {"tokens_sha256": sets.train.tokens_sha256, **select}


def prompt_digest(tokens: Sequence[int]) -> str:
    """A short name for a prompt, by which it is known whether it was learned from."""
    return hashlib.sha256(repr(list(tokens)).encode()).hexdigest()[:16]


def warn(training: Mapping[str, Any]) -> None:
    """Say what `cautions` has to say, as Python's warnings of whoever has called the function that calls this one."""
    for caution in cautions(training):
        warnings.warn(caution, Caution, stacklevel=3)
