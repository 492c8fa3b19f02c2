"""The conformance suite: it passes on every family, and one planted fault fails exactly the checks that it breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import peft.peft_model
import pytest
import torch
from torch import Tensor, nn

from s0.adapter.model import S0Model
from s0.core import states
from s0.core.raw_states import RawStates
from s0.core.recurrences import mamba2
from s0.core.states import StateLayer, effective_state
from s0.errors import ConfigError, UnsupportedModelError
from s0.verify import CHECKS, Check, Result, verify
from s0.verify.subject import Comparison, NotApplicable, Subject
from tests import zoo
from tests.breadth import mostly_slow
from tests.core.helpers import holds_no_state, logits, tokens, tuned
from tests.installed import AT_THE_NEWEST

QUICK = [check for check in CHECKS if check.name != "compile"]  # tracing takes as long as all the rest
# What does not hold, and why it is not this library's fault.
NO_LENGTH = {"generate in chunks": "not applicable"}  # their caches do not know how much they have read
KNOWN = {
    "qwen4_exp": {"compile": "not applicable"},
    "bamba": {"default positions": "stock too"},  # its own positions ignore the cache's offset
    "granitemoehybrid": {"packed": "refused"},
    # Its attention goes by pools of columns.
    "glm5_next": {
        "packed": "refused",
        **dict.fromkeys(
            (
                f"{side} {mode}"
                for side in ("left-padded", "right-padded", "mixed-padded", "row-of-pads")
                for mode in ("decode", "chunks", "single tokens", "second turn")
                if (side, mode) not in {("left-padded", "decode"), ("left-padded", "chunks")}
            ),
            "refused",
        ),
    },
    "mamba2": {"packed": "refused", **NO_LENGTH},
    "mamba": {"packed": "refused", **NO_LENGTH},
    "falcon_mamba": {"packed": "refused", **NO_LENGTH},
    "jamba": {"packed": "refused"},
    "zamba": {"gains, merged": "refused"},  # it runs one block in several layers
    "minimax": {
        "packed": "refused",
        "generate in chunks": "not applicable",
        "reset cache": "not applicable",  # it takes its own kind of cache only
        "bfloat16": "not applicable",  # its arithmetic has the state in the model's dtype
    },
}


def named(*names: str) -> list[Check]:
    found = [check for check in CHECKS if check.name in names]
    assert len(found) == len(names), names
    return found


def statuses(results: list[Result]) -> dict[str, str]:
    return {result.name: result.status for result in results}


# --- What holds ---


def assert_conforms(family: str, checks: list[Check]) -> None:
    results = verify(zoo.make(family), checks=checks)
    assert [result.name for result in results] == [check.name for check in checks]
    found = {result.name: result.status for result in results if result.status != "holds"}
    asked = {check.name for check in checks}
    assert found == {name: status for name, status in KNOWN.get(family, {}).items() if name in asked}, results


# All families in one release: `make families` asks them in both.
IN_THIS_RELEASE = zoo.FAMILIES if AT_THE_NEWEST else zoo.ONE_PER_RECURRENCE


@pytest.mark.slow
@pytest.mark.parametrize("family", IN_THIS_RELEASE)
def test_everything_holds_for_every_family(family: str) -> None:
    assert_conforms(family, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("family", IN_THIS_RELEASE)
def test_every_family_can_be_compiled(family: str) -> None:
    assert_conforms(family, named("compile"))


def test_names_are_unique_and_every_check_says_what_it_compares() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.what for check in CHECKS)


# --- Planted faults ---

WATCHED = named(
    "zero state", "scale", "decode", "second turn", "slope",
    "eval = train", "checkpointing, not reentrant", "rows", "rows, gradient, not reentrant", "save and load",
    "add and delete", "weighted", "offset", "disable", "unload", "deepcopy", "bfloat16", "offload",
)  # fmt: skip


class ForgetsOnce:
    """A cache that, to the first who asks, denies having seen anything."""

    def __init__(self, cache: Any) -> None:
        self.cache, self.asked = cache, False

    def has_previous_state(self, *args: Any) -> bool:
        if not self.asked:
            self.asked = True
            return False
        return bool(self.cache.has_previous_state(*args))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)


Patch = pytest.MonkeyPatch


def starts_again_at_every_piece(patch: Patch) -> None:
    forward = StateLayer.forward

    def forgetful(self: StateLayer, hidden_states: Tensor, **kwargs: Any) -> Any:
        cache = kwargs.pop(self.cache_name)
        return forward(self, hidden_states, None if cache is None else ForgetsOnce(cache), **kwargs)

    patch.setattr(StateLayer, "forward", forgetful)


@dataclass
class NoScale:
    alpha: float = 1.0
    normalize: bool = False


def scales_in_training_only(patch: Patch) -> None:
    def effective(self: StateLayer, name: str, kind: str = "state") -> Tensor:
        if name not in self.s0_state or kind != "state":
            return torch.zeros(self.state_shape)
        return effective_state(self.s0_state(name), self.deployments[name] if self.training else NoScale())

    patch.setattr(StateLayer, "effective", effective)


def never_scales(patch: Patch) -> None:
    patch.setattr(states, "effective_state", lambda raw, scale: raw.float())


def cuts_the_gradient(patch: Patch) -> None:
    patch.setattr(states, "effective_state", lambda raw, scale: effective_state(raw, scale).detach())


def swaps_rows(patch: Patch) -> None:
    chosen = StateLayer.states_of_rows

    def swapped(self: StateLayer, *args: Any) -> Tensor | None:
        rows = chosen(self, *args)
        return None if rows is None else rows.flip(0)

    patch.setattr(StateLayer, "states_of_rows", swapped)


def forgets_rows_under_checkpointing(patch: Patch) -> None:
    patch.setattr(S0Model, "_remember_rows_under_checkpointing", lambda self: None)


def follows_the_models_dtype(patch: Patch) -> None:
    patch.setattr(RawStates, "_apply", nn.ParameterDict._apply)


def cannot_be_disabled(patch: Patch) -> None:
    patch.setattr(StateLayer, "disable_adapters", False)


def saves_in_half_precision(patch: Patch) -> None:
    save = peft.peft_model.safe_save_file

    def rounded(tensors: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        return save({name: one.half().float() for name, one in tensors.items()}, *args, **kwargs)

    patch.setattr(peft.peft_model, "safe_save_file", rounded)


def ignores_weights(patch: Patch) -> None:
    combine = S0Model.add_weighted_adapter
    patch.setattr(
        S0Model, "add_weighted_adapter", lambda self, names, weights, name: combine(self, names, [1.0, 1.0], name)
    )


def reads_no_offset_at_single_steps(patch: Patch) -> None:
    product = mamba2.product
    patch.setattr(mamba2, "product", lambda equation, *args: product(equation, *args) * ("t" in equation))


def shares_states_between_copies(patch: Patch) -> None:
    patch.setattr(RawStates, "__deepcopy__", lambda self, memo: self, raising=False)


def makes_states_where_nothing_is(patch: Patch) -> None:
    patch.setattr(StateLayer, "state_device", lambda self: next(self.base_layer.parameters()).device)


def looks_offloaded_states_up(patch: Patch) -> None:
    patch.setattr(RawStates, "__call__", lambda self, name: self[name])


PLANTED: list[tuple[Callable[[Patch], None], set[str]]] = [
    (starts_again_at_every_piece, {"zero state", "decode", "second turn", "offset"}),
    (scales_in_training_only, {"scale", "eval = train"}),
    (never_scales, {"scale"}),
    (
        cuts_the_gradient,
        {"slope", "eval = train", "checkpointing, not reentrant", "rows, gradient, not reentrant", "bfloat16"},
    ),
    (swaps_rows, {"rows", "rows, gradient, not reentrant"}),
    (forgets_rows_under_checkpointing, {"rows, gradient, not reentrant"}),
    (follows_the_models_dtype, {"bfloat16"}),
    (cannot_be_disabled, {"disable"}),
    (saves_in_half_precision, {"save and load"}),
    (ignores_weights, {"weighted"}),
    (reads_no_offset_at_single_steps, {"offset"}),
    (shares_states_between_copies, {"deepcopy"}),
    (makes_states_where_nothing_is, {"offload"}),
    (looks_offloaded_states_up, {"offload"}),
]


@pytest.mark.parametrize(
    ("plant", "broken"),
    mostly_slow(
        PLANTED, [case for case in PLANTED if case[0] in (starts_again_at_every_piece, never_scales, swaps_rows)]
    ),
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_fault_fails_exactly_the_checks_it_breaks(
    plant: Callable[[Patch], None], broken: set[str], monkeypatch: Patch
) -> None:
    model = zoo.make("falcon_h1")
    plant(monkeypatch)
    results = statuses(verify(model, checks=WATCHED))
    assert {name for name, status in results.items() if status != "holds"} == broken
    assert {results[name] for name in broken} == {"fails"}


# --- What is nobody's fault, or the base model's ---


def test_a_fault_of_the_untouched_model_is_shown_as_its_own() -> None:
    (result,) = verify(zoo.make("bamba"), checks=named("default positions"))
    assert result.status == "stock too"
    assert result.error > 100 * result.tolerance
    assert "the untouched model fails in the same way" in result.note


def test_what_the_untouched_model_cannot_do_is_not_applicable() -> None:
    (result,) = verify(zoo.make("mamba2"), checks=named("generate in chunks"))
    assert result.status == "not applicable"
    assert "the untouched model cannot do it either: ValueError" in result.note


def test_a_state_that_dies_out_says_nothing() -> None:
    model = zoo.make("falcon_h1")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "A_log" in name:
                weight.fill_(6.0)
    assert statuses(verify(model, checks=named("decode", "left-padded"))) == dict.fromkeys(
        ["decode", "left-padded"], "says nothing"
    )


def of(*comparisons: Comparison | Exception) -> Callable[[Subject], Iterator[Comparison]]:
    def run(subject: Subject) -> Iterator[Comparison]:
        for one in comparisons:
            if isinstance(one, Exception):
                raise one
            yield one

    return run


@pytest.mark.parametrize(
    ("run", "settings", "status"),
    [
        (of(Comparison(0.0, 0.0), Comparison(1e-5, 1e-4)), {}, "holds"),
        (of(Comparison(0.0, 0.0), Comparison(float("nan"), 1e-4)), {"on_untouched": False}, "fails"),
        (of(Comparison(1e-9, 0.0)), {"on_untouched": False}, "fails"),
        (of(Comparison(1e-9, 0.0)), {}, "stock too"),
        (of(Comparison(0.0, 1e-4, shows=9e-3)), {}, "says nothing"),
        (of(Comparison(1.0, 1e-4, shows=9e-3)), {"on_untouched": False}, "fails"),
        (of(Comparison(0.0, 0.0), NotApplicable("too large")), {}, "not applicable"),
        (of(RuntimeError("broken")), {}, "not applicable"),
        (of(RuntimeError("broken")), {"on_untouched": False}, "fails"),
        (of(ConfigError("not with a state")), {"may_be_refused": True}, "refused"),
        (of(ConfigError("not with a state")), {"on_untouched": False}, "fails"),
        (of(RuntimeError("broken")), {"may_be_refused": True, "on_untouched": False}, "fails"),
    ],
)
def test_what_comes_of_a_check(run: Any, settings: dict[str, bool], status: str) -> None:
    (result,) = verify(zoo.make("falcon_h1"), checks=[Check("planted", "nothing", run, **settings)])
    assert result.status == status


def worse_with_a_state(subject: Subject) -> Iterator[Comparison]:
    yield Comparison(0.01 if subject.is_untouched else 1.0, 1e-4)


def not_finite_with_a_state(subject: Subject) -> Iterator[Comparison]:
    yield Comparison(0.01 if subject.is_untouched else float("nan"), 1e-4)


def only_with_a_state(subject: Subject) -> Iterator[Comparison]:
    if not subject.is_untouched:
        raise RuntimeError("broken")
    yield Comparison(0.0, 0.0)


@pytest.mark.parametrize("run", [worse_with_a_state, not_finite_with_a_state, only_with_a_state])
def test_what_a_state_makes_much_worse_is_not_blamed_on_the_untouched_model(run: Any) -> None:
    (result,) = verify(zoo.make("falcon_h1"), checks=[Check("planted", "nothing", run)])
    assert result.status == "fails"


# --- The model that is checked ---


def test_the_model_is_left_as_it_was_even_by_a_check_that_breaks() -> None:
    model, ids = zoo.make("falcon_h1").train(), tokens(1, 5)
    next(model.parameters()).requires_grad_(False)
    required = [weight.requires_grad for weight in model.parameters()]
    with torch.no_grad():
        before = logits(model, ids)

    def interrupted(subject: Subject) -> Iterator[Comparison]:
        subject.tuned.add_adapter("left behind", subject.tuned.peft_config["s0-verify-one"])
        with subject.untouched():
            raise KeyboardInterrupt
        yield

    checks = [*named("checkpointing, reentrant"), Check("interrupted", "nothing", interrupted)]
    with pytest.raises(KeyboardInterrupt):
        verify(model, checks=checks)
    assert holds_no_state(model)
    assert not hasattr(model, "peft_config")
    assert model.training
    assert [weight.requires_grad for weight in model.parameters()] == required
    assert not model.get_input_embeddings()._forward_hooks
    with torch.no_grad():
        assert torch.equal(logits(model, ids), before)


def test_a_model_that_cannot_be_checked_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected an untouched model"):
        verify(tuned("falcon_h1"))
    with pytest.raises(ConfigError, match="expected a float32 model, in which rounding cannot hide a fault"):
        verify(zoo.make("falcon_h1").to(torch.bfloat16))
    with pytest.raises(UnsupportedModelError):
        verify(zoo.make("llama"))


def test_special_tokens_are_never_drawn() -> None:
    class Tokenizer:
        all_special_ids: tuple[int, ...] = (5, 6)

        def __len__(self) -> int:
            return 40

    drawn: set[int] = set()

    def draws(subject: Subject) -> Iterator[Comparison]:
        drawn.update(subject.tokens(40, 40).flatten().tolist())
        yield Comparison(0.0, 0.0)

    verify(zoo.make("falcon_h1"), Tokenizer(), checks=[Check("planted", "nothing", draws)])
    assert drawn == set(range(40)) - {0, 1, 5, 6}  # 0 and 1 are named in the model's config
