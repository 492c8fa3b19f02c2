"""What a mixer is given in its cache's place where a sequence begins: it answers with the state to start from."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from s0.core.refusals import not_in_stand_in_error


class NoCache:
    """Stands in for no cache: the state to start from, and nowhere to store what follows."""

    def __init__(self, state: Tensor) -> None:
        self.state = state  # (B, H, K, V)
        self.was_read = False

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Tensor:
        """The state, which the mixer asks for before its kernel runs."""
        self.was_read = True
        return self.state

    def get_conv_state(self, *args: Any, **kwargs: Any) -> None:
        """There is none: nothing was read."""

    def update_conv_state(self, conv_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Keep nothing."""
        return conv_states

    def update_recurrent_state(self, recurrent_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Keep nothing."""
        return recurrent_states

    def is_recording_past(self, *args: Any, **kwargs: Any) -> bool:
        """Never: nothing was read before, and nothing will be asked again."""
        return False

    has_previous_state = is_recording_past

    def __getattr__(self, name: str) -> Any:
        raise not_in_stand_in_error(name)


class SeededCache:
    """Stands in for a real cache at the true start of a sequence: answers S_0, and hands all else on to that cache."""

    def __init__(self, cache: Any, state: Tensor) -> None:
        self.cache = cache
        self.state = state  # (B, H, K, V)
        self.was_read = False

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Tensor:
        """The state, which the mixer asks for before its kernel runs."""
        self.was_read = True
        return self.state

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)
