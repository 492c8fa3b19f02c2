"""A study file says what it may and nothing else, and units are known by all that matters to them and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from s0.bench import Samples
from s0.errors import ConfigError
from s0.models import LoadSettings
from s0.study.plan import CollectionUnit, VariantUnit, plan
from s0.study.quick import quickened
from s0.study.spec import Amount, Collecting, Study, VariantSpec, read_study
from s0.train import METHODS
from tests.study.small import GRID, PROBLEMS, STUDY, written

WRONG = {
    'models = ["pocket:gdn"]': ("modles = 1", "keys (about, asked,", "'modles'"),
    "seeds = 1": ('seeds = "many"', "array", "$.seeds"),
    "limit = 4": ('split = "all"', "train, select, final", "'all'"),
    "samples = 4": ("sample = 4", "keys of `collection` (keep,", "'sample'"),
    "[variants.base]": ("[variants.base]\nrank = 2", "keys of `variants.base` (content,", "'rank'"),
    'method = "s0"': (
        'method = "s1"',
        "variants.s0: ",
        f"{', '.join(['base', *METHODS])}, got 's1'",
    ),
    "lr = 1e-2": ("rank = 2", "settings of s0 (alpha,", "'rank'"),
    "n_steps = 2": ("n_steps = 0", "variants.s0: ", "`n_steps`", "got 0"),
    '"pocket-code"]': ('"pocket-cod"]', "tasks (gsm8k,", "'pocket-cod'"),
    "select_samples = 2": ("select_samples = 0", "at least 1"),
    'title = "Small"': ("examples = [{ many = 3 }]", "keys of `examples` (draws, n, select)", "'many'"),
    "[collection]": ("[drawn]\nn = 0\n[collection]", "at least one sample", "$.drawn"),
    "[variants.lora]": ('[variants.lora]\nmodels = ["pocket:gnd"]', "models of the variant lora (pocket:gdn)"),
    "alpha = 1 }": ('alpha = 1 }\nwinner = { grid = "g" }', "keys of `variants.s0.winner` (study, task, variant)"),
    "settings = { n_steps = 1, rank = 2 }": ("settings = 3", "variants.lora", "int"),
    "[variants.s0]": ('[variants.s0]\nlabel = "base"', "labels that tell variants apart, got 'base' twice"),
    "seeds = 1\n": ('seeds = 1\ncontrasts = [["lora", "lora"]]\n', "two different ones", "lora"),
    "limit = 4\n": ("limit = 4\nexamples = [{ n = 2 }, { n = 2, draws = 2 }]\n", "different numbers"),
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_unknown_or_wrong_is_refused_by_name_with_what_is_allowed(line: str, tmp_path: Path) -> None:
    wrong, *says = WRONG[line]
    assert line in STUDY
    file = written(tmp_path, STUDY.replace(line, wrong, 1))
    with pytest.raises(ConfigError, match=re.escape(str(file))) as refused:
        read_study(file)
    assert [words for words in says if words not in str(refused.value)] == []


@pytest.mark.parametrize("text", ["models = [", ""])
def test_what_is_no_study_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"small\.toml"):
        read_study(written(tmp_path, text))
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        read_study(tmp_path / "absent.toml")


def test_entries_that_differ_in_steps_alone_are_one_in_small(tmp_path: Path) -> None:
    entries = "[{ n_steps = 20, lr = 1 }, { n_steps = 40, lr = 1 }, { lr = 2 }, { lr = 3 }]"
    text = GRID.replace("grid = [{ n_steps = 2 }, { n_steps = 1 }]", f"grid = {entries}")
    small = quickened(read_study(written(tmp_path, text))).variants["s0"]
    assert small.grid == [{"n_steps": 2, "lr": 1}, {"n_steps": 2, "lr": 2}]


def test_a_grid_is_kept_from_final_problems(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'`split = "select"`.*got final'):
        read_study(written(tmp_path, GRID.replace('split = "select"', "")))
    with pytest.raises(ConfigError, match="without a grid"):
        read_study(written(tmp_path, GRID.replace("seeds", 'reference = "s0"\nseeds')))
    grid = read_study(written(tmp_path, GRID))
    variants = grid.variants_on("pocket:gdn")
    assert list(variants) == ["base", "s0 1", "s0 2", "lora"]
    assert [variants[name].label for name in ("s0 1", "s0 2")] == ["s0, n_steps 2", "s0, n_steps 1"]
    asked = {asked.split for unit in plan(grid).variants.values() for asked in unit.asked}
    assert asked == {"select"}


def small(tmp_path: Path) -> Study:
    return read_study(written(tmp_path))


def keys(study: Study) -> set[str]:
    return {*plan(study).units}


MATTERS = {
    "model": lambda study: replace(study, models=("pocket:mamba2",)),
    "task": lambda study: replace(study, tasks=("pocket-math",)),
    "data": lambda study: replace(study, data={}),
    "chat": lambda study: replace(study, chat=True),
    "tokens": lambda study: replace(study, max_new_tokens=9),
    "loading": lambda study: replace(study, loading=LoadSettings("bfloat16")),
    "time": lambda study: replace(study, timeout_s=9.0),
}
MATTERS_TO_VARIANTS = {
    "split": lambda study: replace(study, split="select"),
    "limit": lambda study: replace(study, limit=3),
    "drawn": lambda study: replace(study, drawn=Samples(2)),
    "asked": lambda study: replace(study, asked=("pocket-code", "pocket-math")),
}
MATTERS_TO_LEARNERS = {
    "seed": lambda study: replace(study, seeds=(5,)),
    "n": lambda study: replace(study, examples=(Amount(n=2),)),
    "draw": lambda study: replace(study, examples=(Amount(n=2, draws=2),)),
    "select": lambda study: replace(study, examples=(Amount(select=1),)),
    "samples": lambda study: replace(study, collection=replace(study.collection, samples=3)),
    "keep": lambda study: replace(study, collection=replace(study.collection, keep="all")),
    "problems": lambda study: replace(study, collection=replace(study.collection, train_problems=3)),
}
MATTERS_NOT = {
    "names": lambda study: replace(study, name="other", folder=Path("elsewhere"), title="Other", is_quick=True),
    "order": lambda study: replace(study, variants=dict(reversed(study.variants.items()))),
    "labels": lambda study: replace(
        study,
        variants={
            name: replace(each, label=f"L {name}", published={"m": "1"}) for name, each in study.variants.items()
        },
    ),
    "contrasts": lambda study: replace(study, contrasts=(("base", "s0"),), slurm={"mem_gb": 4}),
    "whole": lambda study: replace(study, collection=replace(study.collection, train_problems=6, select_problems=6)),
}


@pytest.mark.parametrize("what", MATTERS)
def test_what_matters_to_all_units_makes_others_of_all(what: str, tmp_path: Path) -> None:
    study = small(tmp_path)
    assert keys(study).isdisjoint(keys(MATTERS[what](study)))


@pytest.mark.parametrize("what", MATTERS_TO_VARIANTS)
def test_what_matters_to_answers_leaves_collections_as_they_are(what: str, tmp_path: Path) -> None:
    study = small(tmp_path)
    other = MATTERS_TO_VARIANTS[what](study)
    assert {*plan(study).collections} == {*plan(other).collections}
    assert {*plan(study).variants}.isdisjoint(plan(other).variants)


@pytest.mark.parametrize("what", MATTERS_TO_LEARNERS)
def test_what_matters_to_what_is_learned_leaves_the_untouched_model_as_it_is(what: str, tmp_path: Path) -> None:
    study = small(tmp_path)
    shared = {*plan(study).variants} & {*plan(MATTERS_TO_LEARNERS[what](study)).variants}
    kept = [plan(study).variants[key].method for key in shared]
    assert kept == ["base"] or (what == "draw" and sorted(kept) == ["base"])


@pytest.mark.parametrize("what", MATTERS_NOT)
def test_what_does_not_matter_changes_no_unit(what: str, tmp_path: Path) -> None:
    study = small(tmp_path)
    assert keys(MATTERS_NOT[what](study)) == keys(study)


@given(lr=some.floats(1e-5, 1e-1), n_steps=some.integers(1, 90), rank=some.integers(1, 64))
def test_every_setting_is_in_the_hash_and_defaults_are_as_good_as_none(lr: float, n_steps: int, rank: int) -> None:
    def key(**settings: object) -> str:
        variant = VariantSpec(method="lora", settings=settings)
        study = Study(
            name="s",
            folder=Path(),
            models=("pocket:gdn",),
            tasks=("pocket-code",),
            variants={"base": VariantSpec(), "lora": variant},
            data={"pocket-code": str(PROBLEMS)},
        )
        (unit,) = [unit for unit in plan(study).variants.values() if unit.method == "lora"]
        assert unit.variant.settings is not None
        assert {name: getattr(unit.variant.settings, name) for name in settings} == settings
        return unit.key

    usual = {"lr": 5e-4, "n_steps": 50, "rank": 24, "alpha": None}
    settings = {"lr": lr, "n_steps": n_steps, "rank": rank}
    assert key(**settings) == key(**{**usual, **settings}) == key(**{**settings, "l2_lambda": 0})
    assert (key(**settings) == key()) == all(usual[name] == value for name, value in settings.items())
    assert key(**settings) != key(**settings, alpha=7.0) == key(**settings, alpha=7)


def test_units_are_shared_where_they_can_be(tmp_path: Path) -> None:
    study = replace(small(tmp_path), seeds=(0, 1), examples=(Amount(n=2, draws=2), Amount()))
    units = plan(study)
    assert len(units.collections) == 4  # train and select, of two seeds
    methods = [unit.method for unit in units.variants.values()]
    assert (methods.count("base"), methods.count("s0"), methods.count("lora")) == (1, 6, 6)
    assert len(units.cells) == 3 * 2 * 3
    kinds = [type(unit) for unit in units.units.values()]
    assert kinds == sorted(kinds, key=[CollectionUnit, VariantUnit].index)


def test_seeds_reach_what_a_variant_leaves_to_chance(tmp_path: Path) -> None:
    study = replace(small(tmp_path), seeds=(3,))
    wrong = replace(study.variants["s0"], content="wrong")
    units = plan(replace(study, variants={**study.variants, "wrong": wrong})).variants.values()
    seeds = {(unit.method, unit.content): (unit.seed, unit.settings.get("seed")) for unit in units}
    assert seeds == {
        ("base", "right"): (0, None),
        ("s0", "right"): (0, None),
        ("s0", "wrong"): (3, None),
        ("lora", "right"): (0, 3),
    }


def test_settings_of_a_model_take_the_place_of_others(tmp_path: Path) -> None:
    variant = VariantSpec(method="s0", settings={"lr": 1.0, "n_steps": 3}, on={"pocket:gdn": {"lr": 2.0}})
    study = replace(small(tmp_path), variants={"base": VariantSpec(), "s0": variant})
    (unit,) = [
        unit
        for unit in plan(study, {("s0", "pocket:gdn", "pocket-code"): {"l2_lambda": 1.0, "lr": 9.0}}).variants.values()
        if unit.method == "s0"
    ]
    assert unit.settings == {"lr": 2.0, "n_steps": 3, "l2_lambda": 1.0}


def test_a_quick_study_has_every_variant_in_small(tmp_path: Path) -> None:
    study = replace(small(tmp_path), seeds=(0, 1), limit=None, collection=Collecting())
    quick = plan(quickened(study))
    assert {unit.method for unit in quick.variants.values()} == {"base", "s0", "lora"}
    assert {cell.seed for cell in quick.cells} == {0}
    assert all(len(asked.problems()) <= 8 for unit in quick.variants.values() for asked in unit.asked)
    assert {unit.settings["n_steps"] for unit in quick.variants.values() if unit.method != "base"} == {1, 2}
