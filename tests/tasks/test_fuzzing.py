"""Frames of every kind between candidate and checker: what a hostile program sends is refused, or is an answer."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s0.tasks.sandbox import Program, Sandbox
from s0.tasks.sandbox.guest import codec, raised
from s0.tasks.sandbox.guest.scope import Scope
from s0.tasks.sandbox.guest.standin import StandIns
from tests.tasks.programs import HONEST, WRONG
from tests.tasks.test_cheats import CONNECTION
from tests.tasks.test_codec import PLAIN

N_FRAMES = int(os.environ.get("S0_FUZZ_FRAMES", "2000"))
"""Half a minute's worth, always the same ones; with the variable as many as it says, others every time."""
SECRET = 271_828_182_845_904_523_536  # no frame holds it: only a program that answers can pass


def _messages(scope: Scope) -> list[bytes]:
    """What a candidate sends in honest conversations."""
    described = raised.describe(ValueError("no", 3), lambda value: True)
    values: list[Any] = [
        ("ready",), ("value", 5), ("value", [1, (2.5, "a"), {"b": None}]), ("raised", described),
        ("failed", "SyntaxError"), ("exited", "SystemExit"), ("too large",),
        ("items", (codec.encode((1,)), codec.encode(("ended",))), True), ("value", scope.objects),
        ("value", {1, math.inf}), ("copied", 5), ("passed", "passed"), ("unjudged", ""),
        ("value", np.arange(6.0).reshape(2, 3)), ("value", [np.int64(1), np.int64(2)]), ("value", np.bool_(True)),
    ]  # fmt: skip
    return [codec.encode(value) for value in values]


SHARED: list[Any] = [[1], {"a": 2}, {3}]
KNOWN = Scope()
codec.encode(SHARED, KNOWN)
MESSAGES = _messages(KNOWN)


@st.composite
def frames_near(draw: st.DrawFn) -> bytes:
    """A message with bytes changed, left out, doubled, put in, or taken from another one."""
    data = bytearray(draw(st.sampled_from(MESSAGES) | PLAIN.map(codec.encode)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data)))
        other = draw(st.sampled_from(MESSAGES))
        change: Callable[[], bytes] = draw(
            st.sampled_from(
                [
                    lambda: bytes(draw(st.lists(st.integers(0, 255), min_size=1, max_size=4))),
                    lambda other=other: other[draw(st.integers(0, len(other))) :],
                    lambda data=data, place=place: bytes(data[place : place + draw(st.integers(0, 9))]),
                    lambda: draw(st.sampled_from([b"\xff\xff\xff\xff", bytes(4), b"\x01\x00\x00\x00"])),
                ]
            )
        )
        data[place : place + draw(st.integers(0, 6))] = change()
    return bytes(data)


def _is_read_or_refused(data: bytes) -> None:
    scope = Scope()
    shared = codec.decode(codec.encode(SHARED, Scope()), scope)
    before = repr(shared)

    def refuse(use: str, name: str) -> Any:
        raise codec.CodecError(use)

    try:
        value, updates = codec.read(data, scope, StandIns(refuse, lambda number: iter(())).from_description)
    except codec.CodecError:
        assert repr(shared) == before, "a refused message has changed something"
        return
    codec.apply(updates)
    if isinstance(value, tuple) and len(value) == 2 and raised.is_description(value[1]):
        assert isinstance(raised.exception_of(value[1], {}), Exception)


@settings(max_examples=300)
@given(frames_near())
def test_a_frame_is_read_or_refused(data: bytes) -> None:
    _is_read_or_refused(data)


@pytest.mark.slow
@settings(
    max_examples=N_FRAMES, derandomize="S0_FUZZ_FRAMES" not in os.environ, suppress_health_check=list(HealthCheck)
)
@given(frames_near())
def test_thousands_of_frames_are_read_or_refused(data: bytes) -> None:
    _is_read_or_refused(data)


def _sending(frames: list[bytes], raw: bool) -> Program:
    """A program that sends these at its first call, with their sizes or without, and then nothing."""
    parts = frames if raw else [len(frame).to_bytes(4, "little") + frame for frame in frames]
    source = f"{CONNECTION}import os\ndef f(x):\n    os.write(connection, {b''.join(parts)!r})\n    os._exit(0)\n"
    return Program(source, "", f"def check(f):\n    assert f(1) == f(2) == {SECRET}\n", "f")


def _judged(sandbox: Sandbox, examples: int) -> None:
    programs: list[Program] = []

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(st.lists(frames_near(), min_size=1, max_size=3), st.booleans())
    def drawn(frames: list[bytes], raw: bool) -> None:
        programs.append(_sending(frames, raw))

    drawn()
    verdicts = sandbox.judge(programs)
    assert [program.source for program, verdict in zip(programs, verdicts, strict=True) if verdict.passed] == []
    assert [verdict.reason for verdict in sandbox.judge([HONEST, WRONG])] == ["passed", "wrong answer"]


def test_no_frame_is_a_pass(sandbox: Sandbox) -> None:
    _judged(sandbox, 40)


@pytest.mark.slow
def test_no_frame_of_thousands_is_a_pass(sandbox: Sandbox) -> None:
    _judged(sandbox, 300)
