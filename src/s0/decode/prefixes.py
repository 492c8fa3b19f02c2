"""Beginnings of prompts that were read and are kept, so that the next prompt with one of them is read from there on."""

from __future__ import annotations

import copy
import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

from transformers.cache_utils import Cache

from s0.decode.caches import tensors_of

_MOST_SEEN = 1 << 16


def keys_of(tokens: Sequence[int], state: str, chunk_tokens: int) -> list[bytes]:
    """What tells the beginnings of a prompt, read from a state, apart from all others.

    Returns:
        one for each whole chunk that has a token behind it: of all up to its end.
    """
    digest = hashlib.sha256(f"{state} {chunk_tokens}".encode())
    keys = []
    for end in range(chunk_tokens, len(tokens), chunk_tokens):
        digest.update(array("q", tokens[end - chunk_tokens : end]).tobytes())
        keys.append(digest.digest())
    return keys


def _size_of(cache: Cache) -> int:
    return sum(tensor.nbytes for tensor in tensors_of(cache))


class Prefixes:
    """What was read of beginnings: recurrent states, convolution windows, keys and values, in so much memory.

    Kept are the longest beginning of every prompt, because its next turn begins with that, and those that come a second
    time, because many prompts seem to share them. The least recently used ones leave where there is no room.

    Attributes:
        max_bytes: that all of them may take; 0 to keep none.
        n_bytes: that they take.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.n_bytes = max_bytes, 0
        self._kept: OrderedDict[bytes, Cache] = OrderedDict()  # the least recently used one first
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def longest(self, keys: Sequence[bytes]) -> tuple[int, Cache | None]:
        """The longest beginning of a prompt that is kept.

        Args:
            keys: of the prompt's beginnings, the shortest first.

        Returns:
            how many chunks it has, and a cache to go on with; 0 and None where nothing of it is kept.
        """
        for n_chunks in range(len(keys), 0, -1):
            key = keys[n_chunks - 1]
            if key in self._kept:
                self._kept.move_to_end(key)
                return n_chunks, copy.deepcopy(self._kept[key])
        return 0, None

    def offer(self, keys: Sequence[bytes], n_chunks: int, cache: Cache) -> None:
        """Keep a copy of what was read of a prompt, if that is worth it.

        Args:
            keys: of the prompt's beginnings, the shortest first.
            n_chunks: that were read.
            cache: what they came to.
        """
        key = keys[n_chunks - 1]
        is_worth_it = n_chunks == len(keys) or key in self._seen
        self._see(key)
        size = _size_of(cache)
        if key in self._kept or not is_worth_it or size > self.max_bytes:
            return
        while self.n_bytes + size > self.max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.n_bytes -= _size_of(oldest)
        self._kept[key] = copy.deepcopy(cache)
        self.n_bytes += size

    def _see(self, key: bytes) -> None:
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)
