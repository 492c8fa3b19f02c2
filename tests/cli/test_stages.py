"""What is seen of long work: how much is done, how fast, how long it takes yet."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from s0_cli.work import stages
from s0_cli.work.stages import Pace, stage

NOTE = "48 of 48 solved, 33% of 768 passed"


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stages, "time", made)
    return made


@pytest.mark.parametrize(
    ("done", "seconds", "rate", "left"),
    [
        (500, 2, "250/s", "0:00:02 left"),
        (500, 100, "5.0/s", "0:01:40 left"),
        (50, 100, "30.0/min", "0:31:40 left"),
        (1, 600, "6.0/h", "6 days, 22:30:00 left"),
        (0, 100, "", "0:01:40"),
    ],
)
def test_a_rate_is_told_by_a_fitting_unit_and_with_it_the_time_left(
    clock: Clock, done: int, seconds: float, rate: str, left: str
) -> None:
    pace = Pace(1000)
    clock.now += seconds
    pace.advance(done, "", earlier=False)
    assert (pace.rate, pace.clock) == (rate, left)
    clock.now += 1
    assert pace.clock != left  # it goes on while nothing is finished
    pace.end()
    clock.now += 5
    assert pace.clock.startswith("in ")


def test_what_was_done_earlier_makes_nothing_faster(clock: Clock) -> None:
    pace = Pace(100)
    clock.now += 1
    pace.advance(90, "", earlier=True)
    assert pace.rate == "" and pace.how == "90/100"
    clock.now += 9
    pace.advance(5, "", earlier=False)
    assert pace.rate == "30.0/min" and pace.clock == "0:00:10 left" and pace.share == "95%"


def test_a_bar_with_a_note_fits_80_columns(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(stages, "Console", lambda **_: Console(file=screen, force_terminal=True, width=80))
    with stage("collect select", 768) as advance:
        clock.now += 75
        advance(384, NOTE)
    *_, last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).replace("\r", "\n").split("\n")[:-1]
    assert re.fullmatch(rf"collect select +━+ {NOTE}  5\.1/s +in 0:01:15 *", last) and len(last) <= 80


@pytest.fixture
def told(clock: Clock, capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """The lines on stderr, which is no terminal."""
    return lambda: capsys.readouterr().err.splitlines()


def test_a_log_file_has_a_line_a_minute_and_one_at_the_end(clock: Clock, told: Callable[[], list[str]]) -> None:
    with stage("evaluate base", 200) as advance:
        advance(20, earlier=True)
        for _ in range(9):
            clock.now += 15
            advance(10)
        lines = told()
        clock.now += 15
        advance(90, "as  said")
    assert lines == [
        "evaluate base: 30%, 60/200, 40.0/min, 0:03:30 left",
        "evaluate base: 50%, 100/200, 40.0/min, 0:02:30 left",
    ]
    assert told() == ["evaluate base: 100%, as said, 1.2/s, in 0:02:30"]


def test_an_interrupted_stage_does_not_say_that_it_has_ended(clock: Clock, told: Callable[[], list[str]]) -> None:
    with pytest.raises(KeyboardInterrupt), stage("evaluate base", 200) as advance:
        advance(20)
        raise KeyboardInterrupt
    assert told() == []


def test_of_several_processes_the_first_one_tells(
    clock: Clock, told: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with stage("evaluate base", 1) as advance:
        advance(1, earlier=True)
    assert told() == []
