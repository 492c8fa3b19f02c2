"""Hooks of this library on the models around its layers: put on once, and taken off without a trace.

By the function, not by the handle that torch returns: a handle is of one model, and no copy of that model has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

Hook = Callable[..., Any]


def add_hooks(module: nn.Module, before: Hook, after: Hook | None = None) -> None:
    """Call `before(module, args, kwargs)` before its forward, and `after` after it, even where it has failed."""
    if before in module._forward_pre_hooks.values():
        return
    module.register_forward_pre_hook(before, with_kwargs=True)
    if after is not None:
        module.register_forward_hook(after, always_call=True)


def remove_hooks(model: nn.Module, *removed: Hook) -> None:
    """Take these off `model` and all its parts."""
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if hook in removed]:
                del hooks[key]
                for marks in ("_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called"):
                    getattr(module, marks).pop(key, None)
