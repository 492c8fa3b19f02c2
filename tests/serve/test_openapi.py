"""The description of the API is true: whatever it allows or forbids is answered as it says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from s0.serve.access import Access
from tests.serve.serving import Server, serving
from tests.serve.states import save
from tests.serve.test_server import ask, tiny


def description(server: Server) -> dict[str, Any]:
    return json.loads(ask(server, "GET", "/openapi.json").text)


@pytest.mark.slow
def test_requests_of_all_kinds_end_as_the_description_says(tmp_path):
    # A schema cannot say which texts have tokens, or which folders there are: what fits it may be refused.
    folder = tmp_path / "states"
    save(folder / "code", 1)
    save(folder / "team" / "math", 2)
    with serving(*tiny(), Access(hosts=frozenset({"127.0.0.1"})), folders=[folder], max_new_tokens=32) as server:
        text = json.dumps(description(server))
        for name, values in (
            ("model", ["base", "code", "none"]),
            ("lora_path", ["team/math", "code", "../code"]),
        ):
            text = text.replace(f'"{name}": {{', f'"{name}": {{"enum": {json.dumps(values)}, ')
        (tmp_path / "openapi.json").write_text(text)
        words = ["run", tmp_path / "openapi.json", "--url", server.url, "--max-examples", 100, "--seed", 1]
        words += ["--phases", "coverage,fuzzing", "--exclude-checks", "positive_data_acceptance", "--no-shrink"]
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", *map(str, words)], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        server.all_given_back()


@pytest.fixture(scope="module")
def server():
    with serving(*tiny(), Access()) as running:
        yield running


def test_who_asks_in_another_way_hears_which_ways_there_are(server):
    for path, methods in (("/v1/completions", "POST"), ("/v1/models", "GET"), ("/health", "GET")):
        reply = ask(server, "DELETE", path)
        assert (reply.status, reply.headers["allow"]) == (405, methods)


def test_whole_numbers_are_whole_however_they_are_written(server):
    def asked(numbers: str) -> Any:
        body = f'{{"model": "base", "prompt": [5, 6.0, 7e0], "temperature": 0, {numbers}}}'
        return ask(server, "POST", "/v1/completions", body)

    replies = [asked(numbers) for numbers in ('"max_tokens": 4', '"max_tokens": 4.0', '"max_tokens": 0.4e1, "n": 1.0')]
    assert len({json.loads(reply.text)["choices"][0]["text"] for reply in replies}) == 1
    for number in ("4.5", "9007199254740993.0", "1e999"):
        assert asked(f'"max_tokens": {number}').error["param"] == "max_tokens"


def test_the_description_tells_of_refusals_and_of_text(server):
    paths = description(server)["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            refused = operation["responses"]["4XX"]["content"]["application/json"]["schema"]
            assert "error" in refused["properties"], (path, method)
            assert "422" not in operation["responses"]
    kinds = {path: set(paths[path]["get"]["responses"]["200"]["content"]) for path in ("/health", "/metrics")}
    assert kinds == {"/health": {"text/plain"}, "/metrics": {"text/plain"}}
    streamed = paths["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    assert set(streamed) == {"application/json", "text/event-stream"}
