"""What `s0 sandbox check` says is what programs did."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from s0.tasks.sandbox import UNSAFE, Sandbox, attempts, backends
from s0_cli.app import app

HELD_BY_THE_CHECKER_OR_LIMITS = {
    "import what is installed beside Python",
    "leave a word in its output for the next program",
    "end the loops of its test",
    "see your environment",
    "take more memory than allowed",
    "run for ever",
    "run for ever, asleep",
    "leave, as if done",
    "answer with an object that equals everything",
}
HARMS = {"change a file of Python's", "write more than its tmp holds", "leave a file for the next program"}


def test_every_attempt_is_held_and_counted(sandbox: Sandbox) -> None:
    with Sandbox(sandbox.backend, attempts.LIMITS) as opened:
        found = attempts.attack(opened)
    assert [row["attempt"] for row in found] == list(attempts.ATTEMPTS)
    assert all(row["held"] for row in found), found
    reasons = {row["attempt"]: row["reason"] for row in found}
    assert reasons["take more memory than allowed"] == "memory"
    assert reasons["run for ever"] == reasons["run for ever, asleep"] == "timeout"
    assert reasons["leave, as if done"] == "exit"


@pytest.mark.slow
def test_what_is_not_held_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    within_reach = {name: bodies for name, bodies in attempts.ATTEMPTS.items() if name not in HARMS}
    monkeypatch.setattr(attempts, "ATTEMPTS", within_reach)
    with Sandbox(UNSAFE, attempts.LIMITS) as opened:
        found = attempts.attack(opened)
    assert {row["attempt"] for row in found if row["held"]} == HELD_BY_THE_CHECKER_OR_LIMITS


@pytest.mark.slow
def test_the_command_reports_and_ends_with_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "ATTEMPTS", {"see your environment": ["assert os.environ"]})
    strongest = backends.strongest()
    shown = CliRunner().invoke(app, ["sandbox", "check", "--json"])
    assert shown.exit_code == 0
    found = json.loads(shown.stdout)
    assert found["strongest"] == strongest and found["backends"][strongest] is None
    assert [(row["attempt"], row["held"]) for row in found["attempts"]] == [("see your environment", True)]
    assert found["grants"] == list(backends.GRANTS[strongest])
    assert found["limits"]["timeout_s"] == 4.0
    assert isinstance(found["user_inside"], int)
    for_people = CliRunner().invoke(app, ["sandbox", "check"])
    assert for_people.exit_code == 0 and for_people.stdout == ""
    assert f"{strongest}: used" in for_people.stderr and "see your environment" in for_people.stderr
    assert "a program may:" in for_people.stderr


def test_without_a_backend_the_command_fails_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "trouble_with", lambda name: f"{name} is missing")
    shown = CliRunner().invoke(app, ["sandbox", "check"])
    assert shown.exit_code == 1
    assert "landlock is missing" in shown.stderr and "--unsafe-no-sandbox" in shown.stderr
