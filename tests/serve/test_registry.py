"""States by name: on the model when asked for, off it when there is no room, and nothing but states of this model."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from s0.core.states import state_layers
from s0.decode import Batcher, Request
from s0.errors import ConfigError, StateMismatchError, UnknownStateError
from s0.serve.registry import Registry
from tests import words, zoo
from tests.serve.states import save

PROMPT = (5, 6, 7, 8)


def registry(folder: Path | None = None, **settings: Any) -> tuple[Any, Registry]:
    """A fresh model and its registry, with the base model called "base"."""
    model = zoo.make("qwen3_5")
    return model, Registry(model, "base", folders=[folder] if folder else [], **settings)


def written(model: Any, state: str) -> list[int]:
    """What the model writes from a state."""
    batcher, tokens = Batcher(model, words.characters()), []
    batcher.submit(Request(PROMPT, 12, state=state))
    batcher.finish(lambda event: tokens.append(event.token))
    return tokens


def on_model(model: Any) -> set[str]:
    return {name for layer in state_layers(model) for name in layer.s0_state}


def used(states: Registry, name: str) -> str:
    """Acquire and release at once; the adapter."""
    version = states.acquire(name)
    assert version is not None
    states.release(version)
    return version.adapter


def test_a_state_answers_as_itself_and_the_base_model_as_untouched(tmp_path):
    model, states = registry()
    untouched = written(model, "__base__")
    states.add("code", save(tmp_path / "code", 1))
    states.add("math", save(tmp_path / "math", 2))
    answers = [written(model, used(states, name)) for name in ("base", "code", "math")]
    assert answers[0] == untouched and len({tuple(answer) for answer in answers}) == 3
    assert states.names == ["code", "math"]


def test_the_least_recently_used_state_leaves_and_comes_back_the_same(tmp_path):
    model, states = registry(max_states=2)
    for i, name in enumerate("abc"):
        states.add(name, save(tmp_path / name, i))
    first = written(model, used(states, "a"))
    assert states.n_on_model == 2 and len(on_model(model)) == 2  # c waits in its folder
    used(states, "b")
    used(states, "c")
    assert states.n_on_model == 2
    assert written(model, used(states, "a")) == first
    assert states.names == ["a", "b", "c"]


def test_pinned_states_and_those_in_use_never_leave(tmp_path):
    model, states = registry(max_states=2)
    states.add("pinned", save(tmp_path / "pinned", 0), is_pinned=True)
    states.add("a", save(tmp_path / "a", 1))
    states.add("b", save(tmp_path / "b", 2))
    pinned, running = used(states, "pinned"), states.acquire("a")
    assert running is not None
    assert states.acquire("b") is None  # no room while a request runs on a
    states.release(running)
    version = states.acquire("b")
    assert version is not None and on_model(model) == {pinned, version.adapter}


def test_pins_leave_room_for_the_others(tmp_path):
    _, states = registry(max_states=2)
    states.add("p", save(tmp_path / "p", 0), is_pinned=True)
    states.add("a", save(tmp_path / "a", 1))
    with pytest.raises(ConfigError, match="2 pinned"):
        states.add("q", save(tmp_path / "q", 2), is_pinned=True)


def test_a_changed_file_is_a_new_version_and_the_old_one_lives_while_it_runs(tmp_path):
    model, states = registry()
    states.add("code", save(tmp_path / "code", 1))
    old = states.acquire("code")
    assert old is not None
    before = written(model, old.adapter)
    save(tmp_path / "code", 2)
    new = states.acquire("code")
    assert new is not None and new.adapter != old.adapter and new.digest != old.digest
    assert written(model, old.adapter) == before != written(model, new.adapter)
    states.release(old)
    assert on_model(model) == {new.adapter}


def test_a_file_that_is_written_again_as_it_was_is_the_same_version(tmp_path):
    _, states = registry()
    states.add("code", save(tmp_path / "code", 1))
    adapter = used(states, "code")
    save(tmp_path / "code", 1)
    assert used(states, "code") == adapter


def test_a_state_damaged_since_is_an_error_and_mends_when_its_file_does(tmp_path):
    _, states = registry()
    states.add("code", save(tmp_path / "code", 1))
    weights = tmp_path / "code" / "adapter_model.safetensors"
    sound_bytes = weights.read_bytes()
    weights.write_bytes(sound_bytes[:-1])
    with pytest.raises(StateMismatchError, match="the state 'code'"):
        states.acquire("code")
    weights.write_bytes(sound_bytes)
    used(states, "code")


def test_removed_states_are_unknown_and_running_requests_end_on_theirs(tmp_path):
    model, states = registry()
    states.add("code", save(tmp_path / "code", 1))
    running = states.acquire("code")
    assert running is not None
    states.remove("code")
    with pytest.raises(UnknownStateError, match="'code'"):
        states.acquire("code")
    assert on_model(model) == {running.adapter}
    states.release(running)
    assert on_model(model) == set() and states.n_on_model == 0
    states.add("code", tmp_path / "code")
    used(states, "code")


def test_an_unknown_name_is_never_the_base_model():
    _, states = registry()
    for name in ("nothing", "__base__", "served_0", "", "Base"):
        with pytest.raises(UnknownStateError):
            states.require(name)
        with pytest.raises(UnknownStateError):
            states.acquire(name)


def test_names_and_doubles_that_are_refused(tmp_path):
    _, states = registry()
    code = save(tmp_path / "code", 1)
    states.add("code", code)
    with pytest.raises(ConfigError, match="the base model's"):
        states.add("base", save(tmp_path / "other", 2))
    with pytest.raises(ConfigError, match="under which a state is served"):
        states.add("code", tmp_path / "other")
    shutil.copytree(code, tmp_path / "copy")
    for same in (code, tmp_path / "copy"):
        with pytest.raises(ConfigError, match="served as 'code'"):
            states.add("again", same)
    for name in ("", "a b", "../x", "x" * 129, "ä", "a\n"):
        with pytest.raises(ConfigError, match="letters, digits"):
            states.add(name, tmp_path / "other")


def test_what_is_no_state_of_this_model_is_refused_by_name(tmp_path):
    _, states = registry()
    lora = get_peft_model(zoo.make("qwen3_5"), LoraConfig(target_modules=["o_proj"]))
    lora.save_pretrained(str(tmp_path / "lora"))
    shutil.copytree(tmp_path / "lora", tmp_path / "full")
    (tmp_path / "full" / "adapter_config.json").write_text('{"peft_type": "FULL"}')
    save(tmp_path / "foreign", 1, "falcon_h1")
    big = save(tmp_path / "big", 1) / "adapter_model.safetensors"
    big.write_bytes(big.read_bytes() + bytes(2 << 20))
    pickled = save(tmp_path / "pickled", 1)
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    published = tmp_path / "published"
    published.mkdir()
    torch.save({}, published / "states.pt")
    (published / "meta.json").write_text("{}")
    broken = save(tmp_path / "broken", 1)
    (broken / "adapter_config.json").write_text("[" * 100_000)
    nan = save(tmp_path / "nan", 1, size=float("nan"))
    for folder, reason in (
        (tmp_path / "lora", "LORA"),
        (tmp_path / "full", r"all weights of a model: .*model\.save_pretrained"),
        (tmp_path / "foreign", "layers"),
        (tmp_path / "big", "at most"),
        (pickled, "pickled"),
        (published, "pickled"),
        (broken, "JSON"),
        (nan, "finite"),
        (tmp_path / "nowhere", "local folder"),
    ):
        with pytest.raises(StateMismatchError, match=f"the state 'x'.*{reason}"):
            states.add("x", folder)
    assert states.names == [] and states.n_on_model == 0


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    _, states = registry()
    folder = save(tmp_path / "code", 1)
    (folder / "adapter_config.json").unlink()
    os.mkfifo(folder / "adapter_config.json")
    with pytest.raises(StateMismatchError, match="plain file"):
        states.add("code", folder)


def test_states_come_and_go_in_any_order_and_leave_the_model_as_it_was(tmp_path):
    model, states = registry(max_states=3)
    modules = [type(module) for module in model.modules()]
    folders = {name: save(tmp_path / name, i) for i, name in enumerate("abc")}
    for order in ("abc", "cab", "bca"):
        for name, folder in folders.items():
            states.add(name, folder)
        for name in order:
            states.remove(name)
        assert [type(module) for module in model.modules()] == modules and not hasattr(model, "peft_config")


# --- By request ---


def test_requests_load_from_the_allowed_folders_alone(tmp_path):
    allowed = tmp_path / "states"
    save(allowed / "team" / "code", 1)
    secret = save(tmp_path / "secret", 2)
    (allowed / "link").symlink_to(secret)
    hidden = allowed / "hidden"
    hidden.mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (hidden / file).symlink_to(secret / file)
    _, states = registry(allowed)
    for path in (
        "../secret",
        str(secret),
        "link",
        "hidden",
        ".",
        "",
        "team/code\0",
        "team/../../secret",
        "x" * 5000,
        "\ud800",
    ):
        with pytest.raises(ConfigError, match=r"'code'.*within those"):
            states.add_from_request("code", path)
    states.add_from_request("code", "team/code")
    used(states, "code")
    states.remove("code")
    states.add_from_request("code", str(allowed / "team" / "code"))


def test_a_state_in_an_allowed_folder_answers_by_its_name_once_somebody_asks(tmp_path):
    allowed = tmp_path / "states"
    save(allowed / "code", 1)
    save(allowed / "team" / "math", 2)
    model, states = registry(allowed)
    assert states.names == ["code"] and states.n_on_model == 0
    states.require("code")
    with pytest.raises(UnknownStateError, match="'code'"):
        states.remove("code")  # nothing of it is in memory
    answer = written(model, used(states, "code"))
    assert answer != written(model, "__base__") and states.n_on_model == 1
    states.remove("code")
    assert on_model(model) == set()
    assert written(model, used(states, "code")) == answer
    shutil.rmtree(allowed / "code")
    with pytest.raises(StateMismatchError, match="'code'"):
        states.acquire("code")


def test_a_name_that_was_added_goes_before_a_folder_of_that_name(tmp_path):
    allowed = tmp_path / "states"
    save(allowed / "code", 1)
    model, states = registry(allowed)
    states.add("code", save(tmp_path / "code", 2))
    first = written(model, used(states, "code"))
    assert states.names == ["code"]
    states.remove("code")
    assert written(model, used(states, "code")) != first


def test_what_is_no_state_right_in_an_allowed_folder_is_never_taken_for_one(tmp_path):
    allowed, secret = tmp_path / "states", save(tmp_path / "secret", 2)
    save(allowed / "team" / "code", 1)
    save(allowed / ".hidden", 3)
    save(allowed / "base", 4)
    (allowed / "link").symlink_to(secret)
    (allowed / "empty").mkdir()
    (allowed / "linked").mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (allowed / "linked" / file).symlink_to(secret / file)
    model, states = registry(allowed)
    assert states.names == []
    for name in ("team/code", "team", "../secret", str(secret), "link", "linked", "empty", ".hidden", ".", "", "a\0b"):
        for ask in (states.require, states.acquire):
            with pytest.raises(UnknownStateError, match="expected `model`"):
                ask(name)
    assert used(states, "base") == "__base__" and on_model(model) == set()


def test_what_lies_there_and_cannot_be_served_is_refused_by_name(tmp_path):
    allowed = tmp_path / "states"
    get_peft_model(zoo.make("qwen3_5"), LoraConfig(target_modules=["o_proj"])).save_pretrained(str(allowed / "lora"))
    save(allowed / "foreign", 1, "falcon_h1")
    (save(allowed / "cut", 2) / "adapter_config.json").unlink()
    save(allowed / "code", 3)
    shutil.copytree(allowed / "code", allowed / "copy")
    _, states = registry(allowed)
    assert states.names == ["code", "copy", "cut", "foreign"]  # by its tensors alone, nobody knows that one is foreign
    used(states, "code")
    for name, reason in (("lora", "LORA"), ("foreign", "layers"), ("cut", "adapter_config")):
        with pytest.raises(StateMismatchError, match=f"the state '{name}'.*{reason}"):
            states.acquire(name)
    assert used(states, "copy") != used(states, "code") and states.n_on_model == 2


def test_a_folder_answers_by_its_name_whatever_became_of_the_name_that_it_had(tmp_path):
    allowed = tmp_path / "states"
    save(allowed / "first", 1)
    save(allowed / "second", 2)
    model, states = registry(allowed)
    text = written(model, used(states, "first"))
    (allowed / "first").rename(allowed / "renamed")
    assert written(model, used(states, "renamed")) == text
    with pytest.raises(StateMismatchError, match="'first'"):
        states.acquire("first")
    states.remove("first")
    states.add_from_request("alias", "second")
    assert used(states, "second") != used(states, "alias") and {"second", "alias"} <= {*states.names}


@pytest.mark.parametrize("part", ["", "adapter_model.safetensors"])
def test_a_link_that_comes_into_the_place_of_a_known_state_is_not_followed_out(tmp_path, part):
    allowed, outside = tmp_path / "states", save(tmp_path / "outside", 7)
    for name in ("asked", "loaded"):
        save(allowed / name, 1)
    _, states = registry(allowed)
    states.add_from_request("by-path", "loaded")
    used(states, "asked")
    for name in ("asked", "loaded"):
        place = allowed / name / part
        place.rename(tmp_path / f"{name}-before")
        place.symlink_to(outside / part)
    for name in ("asked", "by-path"):
        with pytest.raises(StateMismatchError, match=f"'{name}': expected .* within those that states may be loaded"):
            states.acquire(name)
    with pytest.raises(UnknownStateError):
        states.acquire("loaded")


def test_a_state_of_whoever_runs_the_server_may_be_a_link(tmp_path):
    _, states = registry(tmp_path)
    save(tmp_path / "old", 1)
    states.add("own", save(tmp_path / "elsewhere", 2))
    used(states, "own")


def test_a_state_in_a_folder_waits_for_room_as_others_do(tmp_path):
    allowed = tmp_path / "states"
    for i, name in enumerate("abc"):
        save(allowed / name, i)
    model, states = registry(allowed, max_states=1)
    running = states.acquire("a")
    assert running is not None and states.acquire("b") is None and on_model(model) == {running.adapter}
    states.release(running)
    for name in "bca":
        adapter = used(states, name)
        assert on_model(model) == {adapter}


def test_a_state_in_a_folder_that_pins_leave_no_room_for_is_refused_at_once(tmp_path):
    allowed = tmp_path / "states"
    save(allowed / "a", 1)
    _, states = registry(allowed, max_states=1)
    states.add("p", save(tmp_path / "p", 0), is_pinned=True)
    with pytest.raises(ConfigError, match="1 pinned"):
        states.acquire("a")


def test_without_an_allowed_folder_nothing_is_loaded_by_request(tmp_path):
    _, states = registry()
    with pytest.raises(ConfigError, match="--states-dir"):
        states.add_from_request("code", str(save(tmp_path / "code", 1)))


def test_pinned_states_and_the_base_model_are_not_unloaded(tmp_path):
    _, states = registry()
    states.add("code", save(tmp_path / "code", 1), is_pinned=True)
    for name in ("code", "base"):
        with pytest.raises(ConfigError, match=name):
            states.remove(name)


def test_a_damaged_account_is_refused_as_the_library_refuses_it(tmp_path):
    _, states = registry()
    folder = save(tmp_path / "code", 1)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "alpha": 3.0}))
    with pytest.raises(StateMismatchError, match="checksum"):
        states.add("code", folder)
