"""The judged program's process: runs the program, then answers calls of its entry point until the checker leaves.

Everything here is in the hands of the program once its first line has run: it may walk to these frames and write
what it likes on the connection. All it can say there is data in answer to a call; the verdict is made elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

from s0.tasks.sandbox.guest import codec, frames, raised
from s0.tasks.sandbox.guest.kept_objects import Kept
from s0.tasks.sandbox.guest.scope import Scope

_LONGEST_CHUNK_S = 0.01
"""An iterator does not run further ahead of the test than this, and one item more."""
_PACKED = frozenset((int, float, bool, str, type(None)))


def run(calls: int) -> None:
    """Serve requests over the descriptor `calls`; the first message is the program.

    Requests: ("call", arguments) or ("call", arguments, keywords); ("next", number of an iterator, most items).
    Answers: ("ready",); ("value", data); ("raised", description of an exception); ("failed", type name) where the
    program cannot be loaded, ("exited", type name) where it tries to end its process, ("too large",) where an answer
    has more than a message may; ("items", messages, ended): each message is a tuple of items, in order, and where the
    iterator has ended the last one is ("ended",) or ("raised", description).
    """
    message = codec.decode(frames.receive(calls))
    assert isinstance(message, tuple)
    source, entry_point = message
    seed_chance(source)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module  # dataclasses and pickle look the module up by name
    try:
        code = compile(source, "<program>", "exec")
    except Exception:  # beside SyntaxError: null bytes, lone surrogates, nesting too deep for the parser
        _say(calls, "failed", "SyntaxError")
        return
    try:
        exec(code, module.__dict__)
        function = module.__dict__[entry_point]
    except BaseException as error:
        _say(calls, "failed", type(error).__name__)
        return
    _say(calls, "ready")
    server = _Server(calls, function)
    while True:
        server.serve(frames.receive(calls))


def seed_chance(source: str) -> None:
    """Have `source` draw the same numbers in every run: one program, one verdict.

    Only where it mentions `random`, since the import costs more than most programs do.
    """
    if "random" not in source:
        return
    import random

    random.seed(0)
    if "numpy" in source:
        with contextlib.suppress(ImportError):
            import numpy

            numpy.random.seed(0)
            # what generators that are given no seed ask for one
            vars(numpy.random.bit_generator)["randbits"] = random.Random(0).getrandbits


def _say(calls: int, *message: object) -> None:
    frames.send(calls, codec.encode(message))


class _Server:
    def __init__(self, calls: int, function: Any) -> None:
        self._calls = calls
        self._function = function
        self._kept = Kept()
        self._iterators: dict[int, tuple[Iterator[object], Scope]] = {}

    def serve(self, payload: bytes) -> None:
        scope = Scope()
        request: Any = codec.decode(payload, scope, self._kept.known)
        kind, *details = request
        try:
            if kind == "call":
                scope.watch()
                self._call(scope, *details)
            else:
                self._next(*details)
        except codec.TooLarge:
            _say(self._calls, "too large")
        except BaseException as error:  # SystemExit, KeyboardInterrupt: the program wants out
            _say(self._calls, "exited", type(error).__name__)
            os._exit(1)

    def _call(self, scope: Scope, arguments: tuple[object, ...], keywords: dict[str, object] | None = None) -> None:
        try:
            answer = ("value", self._function(*arguments, **(keywords or {})))
        except Exception as error:
            answer = ("raised", raised.describe(error, _passes))
        frames.send(self._calls, self._encoded(answer, scope, with_changes=True))

    def _next(self, number: int, most: int) -> None:
        """Answer with up to `most` items, each written as it is when the iterator yields it."""
        iterator, scope = self._iterators[number]
        messages: list[bytes] = []
        plain: list[object] = []
        ended = False
        stop_s = time.monotonic() + _LONGEST_CHUNK_S
        for _ in range(most):
            try:
                item = next(iterator)
            except StopIteration:
                ended = True
                last: tuple[object, ...] = ("ended",)
                break
            except Exception as error:
                ended = True
                last = ("raised", raised.describe(error, _passes))
                break
            if type(item) in _PACKED:
                plain.append(item)
            else:
                messages += self._runs(plain, scope)
                plain.clear()
                messages.append(self._encoded((item,), scope))
            if time.monotonic() > stop_s:
                break
        messages += self._runs(plain, scope)
        if ended:
            messages.append(self._encoded(last, scope, with_changes=True))
        scope.watch()
        _say(self._calls, "items", tuple(messages), ended)

    def _runs(self, items: list[object], scope: Scope) -> list[bytes]:
        return [self._encoded(tuple(items), scope)] if items else []

    def _encoded(self, value: object, scope: Scope, *, with_changes: bool = False) -> bytes:
        size = len(self._kept)
        try:
            payload = codec.encode(value, scope, self._kept.describe, with_changes=with_changes)
        except codec.CodecError:
            self._kept.forget_from(size)
            raise
        born = dict(self._kept.iterators_from(size))
        self._iterators.update((number, (iterator, scope)) for number, iterator in born.items())
        if born:
            scope.watch()  # they may change later what has just been sent
        return payload


def _passes(value: object) -> bool:
    try:
        codec.encode(value)
    except codec.CodecError:
        return False
    return True
