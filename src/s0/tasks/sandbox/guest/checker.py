"""The checker's process: runs the test against a proxy of the candidate and writes the verdict.

Nothing of the candidate's runs here. Its results arrive as plain data and its exceptions as names of types, raised
here as the builtin of that name. Arguments are copied on the way: a test that looks at what the candidate did to its
arguments sees them unchanged. The prompt's helper functions run here too, since some tests use them.
"""

from __future__ import annotations

import builtins
import os
from typing import NoReturn

from s0.tasks.sandbox.guest import codec, frames
from s0.tasks.sandbox.guest.candidate import seed_chance

_TAMPERED = "killed"
"""Reason where the candidate sends what its side of this code never sends; it is ended for that."""


_FAULTS_OF_A_TEST = (NameError, ImportError, ModuleNotFoundError)
"""UnboundLocalError is not among them: a loop over a wrong answer that is empty leaves a variable without a value."""
_PROMPT_FILE, _TEST_FILE = "<prompt>", "<test>"


class TestUnusable(Exception):
    """The test itself cannot be run, so there is no verdict."""


def run(verdict: int, calls: int) -> None:
    """Judge one program. `verdict` is the connection to the library, `calls` the one to the candidate.

    Reads (program, prompt, test, entry point); writes ("passed" | "failed" | "unusable", reason).
    """
    message = frames.receive(verdict)
    assert isinstance(message, tuple)
    program, prompt, test, entry_point = message
    candidate = _Candidate(calls, verdict)
    try:
        candidate.load(program, entry_point)
        reason = _check(candidate, prompt, test, entry_point)
    except TestUnusable as error:
        frames.send(verdict, ("unusable", str(error)))
        return
    frames.send(verdict, ("passed" if reason == "passed" else "failed", reason))


def _check(candidate: _Candidate, prompt: str, test: str, entry_point: str) -> str:
    seed_chance(test)  # some tests draw their inputs: the same ones for every program
    names: dict[str, object] = {"__name__": "__test__"}
    try:
        exec(compile(prompt, _PROMPT_FILE, "exec"), names)
        names[entry_point] = candidate.call
        exec(compile(test, _TEST_FILE, "exec"), names)
        check = names["check"]
    except Exception as error:
        raise TestUnusable(f"{type(error).__name__}: {error}") from None
    candidate.wait_until_loaded()
    try:
        check(candidate.call)  # type: ignore[operator]
    except TestUnusable:
        raise
    except BaseException as error:
        return _reason(error, candidate)
    return "passed"


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

    What a candidate raises comes out of `_Candidate.call`, also where the test keeps it and raises it again later.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename in (_PROMPT_FILE, _TEST_FILE)


class _Candidate:
    """The candidate as the test sees it."""

    def __init__(self, calls: int, verdict: int) -> None:
        self._calls = calls
        self._verdict = verdict
        self.last_raised: BaseException | None = None
        self.last_name = ""

    def load(self, program: str, entry_point: str) -> None:
        try:
            frames.send(self._calls, (program, entry_point))
        except frames.ConnectionEnded:
            self._end("died")

    def wait_until_loaded(self) -> None:
        kind, detail = self._receive()
        if kind == "failed" and detail == "SyntaxError":
            self._end("unparsable")
        if kind != "ready":
            self._end_with(kind, str(detail))

    def call(self, *arguments: object, **keywords: object) -> object:
        """What the test calls.

        Raises:
            Exception: of the builtin type whose name the candidate reports, RuntimeError for other names.
            TestUnusable: the test passes something that is not plain data.
        """
        try:
            frames.send(self._calls, (arguments, keywords))
        except codec.CodecError as error:
            raise TestUnusable(f"the test passes an argument that cannot be sent: {error}") from None
        except frames.ConnectionEnded:
            self._end("died")
        kind, detail = self._receive()
        if kind == "value":
            return detail
        if kind != "raised":
            self._end_with(kind, str(detail))
        self.last_name = str(detail)
        self.last_raised = _exception(self.last_name)
        raise self.last_raised

    def _receive(self) -> tuple[str, object]:
        try:
            return _understood(frames.receive(self._calls))
        except codec.CodecError:
            self._end(_TAMPERED)
        except frames.ConnectionEnded:
            self._end("died")

    def _end_with(self, kind: str, name: str) -> NoReturn:
        """End on a message that is no answer: the program failed or wants out, or has tampered with its process."""
        if kind not in ("failed", "exited"):
            self._end(_TAMPERED)
        self._end("memory" if name == "MemoryError" else f"exception: {name}")

    def _end(self, reason: str) -> NoReturn:
        """A candidate that is gone ends the check at once: no `except` of the test can turn that into a pass."""
        frames.send(self._verdict, ("failed", reason))
        os._exit(0)


def _understood(message: object) -> tuple[str, object]:
    """(kind, detail) of a candidate's message.

    Raises:
        CodecError: it is none of those that `candidate` sends.
    """
    match message:
        case ("ready",):
            return "ready", ""
        case ("value", detail):
            return "value", detail
        case (("raised" | "failed" | "exited") as kind, str() as name) if name.isidentifier() and len(name) < 80:
            return kind, name
    raise codec.CodecError("not a candidate's message")


def _exception(name: str) -> Exception:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind()
        except TypeError:  # UnicodeDecodeError and the like take arguments
            pass
    return RuntimeError(f"{name} in the candidate")
