"""What a training's own figures warn of."""

from __future__ import annotations

from typing import Any

import pytest

from s0 import Example
from s0.cautions import Caution, cautions
from tests.train.helpers import trainer

FINE = {"initial_loss": 2.0, "training_loss": 1.0, "final_loss": 1.1, "alpha": 0.65}
CURVE: dict[str, Any] = {"alpha": 0.65, "helps": True, "alphas": (0.0, 0.02, 0.65, 4.0), "values": (2, 1.9, 1, 1.5)}


def test_a_training_like_most_has_none() -> None:
    assert cautions({}) == []
    assert cautions(FINE) == []
    assert cautions({**FINE, "n_select": 10, "n_select_shared": 0, "scale": CURVE}) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n_select": 9}, "only 9 select examples"),
        ({"n_select": 1}, "only 1 select example is"),
        ({"n_select": 40, "n_select_shared": 3}, "3 of the 40 select examples ask what was learned from"),
        ({"final_loss": 2.1, "training_loss": 2.2}, "did not fall: 2 untouched, 2.1 as deployed; take a lower"),
        ({"final_loss": 2.1}, "did not fall: 2 untouched, 2.1 as deployed; as trained it is 1: choose the scale"),
        ({"final_loss": 2.1, "scale": CURVE}, "the scale was chosen on select examples; learn from more"),
        ({"final_loss": 2.0, "training_loss": 2.0}, "hardly moved: 2 untouched, 2 as deployed; take a higher"),
        ({"final_loss": 2.0, "alpha": 1e-9}, "hardly moved: 2 untouched, 2 as deployed; as trained it is 1"),
        ({"final_loss": 2.0, "alpha": 0}, "scale (alpha) is 0"),
        ({"final_loss": 1.9, "alpha": 0.07}, "little of what was learned shows at the scale (alpha) 0.07"),
        ({"scale": {**CURVE, "alpha": 4.0}}, "4 is the largest that was tried"),
        ({"scale": {**CURVE, "alpha": 0.02}}, "0.02 is the smallest that was tried"),
        ({"scale": {**CURVE, "alpha": 16.4, "alphas": (0.0, 0.02, 16.4, 67.0)}}, "the scale 16.4 is large"),
        ({"scale": {**CURVE, "helps": False}}, "no scale was better than the untouched model"),
    ],
)
def test_what_is_wrong_is_said_with_a_remedy(change: dict[str, Any], says: str) -> None:
    (told,) = cautions({**FINE, **change})
    assert says in told and ("; " in told or ": " in told) and "\n" not in told


def test_where_nothing_was_learned_nothing_is_said_of_the_scale() -> None:
    unmoved = {**FINE, "training_loss": 2.0, "final_loss": 2.0}
    for scale in ({**CURVE, "alpha": 0.02}, {**CURVE, "alpha": 4.0}, {**CURVE, "helps": False}):
        (said,) = cautions({**unmoved, "scale": scale})
        assert "hardly moved" in said


def test_a_scale_by_verdicts_has_no_losses_to_speak_of() -> None:
    assert cautions({"initial_loss": 2.0, "training_loss": 1.0, "alpha": 0.65, "scale": CURVE}) == []


def test_a_trainer_warns_of_select_examples_that_were_learned_from() -> None:
    examples = [Example(f"a{i}", "b") for i in range(3)]
    made = trainer(n_steps=2, lr=0.3, alpha="auto")
    with pytest.warns(Caution) as warned:
        made.train(examples, select=[Example("a1", "other"), Example("a9", "b")])
    assert made.training["n_select_shared"] == 1
    told = [str(one.message) for one in warned if one.category is Caution]
    assert told == cautions(made.training)
    assert any("1 of the 2 select examples" in one for one in told)
