"""The plots of a study show every variant at its figures, told apart without colour."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as some

from s0.study.figures import figures
from s0.study.lengths import parted
from s0.study.overview import overview
from s0.study.spec import Amount, Study, VariantSpec
from s0.study.tables import Interval, Row, Table

VARIANTS = ("base", "s0", "lora")
STUDY = Study(
    name="hand",
    folder=Path(),
    models=("pocket:gdn", "pocket:mamba2"),
    tasks=("pocket-code",),
    seeds=(0, 1),
    variants={name: VariantSpec(method=name, label=name.upper()) for name in VARIANTS},
)


def row(variant: str, gain: float | None) -> Row:
    interval: Interval | None = None if gain is None else (gain, gain - 1, gain + 2)
    rate = (50.0 + (gain or 0), 40.0, 60.0)
    return Row(
        variant,
        variant.upper(),
        5,
        8,
        rate,
        rate,
        gain=interval,
        crossed=interval,
        paper_gain=interval,
        p_value=0.01,
        p_holm=0.02,
    )


def table(model: str, amount: int | None = None, asked: str = "pocket-code") -> Table:
    rows = tuple(row(variant, None if variant == "base" else 5.0 + len(variant)) for variant in VARIANTS)
    return Table(model, "pocket-code", asked, 240, amount, 79.0, rows, (), {})


def test_the_number_of_examples_is_a_plot_of_its_own() -> None:
    study = replace(STUDY, examples=(Amount(n=5), Amount(n=50)))
    tables = [table(model, n) for model in study.models for n in (5, 50)]
    (name,) = plots = figures(study, tables)
    assert name == "examples"
    ElementTree.fromstring(plots[name].svg)
    assert figures(study, tables)["examples"].svg == plots[name].svg


@pytest.mark.parametrize("asked", [("pocket-code",), ("pocket-code", "pocket-math")])
def test_gains_are_a_plot_wherever_they_were_measured(asked: tuple[str, ...]) -> None:
    study = replace(STUDY, asked=asked)
    plots = figures(study, [table(model, asked=each) for model in study.models for each in asked])
    assert list(plots) == ["gains"] and "BASE" in plots["gains"].alt
    ElementTree.fromstring(plots["gains"].svg)


def test_curves_of_several_tasks_have_a_panel_each_and_all_examples_a_place() -> None:
    study = replace(STUDY, tasks=("pocket-code", "pocket-math"), examples=(Amount(n=5), Amount()))
    tables = [
        replace(table(model, n), task=task, asked=task)
        for model in study.models
        for task in study.tasks
        for n in (5, None)
    ]
    drawn = figures(study, tables)["examples"].svg
    panels = [f"<!-- {model}, {task} -->" for model in study.models for task in study.tasks]
    assert all(panel.encode() in drawn for panel in panels) and b"<!-- 79 -->" in drawn


def test_more_variants_than_a_plot_can_show_are_left_to_the_table() -> None:
    many = replace(table("pocket:gdn"), rows=tuple(row(f"{number}", 5.0) for number in range(21)))
    assert figures(STUDY, [many]) == {}


def test_nothing_to_compare_is_no_plot() -> None:
    alone = replace(table("pocket:gdn"), rows=(row("base", None),))
    assert figures(STUDY, [alone]) == {}


def test_at_a_glance_what_is_many_goes_down_and_what_is_few_goes_across() -> None:
    study = replace(STUDY, examples=tuple(Amount(n=n) for n in (1, 2, 3, 4)))
    down = overview(study, [table("pocket:gdn", n) for n in (1, 2, 3, 4)])
    assert (
        "| 4 examples | 50.0 (50.0) | 57.0 (57.0), **+7.0** [+6.0, +9.0] | 59.0 (59.0), **+9.0** [+8.0, +11.0] |"
        in down
    )
    across = overview(STUDY, [table(model) for model in STUDY.models])
    assert "| S0 | 57.0 (57.0), **+7.0** [+6.0, +9.0] | 57.0 (57.0), **+7.0** [+6.0, +9.0] |" in across


@given(some.lists(some.integers(0, 9), min_size=1, max_size=40), some.integers(1, 4))
def test_parts_by_length_are_all_places_from_short_to_long(lengths: list[int], n: int) -> None:
    parts = parted(lengths, n)
    assert sorted(i for part in parts for i in part) == list(range(len(lengths)))
    assert len(parts) <= n
    for shorter, longer in pairwise(parts):
        assert lengths[shorter[-1]] < lengths[longer[0]]
    assert all(lengths[a] <= lengths[b] for part in parts for a, b in pairwise(part))
