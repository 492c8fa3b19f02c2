"""The states that ship with the pocket models: small, of those very weights, and worth what the study has recorded."""

from __future__ import annotations

import json

import msgspec
import pytest

from s0 import load_model
from s0.adapter.attach import switch_to
from s0.adapter.fingerprint import fingerprint
from s0.adapter.load import load, read
from s0.decode import Sampling, generate
from s0.models import POCKET_MODELS, shipped_states
from s0.record import decompressed, read_record
from s0.serve.facts import facts_of
from s0.tasks import load as load_task
from tests.cli.calls import s0
from tests.pocket_rows import study_record

names = pytest.mark.parametrize("name", ["pocket:gdn", "pocket:mamba2"])


def answers(name):
    """To pocket-code, by variant of the study."""
    return {variant: record.answered["pocket-code"] for variant, record in study_record(name).items()}


def test_two_models_ship_with_a_state():
    tuned = {name: list(shipped_states(name)) for name in POCKET_MODELS}
    assert tuned == {"pocket:gdn": ["pocket-code"], "pocket:mamba2": ["pocket-code"], "pocket:transformer": []}
    assert shipped_states("someone/a-model") == {}


@names
def test_a_state_is_small_and_of_the_model_that_it_ships_with(name):
    folder = shipped_states(name)["pocket-code"]
    model, _ = load_model(name)
    stored = read(folder, model)
    assert sum(file.stat().st_size for file in folder.iterdir() if file.name != "record.json") < 100_000
    assert stored.fingerprint == fingerprint(model) and stored.base_model == name
    run = study_record(name)["s0_auto"].run
    assert run.scale and stored.alpha == run.scale.chosen
    assert stored.training["settings"] == run.settings


@names
def test_a_state_writes_what_the_study_has_recorded_and_more_of_it_passes(name):
    model, tokenizer = load_model(name)
    variants, n = answers(name), 12
    task = load_task("pocket-code")
    problems = task.require_split("final")[:n]
    assert [problem.id for problem in problems] == list(variants["base"].problems[:n])
    tuned = load(shipped_states(name)["pocket-code"], model, "shipped")
    switch_to(tuned, "shipped")
    written = generate(tuned, tokenizer, [problem.prompt for problem in problems], Sampling(task.max_new_tokens))
    texts = decompressed(variants["s0_auto"].completions)[:n]
    assert [answer.text for (answer,) in written] == texts != decompressed(variants["base"].completions)[:n]
    passed = {variant: variants[variant].verdicts["standard"][:n].count("1") for variant in ("base", "s0_auto")}
    assert passed["s0_auto"] > passed["base"]


@names
def test_what_a_state_claims_to_have_gained_is_what_the_study_has_recorded(name):
    folder, variants = shipped_states(name)["pocket-code"], answers(name)
    claim = facts_of(folder)["record"]
    before, after = (variants[variant].summary.pass_at_1.standard.value for variant in ("base", "s0_auto"))
    assert claim["effect"] == "helped" and claim["task"] == "pocket-code"
    assert claim["summary"].startswith(f"{100 * before:.1f}% → {100 * after:.1f}% of 240 final problems, ")
    record = read_record(folder / "record.json")
    for variant in ("base", "s0_auto"):
        texts = [answer.completion for answer in record.answers[variant]]
        assert texts == decompressed(variants[variant].completions)


@pytest.mark.slow
@names
def test_a_state_is_worth_what_the_study_has_recorded(name, tmp_path):
    out = tmp_path / "record.json"
    state = shipped_states(name)["pocket-code"]
    done = s0("eval", "--model", name, "--state", state, "--task", "pocket-code", "--out", out)
    assert done.returncode == 0, done.stderr
    final, variants = json.loads(out.read_text())["final"], answers(name)
    for variant, expected in (("base", "base"), ("pocket-code", "s0_auto")):
        assert final[variant]["pass_at_1"] == msgspec.to_builtins(variants[expected].summary.pass_at_1)
