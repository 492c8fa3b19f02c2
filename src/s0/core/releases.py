"""How releases of transformers name caches, and which releases this library was tested with: importing this looks.

Where a release differs from another one, it is here and nowhere else in the core:

    5.23    a mixer takes `cache_params` (MiniMax's `past_key_values`), a model `past_key_values`, or `cache_params`
            where it has no attention; outputs hold the cache under the model's name for it
    5.24    all of them say `cache`; the older names still work and warn

The names are looked up in signatures, so a model whose code came with its weights may use those of any release.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

OLDEST, NEWEST = (5, 23), (5, 24)
"""The first and the last release of transformers that the tests run with; pyproject.toml's range, by hand."""

CACHE_NAMES = ("cache", "past_key_values", "cache_params")
"""What a cache may be called, newest name first. A model takes one of them."""


def check_release(installed: str) -> None:
    """Look at the installed transformers.

    Args:
        installed: its version, such as "5.24.0".

    Raises:
        ImportError: it is older than `OLDEST`, and its caches hold no recurrent states.
    """
    release = tuple(int(part) for part in installed.split(".")[:2])
    if release < OLDEST:
        raise ImportError(
            f"s0-tuning needs transformers >= {_words(OLDEST)}, whose caches hold recurrent states; found {installed}: "
            f"pip install 'transformers>={_words(OLDEST)},<{NEWEST[0]}.{NEWEST[1] + 1}'"
        )
    if release > NEWEST:
        warnings.warn(
            f"s0-tuning was tested with transformers {_words(OLDEST)} to {_words(NEWEST)}, and {installed} is "
            f"installed: `s0 verify MODEL` tells whether a model is exact there; pip install "
            f"'transformers<{NEWEST[0]}.{NEWEST[1] + 1}' is safe",
            stacklevel=4,  # the line that imports s0
        )


def drops_prefixes(forward: Callable[..., Any], peft: str | None = None) -> bool:
    """Whether PEFT's generate() would leave out a prefix before a model with this forward.

    PEFT up to 0.21 hands it over as `past_key_values`, beside the `cache` that generate() has made (5.24), which wins.
    That PEFT 0.22, which transformers 5.24 asks for, mends it is assumed: it is not out.

    Args:
        forward: the model's.
        peft: PEFT's version, by default the installed one's.
    """
    installed = tuple(int(part) for part in (peft or version("peft")).split(".")[:2])
    return cache_name(forward) == "cache" and installed < (0, 22)


def _words(release: tuple[int, int]) -> str:
    return ".".join(map(str, release))


def cache_name(function: Callable[..., Any]) -> str | None:
    """What `function`, the forward of a mixer or a model, calls the cache it takes; None where it takes none."""
    taken = inspect.signature(function).parameters
    return next((name for name in CACHE_NAMES if name in taken), None)


def take_cache(kwargs: dict[str, Any], cache: Any = None) -> Any:
    """Take the cache out of a call's keyword arguments, whatever it is called there.

    Args:
        kwargs: they lose it.
        cache: what the call passes otherwise.
    """
    taken = [kwargs.pop(name) for name in CACHE_NAMES if name in kwargs]
    return next((value for value in taken if value is not None), cache)


def cache_of(output: Mapping[str, Any]) -> Any:
    """The cache in what a model or generate() takes or returned, by name; None where there is none."""
    caches = (output[name] for name in CACHE_NAMES if name in output.keys())  # noqa: SIM118  ("in" warns)
    return next((cache for cache in caches if cache is not None), None)


def call_arguments(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a call passes to `function`, by name, as far as it is passed."""
    if not args:
        return kwargs
    return {**kwargs, **dict(zip(inspect.signature(function).parameters, args, strict=False))}


check_release(version("transformers"))
