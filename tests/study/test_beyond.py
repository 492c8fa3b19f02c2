"""The comparison beyond the paper is judged by its rules: who is the candidate, what is claimed, what breaks down."""

from __future__ import annotations

import importlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from s0.bench import crossed
from s0.study.plan import plan
from s0.study.runner import Standing
from s0.study.spec import read_study
from s0.study.store import Answered, Failure, Record, RoundFacts, RoundsFacts, VariantRecord
from tests.study.test_tables import answered

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CELL = "beyond_gdn_code"
ON_SELECT = {"s0": 60, "s0_gains": 70, "lora": 65}


@pytest.fixture
def beyond(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("beyond")


def verdicts(share: float, seed: int) -> str:
    draw = random.Random(f"{share} {seed}")
    return "".join(str(int(draw.random() < share)) for _ in range(200))


SHARES = {"base": 0.4, "s0": 0.5, "s0_gains": 0.9, "lora": 0.7}


def whole(shares: Mapping[str, float] = SHARES, broken: Sequence[tuple[str, int]] = ()) -> Standing:
    study = read_study(BENCHMARKS / "studies" / f"{CELL}.toml")
    chosen = {(name, "pocket:gdn", "pocket-code"): {} for name in ON_SELECT}
    units = plan(study, chosen)
    records: dict[str, Record] = {}
    for cell in units.cells:
        unit = units.variants[cell.key]
        if (cell.variant, cell.seed) in broken:
            records[cell.key] = Failure.of(unit, RuntimeError("no"))
            continue
        seed = 0 if cell.variant == "base" else cell.seed
        part = answered(4)
        fresh = Answered(
            part.task, part.problems, part.summary, {"standard": verdicts(shares[cell.variant], seed)}, part.completions
        )
        rounds = None
        if cell.variant in ON_SELECT:
            solved = ON_SELECT[cell.variant]
            rounds = RoundsFacts(40, (RoundFacts(9, 9, 9, solved), RoundFacts(9, 9, 9, solved - 5)), "rounds", 1)
        records[cell.key] = VariantRecord(
            environment={},
            unit=unit,
            model=SimpleNamespace(),
            run=SimpleNamespace(),
            rounds=rounds,
            answered={"pocket-code-fresh": fresh},
        )
    return Standing(study, units, records)


def test_the_candidate_is_chosen_on_select_and_claimed_on_fresh_problems(
    beyond: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beyond, "done", lambda name: whole())
    made = beyond.claim(CELL)
    assert made.candidate == "s0_gains" and made.on_select == {"s0": 60, "s0_gains": 70} and not made.broken
    rival, candidate = (
        [[v == "1" for v in verdicts(SHARES[name], seed)] for seed in range(20)] for name in ("lora", "s0_gains")
    )
    expected = crossed(rival, candidate)
    assert (made.result.difference, made.result.low) == (expected.difference, expected.low)


def test_a_run_that_breaks_down_counts_as_the_untouched_model_and_is_named(
    beyond: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beyond, "done", lambda name: whole(broken=[("s0_gains", 3)]))
    made = beyond.claim(CELL)
    assert made.on_select["s0_gains"] == (19 * 70 + 40) / 20 and made.broken == ["s0_gains: RuntimeError: no"]
    untouched = [v == "1" for v in verdicts(SHARES["base"], 0)]
    rows = [untouched if seed == 3 else [v == "1" for v in verdicts(SHARES["s0_gains"], seed)] for seed in range(20)]
    rival = [[v == "1" for v in verdicts(SHARES["lora"], seed)] for seed in range(20)]
    assert made.result.difference == crossed(rival, rows).difference


def test_nothing_is_claimed_before_all_of_a_cell_is_done(beyond: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    part = whole()
    left = Standing(part.study, part.plan, dict(list(part.records.items())[:-1]))
    monkeypatch.setattr(beyond, "done", lambda name: left)
    assert beyond.claim(CELL) is None and beyond.claims().startswith("**Not run.**")


@pytest.mark.parametrize(("share", "goal"), [(0.9, "is met"), (0.71, "is not met"), (0.3, "is not met")])
def test_the_goal_wants_all_cells_and_two_ahead(
    beyond: ModuleType, monkeypatch: pytest.MonkeyPatch, share: float, goal: str
) -> None:
    monkeypatch.setattr(beyond, "done", lambda name: whole({**SHARES, "s0_gains": share}))
    assert goal in beyond.claims()
