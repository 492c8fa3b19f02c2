"""What the page asks of the server beyond the API: facts of states, problems, verdicts."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s0.errors import QueueFullError
from s0.serve import playground as playground_module
from s0.serve.access import access_for
from s0.serve.facts import FactsOfStates, facts_of
from s0.serve.parameters import VerdictBody
from s0.serve.playground import Playground
from s0.tasks import load
from s0.tasks.sandbox import backends, shared
from tests.serve.serving import Server, serving
from tests.serve.states import save
from tests.serve.test_server import KEY, ask, tiny

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "state", tmp_path / "runs" / "state"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# --- Facts ---


def test_the_facts_of_a_state_are_those_of_its_files(golden):
    facts = facts_of(golden)
    assert facts["size_bytes"] == (golden / "adapter_model.safetensors").stat().st_size
    assert (facts["parameters"], facts["layers"], facts["kind"]) == (8192, 2, "state")
    assert (facts["alpha"], facts["normalize"], facts["base_model"]) == (0.5, False, "pocket:gdn")
    assert facts["training"]["examples"] == "4" and facts["training"]["loss after, as deployed"] == "0.04261"
    assert facts["cautions"] == [] and facts["record"] is None


def test_the_published_layout_tells_what_it_has(golden):
    facts = facts_of(GOLDEN / "published")
    assert facts["parameters"] > 0 and facts["layers"] > 0 and "trouble" not in facts


def record_of(state: Path) -> dict[str, Any]:
    """A record of which one variant, and not the first one, is this state."""
    record = json.loads((GOLDEN / "demo.json").read_text())
    training = json.loads((state / "adapter_config.json").read_text())["training"]
    record["variants"]["s0"]["training"] = {name: value for name, value in training.items() if name != "prompts"}
    return record


@pytest.mark.parametrize("place", ["record.json", "../record.json"])
def test_a_record_in_the_folder_or_beside_it_claims_a_gain_for_just_this_state(golden, place):
    record = record_of(golden)
    (golden / place).write_text(json.dumps(record))
    claim = facts_of(golden)["record"]
    (difference,) = [each["standard"] for each in record["comparisons"] if each["second"] == "s0"][:1]
    assert claim["task"] == "pocket-code" and claim["effect"] in ("helped", "hurt", "no clear difference")
    assert f"of {difference['n']} final problems" in claim["summary"] and "95% interval" in claim["summary"]


def of_another_scale(record: dict[str, Any]) -> None:
    record["variants"]["s0"]["training"]["alpha"] = 0.25


def of_another_model(record: dict[str, Any]) -> None:
    record["model"]["fingerprint"] = "0" * 32


def damaged(record: dict[str, Any]) -> None:
    del record["comparisons"]


@pytest.mark.parametrize("change", [of_another_scale, of_another_model, damaged])
def test_a_record_of_something_else_claims_nothing(golden, change):
    record = record_of(golden)
    change(record)
    (golden / "record.json").write_text(json.dumps(record))
    assert facts_of(golden)["record"] is None


HOSTILE: dict[str, dict[str, Any]] = {
    "no text": {"base_model_name_or_path": ["<b>"]},
    "no number": {"alpha": float("inf")},
    "no shapes": {"state_shapes": {"a": "<b>"}},
    "vast": {"state_shapes": {"a": [1 << 31] * 400}},
    "vaster": {"state_shapes": {"a": [1 << 31] * 2000}},
    "no account": {"training": [1]},
    "settings of another kind": {"training": {"settings": {"lr": {"<script>": [1e999]}, "n_steps": "\u202e" * 9999}}},
    "deep": {"training": {"combined": json.loads("[" * 500 + "]" * 500)}},
    "versions": {"training": {"versions": {"<img src=x>": "\ud800"}}},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_file_says_becomes_short_text_or_a_reason(golden, name):
    config = golden / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **HOSTILE[name]}).replace("Infinity", "1e999"))
    facts = facts_of(golden)
    said = json.dumps(facts, allow_nan=False, ensure_ascii=False).encode()  # as a response would
    assert len(said) < 20000 and "\u202e".encode() not in said


def test_facts_are_read_again_where_a_file_has_changed_and_else_not(golden, monkeypatch):
    facts = FactsOfStates()
    (first,) = facts.of([golden])
    monkeypatch.setattr("s0.serve.facts.facts_of", lambda folder: {"again": True})
    assert facts.of([golden]) == [first]
    edit(golden / "adapter_config.json", base_model_name_or_path="another, of another length")
    assert facts.of([golden]) == [{"again": True}]
    shutil.rmtree(golden)
    monkeypatch.undo()
    assert "trouble" in facts.of([golden])[0]


# --- Over HTTP ---


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("states")
    tasks = [load("pocket-code"), load("pocket-math")]
    with serving(*tiny(), folders=[folder], tasks=tasks, max_states=1, max_body_bytes=3000) as running:
        running.add("a", save(folder / "a", 1))
        running.add("b", save(folder / "b", 2))
        save(folder / "c", 3)
        yield running


def verdict(server: Server, completion: str, task: str = "pocket-math", problem: str = "test/197") -> Any:
    return ask(server, "POST", "/playground/verdict", {"task": task, "problem": problem, "completion": completion})


def test_states_are_listed_with_their_facts(server):
    reply = ask(server, "GET", "/v1/states")
    first, second, third = json.loads(reply.text)["data"]
    assert (first["id"], first["on_model"], first["loaded"], first["pinned"]) == ("a", True, True, False)
    assert (second["id"], second["on_model"], second["loaded"]) == ("b", False, True)
    assert (third["id"], third["on_model"], third["loaded"]) == ("c", False, False)  # found by its folder's name
    assert first["parameters"] == second["parameters"] == third["parameters"] > 0


def test_problems_are_listed_and_shown(server):
    settings = json.loads(ask(server, "GET", "/playground").text)
    code, math = settings["tasks"]
    assert settings["base"] == "base" and [code["name"], math["name"]] == ["pocket-code", "pocket-math"]
    id = code["problems"]["final"][8]
    shown = json.loads(ask(server, "GET", f"/playground/problem?task=pocket-code&id={id}").text)
    problem = load("pocket-code").split("final")[8]
    assert (shown["id"], shown["split"], shown["prompt"]) == (problem.id, "final", problem.prompt)
    assert problem.prompt in shown["request"]
    assert all("final" not in text for text in settings)


def test_verdicts_are_the_library_s(server):
    task = load("pocket-code")
    problem = task.split("final")[8]
    for completion in (problem.canonical_solution, "    return 0", "import os\nos.abort()", "?"):
        (expected,) = task.verdicts([(problem, completion)])
        said = json.loads(verdict(server, completion, "pocket-code", problem.id).text)
        assert (said["passed"], said["reason"], said["judged"]) == (expected.passed, expected.reason, True)
    assert json.loads(verdict(server, " 15+3=18\n18*2=36\n#### 36").text)["passed"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"task": "none", "problem": "0", "completion": ""}, 404, "task_not_found"),
        ({"task": "pocket-math", "problem": "none", "completion": ""}, 404, "problem_not_found"),
        ({"task": "pocket-math", "problem": "test/197"}, 400, "missing_parameter"),
        ({"task": "pocket-math", "problem": "test/197", "completion": 3}, 400, "invalid_value"),
        ({"task": "pocket-math", "problem": "test/197", "completion": "x" * 3000}, 413, None),
        ("{", 400, None),
    ],
)
def test_what_cannot_be_judged_is_refused_in_the_usual_form(server, body, status, code):
    reply = ask(server, "POST", "/playground/verdict", body)
    assert (reply.status, reply.error["code"]) == (status, code)


def test_unknown_problems_are_not_found(server):
    for query in ("", "?task=pocket-math", "?task=%3Cb%3E&id=1"):
        reply = ask(server, "GET", f"/playground/problem{query}")
        assert reply.status == 404 and reply.error["code"].endswith("not_found")


def test_as_many_verdicts_wait_as_may(monkeypatch):
    monkeypatch.setattr(playground_module, "MOST_VERDICTS", 3)
    offered = Playground([load("pocket-math")])
    asked = VerdictBody(task="pocket-math", problem="test/197", completion="#### 36")

    async def many(n: int) -> list[Any]:
        return await asyncio.gather(*[offered.verdict(asked) for _ in range(n)], return_exceptions=True)

    for _ in range(2):  # the second time, all places are free again
        *reached, refused = asyncio.run(many(4))
        assert [said["passed"] for said in reached] == [True] * 3 and isinstance(refused, QueueFullError)
    offered.close()


@pytest.fixture
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(backends, "BACKENDS", ())
    shared.cache_clear()
    yield
    shared.cache_clear()


def test_without_a_sandbox_nothing_runs_and_there_is_no_verdict(server, no_sandbox):
    reply = verdict(server, "    return 0", "pocket-code", load("pocket-code").problems[0].id)
    assert (reply.status, reply.error["code"]) == (503, "no_sandbox") and "machine" in reply.error["message"]


def test_the_page_can_be_had_without_a_key_and_nothing_else(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    with serving(*tiny(), access_for("0.0.0.0", keys, allow_everybody=False), tasks=[load("pocket-math")]) as server:
        for path in ("/", "/page/page.css", "/page/page.js"):
            reply = ask(server, "GET", path)
            assert reply.status == 200 and reply.headers["x-content-type-options"] == "nosniff"
            assert "unsafe" not in reply.headers["content-security-policy"]
        for path in ("/playground", "/playground/problem?task=pocket-math&id=test/197", "/v1/states", "/page/", "//"):
            assert ask(server, "GET", path).status == 401
            assert ask(server, "GET", path, Authorization=f"Bearer {KEY}").status in (200, 404)
        assert verdict(server, "x").status == 401
    local = access_for("127.0.0.1", None, allow_everybody=False)
    with serving(*tiny(), local) as server:
        assert ask(server, "GET", "/", Host="evil.example").status == 403
        assert 'data-api-key="none"' in ask(server, "GET", "/").text
