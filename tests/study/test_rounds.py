"""A variant in rounds collects for itself, and is a unit like any other: resumed, recorded, estimated, made small."""

from __future__ import annotations

from pathlib import Path

import pytest

from s0.bench import rounds as rounds_module
from s0.errors import ConfigError
from s0.study.plan import CollectionUnit, VariantUnit, plan
from s0.study.quick import quickened
from s0.study.runner import FAILED, LEFT, estimated, opened, run, standing
from s0.study.spec import InRounds, read_study
from s0.study.store import CollectionRecord, VariantRecord
from s0.tasks.sandbox import Sandbox
from tests.study.small import STUDY, Here, timeless, written

IN_ROUNDS = STUDY.replace("[variants.lora]", "[variants.rounds]").replace(
    'method = "lora"\nsettings = { n_steps = 1, rank = 2 }',
    'method = "s0"\nsettings = { n_steps = 2, lr = 1e-2, alpha = "auto" }\nrounds = { n = 2, keep = 2 }',
)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.slow
def test_a_killed_variant_in_rounds_goes_on_and_tells_its_rounds(tmp_path: Path) -> None:
    records = []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        study, store = opened(written(folder, IN_ROUNDS), folder)
        before = standing(study, store)
        if name == "killed":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(rounds_module, "run_variant", _dies)
                with pytest.raises(Killed):
                    run(before, store, Here())
            assert any((store.work(key) / "rounds" / "round-1").is_dir() for key in before.plan.variants)
        after = run(standing(study, store), store, Here())
        assert after.keys(LEFT, FAILED) == []
        records.append(timeless(folder))
    assert records[0] == records[1]
    (record,) = [each for each in after.records.values() if isinstance(each, VariantRecord) and each.rounds]
    facts = record.rounds
    assert facts is not None and 1 <= facts.best <= len(facts.rounds) <= 2
    assert record.n_examples == {"train": facts.rounds[facts.best - 1].n_examples}
    assert facts.rounds[0].n_new == facts.rounds[0].n_examples >= facts.rounds[0].n_solved > 0
    first = next(each for each in after.records.values() if isinstance(each, CollectionRecord))
    assert facts.rounds[0].n_solved >= first.n  # the same samples, of which the other variant keeps one a problem


def _dies(*_: object, **__: object) -> None:
    raise Killed


def test_a_variant_in_rounds_changes_no_other_unit_and_needs_no_collection(tmp_path: Path) -> None:
    apart, whole = (plan(read_study(written(tmp_path, text))) for text in (STUDY, IN_ROUNDS))
    (unit,) = [each for each in whole.variants.values() if each.rounds]
    shared = {cell.key for cell in apart.cells if cell.variant != "lora"}
    assert shared < {cell.key for cell in whole.cells} and len(whole.collections) == len(apart.collections) == 2
    assert {split: each.settings["keep"] for split, each in unit.collected.items()} == {"train": "all", "select": "all"}
    assert not unit.learned and unit.key not in shared
    alone = IN_ROUNDS.replace('[variants.s0]\nmethod = "s0"\nsettings = { n_steps = 2, lr = 1e-2, alpha = 1 }\n', "")
    kinds = {type(each) for each in plan(read_study(written(tmp_path, alone))).units.values()}
    assert kinds == {VariantUnit} and CollectionUnit not in kinds


def test_rounds_are_estimated_and_made_small(tmp_path: Path) -> None:
    study, store = opened(written(tmp_path, IN_ROUNDS), tmp_path)
    with Sandbox() as sandbox:
        estimate = estimated(standing(study, store), store, sandbox)
    assert estimate.unknown == 0 and all(seconds > 0 for seconds in estimate.seconds.values())
    many = read_study(written(tmp_path, IN_ROUNDS.replace("n = 2, keep", "n = 9, keep")))
    assert quickened(many).variants["rounds"].rounds == InRounds(n=1, keep=2)


def test_a_study_in_small_asks_no_problem_that_is_to_be_asked_once(tmp_path: Path) -> None:
    text = STUDY.replace("limit", 'asked = ["pocket-math-fresh", "pocket-code"]\nlimit')
    assert quickened(read_study(written(tmp_path, text))).asked == ("pocket-math", "pocket-code")


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("n = 2, keep = 2", "n = 0", "`n` and `keep` of at least 1"),
        ("n = 2, keep = 2", "many = 2", r"keys of `variants.rounds.rounds` \(keep, n\), got 'many'"),
        ("rounds = {", 'content = "wrong"\nrounds = {', "`rounds` of a variant that learns what passes"),
        ("seeds = 1", "seeds = 1\nexamples = [5]", "no `examples` beside a variant in `rounds`"),
        ("[variants.base]", "[variants.base]\nrounds = {}", "`rounds` of a variant that learns"),
    ],
)
def test_rounds_that_cannot_be_are_refused(right: str, wrong: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        read_study(written(tmp_path, IN_ROUNDS.replace(right, wrong, 1)))
