"""The checker's process: runs the test against a proxy of the candidate and writes the verdict.

Nothing of the candidate's runs here. Its answers arrive as plain data, what is none as stand-ins (see `standin`), its
exceptions as classes of the checker's making (see `raised`). What it does to an argument in place is done to the
test's object when it answers. The prompt's helper functions run here too, since some tests use them.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import NoReturn

from s0.tasks.sandbox.guest import codec, frames, raised
from s0.tasks.sandbox.guest.candidate import seed_chance
from s0.tasks.sandbox.guest.scope import Scope
from s0.tasks.sandbox.guest.standin import TEST_MODULE, StandIns

_TAMPERED = "killed"
"""Reason where the candidate sends what its side of this code never sends; it is ended for that."""
_TOO_LARGE = "too large"

_FAULTS_OF_A_TEST = (NameError, ImportError, ModuleNotFoundError)
"""UnboundLocalError is not among them: a loop over a wrong answer that is empty leaves a variable without a value."""
_PROMPT_FILE, _TEST_FILE = "<prompt>", "<test>"
_SINGLE_ITEMS = 32
"""An iterator's first items are asked for one by one: the next one may take for ever, and the test may not want it."""
_MOST_ITEMS = 1 << 16
_BYTES_PER_REPORT = 1 << 18
_LONGEST_REASON = 300

_Part = tuple[object, list[codec.Update]]
"""A message's value, and the changes that come with it."""


def run(verdict: int, calls: int) -> None:
    """Judge one program. `verdict` is the connection to the library, `calls` the one to the candidate.

    Reads (program, prompt, test, entry point); writes ("passed" | "failed" | "unusable" | "unjudged", reason), and
    before that ("copied", bytes) whenever more has gone to the candidate or come from it.
    """
    message = codec.decode(frames.receive(verdict))
    assert isinstance(message, tuple)
    program, prompt, test, entry_point = message
    judgement = _Judgement(verdict)
    _check(_Candidate(calls, judgement, program, entry_point), judgement, prompt, test, entry_point)


class _Judgement:
    """Writes the verdict and ends this process: no `except` of the test can turn it into another one."""

    def __init__(self, verdict: int) -> None:
        self._verdict = verdict

    def passed(self) -> NoReturn:
        self._end("passed", "passed")

    def failed(self, reason: str) -> NoReturn:
        self._end("failed", reason)

    def unusable(self, reason: str) -> NoReturn:
        """The test cannot run, whatever the program."""
        self._end("unusable", reason)

    def unjudged(self, reason: str) -> NoReturn:
        """The test needs more of an answer than data."""
        self._end("unjudged", reason)

    def copied(self, size: int) -> None:
        """Tell the library how much has been copied, which is not the program's time."""
        frames.send(self._verdict, codec.encode(("copied", size)))

    def _end(self, kind: str, reason: str) -> NoReturn:
        frames.send(self._verdict, codec.encode((kind, reason[:_LONGEST_REASON])))
        os._exit(0)


def _check(candidate: _Candidate, judgement: _Judgement, prompt: str, test: str, entry_point: str) -> None:
    seed_chance(test)  # some tests draw their inputs: the same ones for every program
    module = sys.modules[TEST_MODULE] = types.ModuleType(TEST_MODULE)  # dataclasses look their module up by name
    names = module.__dict__
    try:
        exec(compile(prompt, _PROMPT_FILE, "exec"), names)
        code = compile(test, _TEST_FILE, "exec")
    except Exception as error:
        judgement.unusable(_shown(error))
    candidate.prompt = dict(names)
    candidate.wait_until_loaded()
    names[entry_point] = candidate.call
    try:
        exec(code, names)  # it may call the candidate already
    except BaseException as error:
        if candidate.called:
            judgement.failed(_reason(error, candidate))
        judgement.unusable(_shown(error))
    if "check" not in names:
        judgement.unusable(_shown(KeyError("check")))
    try:
        names["check"](candidate.call)
    except BaseException as error:
        judgement.failed(_reason(error, candidate))
    judgement.passed()


