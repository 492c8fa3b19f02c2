"""The tables of a study are those of its verdicts: held against figures worked out by hand."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from s0.bench import compare, crossed
from s0.errors import DatasetError
from s0.record import Model, Run, TaskFacts, compressed
from s0.record.parts import Estimate, Rate, SampledSummary, Scored, Summary
from s0.study.findings import finding
from s0.study.page import page, write_page
from s0.study.plan import plan
from s0.study.runner import Standing
from s0.study.spec import Amount, Study, VariantSpec
from s0.study.store import Answered, Drawn, Failure, Record, VariantRecord, verdicts_of
from s0.study.tables import Contrast, tables
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
    assert s0.format_gain is not None and s0.format_gain[0] == pytest.approx(-30.0)  # the paper's scoring saw no gain
    p_s0, p_lora = (float(stats.ttest_rel(PASSED[name], PASSED["base"]).pvalue) for name in ("s0", "lora"))
    assert (s0.p_value, lora.p_value) == pytest.approx((p_s0, p_lora))
    assert p_s0 < p_lora  # Holm: the smaller one twice, the larger one as it is, or as the smaller one
    assert s0.p_holm == pytest.approx(2 * p_s0) and lora.p_holm == pytest.approx(max(2 * p_s0, p_lora))
    seen = crossed([verdicts(n) for n in PASSED["base"]], [verdicts(n) for n in PASSED["s0"]])
    assert s0.crossed == pytest.approx((30.0, 100 * seen.low, 100 * seen.high))
    (contrast,) = table.contrasts
    assert (contrast.first, contrast.second) == ("lora", "s0")
    assert contrast.difference[0] == pytest.approx(10.0)  # 1, -1 and 3 problems
    assert contrast.p_holm == pytest.approx(float(stats.ttest_rel(PASSED["s0"], PASSED["lora"]).pvalue))


def test_draws_of_a_seed_are_one_measurement() -> None:
    study = replace(STUDY, seeds=(0, 1), examples=(Amount(n=2, draws=2),))
    (table,) = tables(measured(study, {"base": [4] * 4, "s0": [5, 7, 6, 10], "lora": [4] * 4}, draws=2))
    s0 = next(row for row in table.rows if row.variant == "s0")
    assert s0.seeds == 2 and s0.gain is not None
    assert s0.gain[0] == pytest.approx(30.0)  # means of 6 and 8
    means = [[1.0] * 5 + [0.5] * 2 + [0.0] * 3, [1.0] * 6 + [0.5] * 4]
    seen = crossed([[1.0] * 4 + [0.0] * 6] * 2, means)
    assert s0.crossed == pytest.approx((30.0, 100 * seen.low, 100 * seen.high))
    assert s0.p_value == pytest.approx(float(stats.ttest_rel([6, 8], [4, 4]).pvalue))


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
    assert table.rows[1].p_holm == table.rows[1].p_value
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
    assert "1 failed" in page(replace(standing, records={**standing.records, key: failure}), [table])


def test_the_page_shows_the_figures_and_keeps_them_as_json(tmp_path: Path) -> None:
    standing = measured(STUDY, PASSED, pass_at_2=0.5)
    text = write_page(standing, tables(standing), tmp_path / "out").read_text()
    assert "# By hand" in text and "## pocket:gdn, all examples of pocket-code" in text
    glance, sampled, contrast, whole, contrast_again, by_prompt, by_answer = (
        [cell.strip() for cell in line.strip("|").split("|")][1:]
        for line in text.splitlines()
        if line.startswith("| S0 |")
    )
    assert glance == ["70.0, +30.0 [+5.2, +54.8]", "+9"]  # p is 0.07
    assert sampled == ["25.0 / 50.0"]
    assert contrast[:3] == ["lora", "pocket:gdn, pocket-code", "+10.0 [-39.7, +59.7]"]
    assert [*contrast[:1], *contrast[2:]] == contrast_again and contrast[-1] == "no difference shown"
    gain, crossed_gain, *rest = whole[3:]
    assert whole[:3] == ["8,192", "70.0 [45.2, 94.8]", "0.0"] and gain == "+30.0 [+5.2, +54.8]"
    assert re.fullmatch(r"\[\+\d+\.\d, \+\d+\.\d\]", crossed_gain)
    assert rest == ["0.07", "-30.0 [-54.8, -5.2]", "25.0", "50.0", "+9"]
    # Answers of 1 to 3, 4 to 6, and 7 to 10 letters; the first 6, 7 and 8 pass.
    assert by_answer == ["100.0", "100.0", f"{100 * 3 / 12:.1f}"] and len(by_prompt) == 3
    assert "| variant | 1 to 3 (3) | 4 to 6 (3) | 7 to 10 (4) |" in text
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    assert figures["kind"] == "study report" and figures["tables"][0]["rows"][1]["gain"][0] == pytest.approx(30.0)


POINT, WIDE, ABOVE, BELOW = (5.0, 5.0, 5.0), (5.0, -1.0, 11.0), (5.0, 1.0, 9.0), (-5.0, -9.0, -1.0)


@pytest.mark.parametrize(
    ("difference", "for_others", "p_holm", "said"),
    [
        (ABOVE, ABOVE, 0.01, "ahead"),
        (BELOW, BELOW, 0.01, "behind"),
        (ABOVE, WIDE, 0.01, "ahead, on these problems"),
        (BELOW, None, 0.01, "behind, on these problems"),
        (ABOVE, ABOVE, 0.05, "no difference shown"),
        (ABOVE, ABOVE, None, ""),
        (POINT, ABOVE, 0.0, ""),
    ],
)
def test_words_claim_no_more_than_the_test(difference, for_others, p_holm, said) -> None:
    assert finding(Contrast("lora", "s0", difference, for_others, p_holm, p_holm)) == said
