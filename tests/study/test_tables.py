"""The tables of a study are those of its verdicts: held against figures worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from s0.bench import compare, crossed
from s0.errors import DatasetError
from s0.record import Model, Run, TaskFacts, compressed
from s0.record.parts import Estimate, Rate, SampledSummary, Scored, Summary
from s0.study.findings import finding
from s0.study.lengths import parted
from s0.study.page import page, write_page
from s0.study.plan import plan
from s0.study.runner import Standing
from s0.study.spec import Amount, Study, VariantSpec
from s0.study.store import Answered, Drawn, Failure, Record, VariantRecord, verdicts_of
from s0.study.tables import Contrast, Interval, tables
from s0.tasks import load

N = 10
STUDY = Study(
    name="hand",
    folder=Path(),
    title="By hand",
    models=("pocket:gdn",),
    tasks=("pocket-code",),
    seeds=(0, 1, 2),
    variants={
        "base": VariantSpec(),
        "s0": VariantSpec(method="s0", label="S0", published={"pocket:gdn": "+9"}),
        "lora": VariantSpec(method="lora"),
    },
    contrasts=(("lora", "s0"),),
)
PASSED = {"base": [4, 4, 4], "s0": [6, 7, 8], "lora": [5, 8, 5]}
"""Of ten answers, by seed."""


def verdicts(passed: int) -> list[bool]:
    return [i < passed for i in range(N)]


def answered(passed: int, pass_at_2: float | None = None) -> Answered:
    each = {"standard": verdicts_of(verdicts(passed)), "paper": "0" * N}
    rates = Scored(Rate(passed, N, passed / N, 0.0, 1.0), Rate(0, N, 0.0, 0.0, 1.0))
    drawn = None
    if pass_at_2 is not None:
        estimates = {"1": Estimate(pass_at_2 / 2, 0.0, 1.0), "2": Estimate(pass_at_2, 0.0, 1.0)}
        drawn = Drawn(SampledSummary(Scored(estimates, estimates), N, 0.0, {}, 1.0), {}, "")
    problems = tuple(problem.id for problem in load("pocket-code").require_split("final")[:N])
    summary = Summary(rates, 0.0, {}, 1.0)
    texts = compressed(["x" * (i + 1) for i in range(N)])
    return Answered(TaskFacts("pocket-code", "1", "0"), problems, summary, each, texts, (1,) * N, drawn=drawn)


def measured(study: Study, passed: dict[str, list[int]], draws: int = 1, **rest: float) -> Standing:
    """A study whose variants passed so many, by seed and draw."""
    units = plan(study)
    records: dict[str, Record] = {}
    for cell in units.cells:
        unit = units.variants[cell.key]
        place = study.seeds.index(cell.seed) * draws + cell.draw
        if place < len(passed[cell.variant]):
            records[cell.key] = VariantRecord(
                environment={},
                unit=unit,
                model=Model("pocket:gdn", "0"),
                run=Run(unit.method, parameters=0 if cell.variant == "base" else 8192),
                answered={"pocket-code": answered(passed[cell.variant][place], **rest)},
            )
    return Standing(study, units, records)


def test_means_gains_and_p_values_are_those_worked_out_by_hand() -> None:
    (table,) = tables(measured(STUDY, PASSED))
    base, s0, lora = table.rows
    assert [row.variant for row in table.rows] == ["base", "s0", "lora"] and table.n_problems == N
    assert base.standard == (40.0, 40.0, 40.0) and base.gain is None and base.p_holm is None
    # Differences 20, 30, 40: mean 30, standard error 10 / sqrt(3), t(2) at 97.5 % is 4.30265.
    assert s0.gain == pytest.approx((30.0, 30 - 4.30265 * 10 / 3**0.5, 30 + 4.30265 * 10 / 3**0.5), abs=1e-3)
    assert s0.standard[0] == pytest.approx(70.0) and s0.paper[0] == 0.0
    assert s0.paper_gain == (0.0, 0.0, 0.0)  # that scoring took no answer
    p_s0, p_lora = (float(stats.ttest_rel(PASSED[name], PASSED["base"]).pvalue) for name in ("s0", "lora"))
    assert (s0.p_value, lora.p_value) == pytest.approx((p_s0, p_lora))
    assert p_s0 < p_lora  # Holm: the smaller one twice, the larger one as it is, or as the smaller one
    assert s0.p_holm == pytest.approx(2 * p_s0) and lora.p_holm == pytest.approx(max(2 * p_s0, p_lora))
    assert s0.crossed is None  # of so few seeds
    (contrast,) = table.contrasts
    assert (contrast.first, contrast.second) == ("lora", "s0")
    assert contrast.difference[0] == pytest.approx(10.0)  # 1, -1 and 3 problems
    assert contrast.p_holm == pytest.approx(float(stats.ttest_rel(PASSED["s0"], PASSED["lora"]).pvalue))


def test_of_five_seeds_there_is_an_interval_for_other_problems_too() -> None:
    study = replace(STUDY, seeds=(0, 1, 2, 3, 4))
    passed = {"base": [4] * 5, "s0": [6, 7, 8, 7, 7], "lora": [5] * 5}
    (table,) = tables(measured(study, passed))
    _, s0, lora = table.rows
    seen = crossed([verdicts(n) for n in passed["base"]], [verdicts(n) for n in passed["s0"]])
    assert s0.crossed == pytest.approx((30.0, 100 * seen.low, 100 * seen.high))
    assert lora.gain == pytest.approx((10.0, 10.0, 10.0)) and lora.p_value is None  # seeds that agree
    assert s0.p_holm == pytest.approx(2 * s0.p_value)  # lora's test counts, though it said nothing


def test_draws_of_a_seed_are_one_measurement() -> None:
    study = replace(STUDY, seeds=(0, 1, 2, 3, 4), examples=(Amount(n=2, draws=2),))
    passed = {"base": [4] * 10, "s0": [5, 7, 6, 10, 5, 7, 6, 10, 7, 7], "lora": [4] * 10}
    (table,) = tables(measured(study, passed, draws=2))
    s0 = next(row for row in table.rows if row.variant == "s0")
    assert s0.seeds == 5 and s0.gain is not None
    assert s0.gain[0] == pytest.approx(30.0)  # means of 6, 8, 6, 8 and 7
    two, four, one = [1.0] * 5 + [0.5] * 2 + [0.0] * 3, [1.0] * 6 + [0.5] * 4, [1.0] * 7 + [0.0] * 3
    seen = crossed([[1.0] * 4 + [0.0] * 6] * 5, [two, four, two, four, one])
    assert s0.crossed == pytest.approx((30.0, 100 * seen.low, 100 * seen.high))
    assert s0.p_value == pytest.approx(float(stats.ttest_rel([6, 8, 6, 8, 7], [4] * 5).pvalue))


def test_draws_of_a_single_seed_have_a_mean_and_no_test() -> None:
    study = replace(STUDY, seeds=(0,), examples=(Amount(n=2, draws=2),))
    (table,) = tables(measured(study, {"base": [4] * 2, "s0": [5, 7], "lora": [4] * 2}, draws=2))
    s0 = next(row for row in table.rows if row.variant == "s0")
    assert s0.gain == pytest.approx((20.0, 20.0, 20.0)) and (s0.crossed, s0.p_value, s0.p_holm) == (None, None, None)


def test_a_single_training_has_intervals_and_a_test_over_problems() -> None:
    study = replace(STUDY, seeds=(0,))
    (table,) = tables(measured(study, PASSED))
    base, s0, _ = table.rows
    wilson = stats.binomtest(4, N).proportion_ci(method="wilson")
    assert base.standard == pytest.approx((40.0, 100 * wilson.low, 100 * wilson.high))
    tango = compare(verdicts(4), verdicts(6))
    assert s0.gain == pytest.approx((20.0, 100 * tango.low, 100 * tango.high)) and s0.crossed is None
    assert s0.p_value == tango.p_value


def test_what_is_not_done_is_named_and_left_out() -> None:
    standing = measured(STUDY, {**PASSED, "lora": [5, 8]})
    (table,) = tables(standing)
    assert [row.variant for row in table.rows] == ["base", "s0"] and table.missing == {"lora": 2}
    assert table.rows[1].p_holm == pytest.approx(2 * table.rows[1].p_value)  # as when all is there
    text = page(standing, [table])
    assert "Not done: lora (2 seeds done)." in text and "left" in text
    with pytest.raises(DatasetError, match="run it first"):
        tables(measured(STUDY, {name: [] for name in PASSED}))


def test_a_failure_is_no_result() -> None:
    standing = measured(STUDY, PASSED)
    key = next(cell.key for cell in standing.plan.cells if cell.variant == "s0" and cell.seed == 1)
    failure = Failure.of(standing.plan.units[key], RuntimeError("no"))
    (table,) = tables(replace(standing, records={**standing.records, key: failure}))
    assert table.missing == {"s0": 2}
    text = page(replace(standing, records={**standing.records, key: failure}), [table])
    assert "1 failed" in text and f"- failed: {key}: RuntimeError: no" in text


def test_the_page_shows_the_figures_and_keeps_them_as_json(tmp_path: Path) -> None:
    standing = measured(STUDY, PASSED, pass_at_2=0.5)
    text = write_page(standing, tables(standing), tmp_path / "out").read_text()
    assert "# By hand" in text and "## pocket:gdn, all examples of pocket-code" in text
    glance, sampled, whole, _, by_prompt, by_answer = (
        [cell.strip() for cell in line.strip("|").split("|")][1:]
        for line in text.splitlines()
        if line.startswith("| S0 |")
    )
    assert glance == ["70.0 (0.0), +30.0 [+5.2, +54.8]", "+9"]  # p is 0.07
    assert sampled == ["25.0 / 50.0"]
    assert whole[:4] == ["8,192", "70.0 [45.2, 94.8]", "+30.0 [+5.2, +54.8]", ""]
    assert whole[4:] == ["0.07", "0.0", "+0.0", "25.0", "50.0", "+9"]
    where = "| pocket:gdn, pocket-code | S0 | lora | +10.0 [-39.7, +59.7] |  | 0.5 | no difference shown |"
    assert where in text and where.replace(" pocket:gdn, pocket-code |", "") in text
    problems = load("pocket-code").require_split("final")[:N]
    lengths = [len(problem.canonical_solution) for problem in problems]
    passed = {part: [n > i for n in PASSED["s0"] for i in places] for part, places in enumerate(parted(lengths, 3))}
    assert by_answer == [f"{100 * sum(each) / len(each):.1f}" for each in passed.values()] and by_prompt
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    assert figures["kind"] == "study report" and figures["tables"][0]["rows"][1]["gain"][0] == pytest.approx(30.0)


POINT, WIDE, ABOVE, BELOW = (5.0, 5.0, 5.0), (5.0, -1.0, 11.0), (5.0, 1.0, 9.0), (-5.0, -9.0, -1.0)


@pytest.mark.parametrize(
    ("seeds", "difference", "for_others", "p_holm", "said"),
    [
        (5, ABOVE, ABOVE, 0.01, "ahead"),
        (5, BELOW, BELOW, 0.01, "behind"),
        (5, ABOVE, WIDE, 0.01, "ahead, on these problems"),
        (3, BELOW, None, 0.01, "behind, on these problems"),
        (1, ABOVE, None, 0.01, "ahead, of this training"),
        (5, ABOVE, ABOVE, 0.05, "no difference shown"),
        (5, POINT, ABOVE, None, "not tested"),
    ],
)
def test_words_claim_no_more_than_the_test(
    seeds: int, difference: Interval, for_others: Interval | None, p_holm: float | None, said: str
) -> None:
    assert finding(Contrast("lora", "s0", seeds, difference, for_others, p_holm, p_holm)) == said
