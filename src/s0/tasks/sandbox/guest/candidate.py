"""The judged program's process: runs the program, then answers calls of its entry point until the checker leaves.

Everything here is in the hands of the program once its first line has run: it may walk to these frames and write
what it likes on the connection. All it can say there is data in answer to a call; the verdict is made elsewhere.
"""

from __future__ import annotations

import os
import sys
import types

from s0.tasks.sandbox.guest import codec, frames


def run(calls: int) -> None:
    """Serve calls over the descriptor `calls`; the first message is the program.

    Answers: ("ready",), ("value", data), ("raised", type name); ("failed", type name) where the program cannot be
    loaded and ("exited", type name) where it tries to end its process.
    """
    message = frames.receive(calls)
    assert isinstance(message, tuple)
    source, entry_point = message
    seed_chance(source)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module  # dataclasses and pickle look the module up by name
    try:
        code = compile(source, "<program>", "exec")
    except Exception:  # beside SyntaxError: null bytes, lone surrogates, nesting too deep for the parser
        frames.send(calls, ("failed", "SyntaxError"))
        return
    try:
        exec(code, module.__dict__)
        function = module.__dict__[entry_point]
    except BaseException as error:
        frames.send(calls, ("failed", type(error).__name__))
        return
    frames.send(calls, ("ready",))
    while True:
        request = frames.receive(calls)
        assert isinstance(request, tuple)
        _answer(calls, function, *request)


def seed_chance(source: str) -> None:
    """Have `source` draw the same numbers in every run: one program, one verdict.

    Only where it mentions `random`, since the import costs more than most programs do.
    """
    if "random" in source:
        import random

        random.seed(0)


def _answer(calls: int, function: object, arguments: tuple[object, ...], keywords: dict[str, object]) -> None:
    try:
        value = function(*arguments, **keywords)  # type: ignore[operator]  # whatever the program defined
        try:
            frames.send(calls, ("value", value))
        except codec.CodecError:
            frames.send(calls, ("raised", "TypeError"))  # an object, a generator, a subclass: not plain data
    except Exception as error:
        frames.send(calls, ("raised", type(error).__name__))
    except BaseException as error:  # SystemExit, KeyboardInterrupt: the program wants out
        frames.send(calls, ("exited", type(error).__name__))
        os._exit(1)