def _shown(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _reason(error: BaseException, candidate: _Candidate) -> str:
    if isinstance(error, MemoryError):
        return "memory"
    if error is candidate.last_raised:
        return f"exception: {candidate.last_name}"
    if type(error) in _FAULTS_OF_A_TEST and _raised_by_test(error):
        return f"test: {type(error).__name__}"
    return "wrong answer"  # also where the test stumbles over the answer, as in len(None)


def _raised_by_test(error: BaseException) -> bool:
    """Whether a line of the test or the prompt raised it.

    What a candidate raises comes out of `_Candidate`, also where the test keeps it and raises it again later.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename in (_PROMPT_FILE, _TEST_FILE)


class _Candidate:
    """The candidate as the test sees it.

    Attributes:
        prompt: what the prompt defines; the candidate may raise exceptions of those names.
        called: whether the test has called it yet.
        last_raised, last_name: what it raised last.
    """

    def __init__(self, calls: int, judgement: _Judgement, program: str, entry_point: str) -> None:
        self._calls = calls
        self._judgement = judgement
        self._stand_ins = StandIns(self._refuse, self._items)
        self._scopes: dict[int, Scope] = {}
        self._scope = Scope()
        self._answered = False
        self._copied = self._reported = 0
        self.prompt: dict[str, object] = {}
        self.called = False
        self.last_raised: BaseException | None = None
        self.last_name = ""
        self._send(codec.encode((program, entry_point)))

    def wait_until_loaded(self) -> None:
        match self._answer(Scope()):
            case ("ready",):
                return
            case ("failed", "SyntaxError"):
                self._judgement.failed("unparsable")
            case message:
                self._end_on(message)

    def call(self, *arguments: object, **keywords: object) -> object:
        """What the test calls.

        Raises:
            Exception: what the candidate has raised; see `raised`.
        """
        self.called = True
        scope = Scope()
        request = ("call", arguments, keywords) if keywords else ("call", arguments)
        self._send(self._encoded(request, scope))
        match self._answer(scope):
            case ("value", value):
                self._answered = True
                return value
            case ("raised", description):
                self._answered = True
                return self._raise(description)
            case message:
                return self._end_on(message)

    def _items(self, number: int) -> Iterator[object]:
        """What the candidate's iterator of that number yields."""
        scope = self._scope  # of the answer that brought it
        tampered = functools.partial(self._judgement.failed, _TAMPERED)
        return _Items(lambda most: self._fetch(number, most, scope), self._raise, tampered)

    def _fetch(self, number: int, most: int, scope: Scope) -> tuple[list[_Part], bool]:
        self._send(codec.encode(("next", number, most)))
        match self._answer(Scope()):
            case ("items", tuple() as messages, bool() as ended) if messages and set(map(type, messages)) == {bytes}:
                return [self._read(message, scope) for message in messages], ended
            case message:
                return self._end_on(message)

    def _answer(self, scope: Scope) -> object:
        try:
            payload = frames.receive(self._calls)
        except codec.CodecError:
            self._judgement.failed(_TAMPERED)
        except frames.ConnectionEnded:
            self._judgement.failed("died")
        except MemoryError:
            self._judgement.failed("memory")
        self._count(len(payload))
        value, updates = self._read(payload, scope)
        codec.apply(updates)
        return value

    def _read(self, payload: bytes, scope: Scope) -> _Part:
        self._scope = scope
        try:
            return codec.read(payload, scope, self._stand_ins.from_description)
        except codec.CodecError:
            self._judgement.failed(_TAMPERED)
        except MemoryError:
            self._judgement.failed("memory")

    def _encoded(self, value: object, scope: Scope) -> bytes:
        try:
            return codec.encode(value, scope, self._stand_ins.describe)
        except (codec.TooLarge, MemoryError):
            if self._answered:  # what the test passes on, or has made of an answer
                self._judgement.failed(_TOO_LARGE)
            self._judgement.unusable("it passes an argument of more values, bytes or depth than can be sent")
        except codec.CodecError as error:
            self._judgement.unusable(f"it passes an argument that cannot be sent: {error}")

    def _send(self, payload: bytes) -> None:
        try:
            frames.send(self._calls, payload)
        except frames.ConnectionEnded:
            self._judgement.failed("died")
        self._count(len(payload))

    def _count(self, size: int) -> None:
        self._copied += size
        if self._copied - self._reported > _BYTES_PER_REPORT:
            self._reported = self._copied
            self._judgement.copied(self._copied)

    def _raise(self, description: object) -> NoReturn:
        if not raised.is_description(description):
            self._judgement.failed(_TAMPERED)
        assert isinstance(description, tuple)
        self.last_name = description[0]
        self.last_raised = raised.exception_of(description, self.prompt)
        raise self.last_raised

    def _end_on(self, message: object) -> NoReturn:
        """End on a message that is no answer: the program failed or wants out, or has tampered with its process."""
        match message:
            case ("failed" | "exited", name) if raised.is_name(name):
                self._judgement.failed("memory" if name == "MemoryError" else f"exception: {name}")
            case ("too large",):
                self._judgement.failed(_TOO_LARGE)
        self._judgement.failed(_TAMPERED)

    def _refuse(self, use: str, name: str) -> NoReturn:
        self._judgement.unjudged(f"the test uses {use} of a {name}, which stays in the program's process")


class _Items:
    """An iterator over what one of the candidate yields, fetched when it is needed."""

    def __init__(
        self,
        fetch: Callable[[int], tuple[list[_Part], bool]],
        throw: Callable[[object], NoReturn],
        refuse: Callable[[], NoReturn],
    ) -> None:
        self._fetch = fetch
        self._throw = throw
        self._refuse = refuse
        self._fetches = 0
        self._ready: deque[tuple[object, list[codec.Update]]] = deque()
        self._last: _Part | None = None

    def __iter__(self) -> _Items:
        return self

    def __next__(self) -> object:
        while not self._ready:
            if self._last is not None:
                self._end()
            self._fetch_more()
        item, updates = self._ready.popleft()
        codec.apply(updates)
        return item

    def _fetch_more(self) -> None:
        self._fetches += 1
        parts, ended = self._fetch(min(1 << max(0, self._fetches - _SINGLE_ITEMS), _MOST_ITEMS))
        if ended:
            self._last = parts.pop()
        for items, updates in parts:
            if type(items) is not tuple or not items:  # for ever nothing new would hold the test up
                self._refuse()
            self._ready += zip(items, itertools.chain([updates], itertools.repeat([])), strict=False)

    def _end(self) -> NoReturn:
        assert self._last is not None
        (message, updates), self._last = self._last, None
        codec.apply(updates)
        match message:
            case ("raised", description):
                self._throw(description)
        raise StopIteration
