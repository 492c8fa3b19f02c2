"""docs/serve.md runs as it stands: the command in a process of its own, its blocks of Python against it."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest

from s0 import Example, S0Config, S0Trainer
from s0.record import decompressed
from s0.serve.parameters import REFUSED, ChatBody, CompletionBody
from s0.serve.server import GracefulServer
from s0.tasks import load as load_task
from tests import forking
from tests.cli.calls import s0
from tests.pocket_rows import study_record

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page begins with: the state of the README's twelve lines, and one more."""
    made = tmp_path_factory.mktemp("session")
    examples = [
        Example('def add_two(n):\n    """Return n plus 2."""\n', "    return n + 2\n"),
        Example('def triple(n):\n    """Return n times 3."""\n', "    return n * 3\n"),
    ]
    trainer = S0Trainer.from_pretrained("pocket:gdn", S0Config(lr=1e-2, alpha=0.4))
    trainer.train(examples)
    trainer.save(made / "my-state")
    trainer.set_scale(0.35)
    trainer.save(made / "states" / "shy")
    return made


@contextmanager
def command(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, forking.Process]]:
    """A server as it is typed, at a free port."""
    monkeypatch.chdir(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        process = forking.begun(forking.COMMAND, *words, "--port", port, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ready"):
                break
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)
        yield port, process
    finally:
        process.kill()


def test_the_session_is_as_the_page_tells_it(folder, monkeypatch):
    (typed,) = re.findall(r"```sh\n(s0 serve .*)\n```", PAGE)
    blocks = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == PAGE.count("```python") == 4
    with command(shlex.split(typed)[1:], folder, monkeypatch) as (port, process):
        names: dict[str, Any] = {}
        for block, expected in blocks:
            printed = io.StringIO()
            with redirect_stdout(printed):
                exec(compile(block.replace(":8000", f":{port}"), "serve.md", "exec"), names)
            assert printed.getvalue() == expected
        names["client"].close()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
    *lines, last = (folder / "log").read_text().splitlines()
    assert last.startswith("interrupted: the server has ended, and every request")
    logged = [json.loads(line) for line in lines if line.startswith("{")]
    assert sum(line.get("path") == "/v1/completions" for line in logged) == 207
    assert all(line.get("level") != "error" for line in logged)


@pytest.mark.parametrize("model", ["pocket:gdn", "pocket:mamba2"])
def test_a_pocket_model_alone_serves_the_state_that_ships_with_it(model, tmp_path, monkeypatch):
    problem, recorded = load_task("pocket-code").require_split("final")[0], study_record(model)
    asked = {"model": "pocket-code", "prompt": problem.prompt, "temperature": 0, "max_tokens": 64}
    with command(["serve", "--model", model], tmp_path, monkeypatch) as (port, _):
        url = f"http://127.0.0.1:{port}/v1"
        with urllib.request.urlopen(f"{url}/models") as listed:
            models = {shown["id"]: shown["parent"] for shown in json.load(listed)["data"]}
        request = urllib.request.Request(
            f"{url}/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            text = json.load(answer)["choices"][0]["text"]
    assert models == {model: None, "pocket-code": model}
    assert text == decompressed(recorded["s0_auto"].answered["pocket-code"].completions)[0]


@pytest.mark.parametrize(("name", "body"), [("completions", CompletionBody), ("chat", ChatBody)])
def test_the_tables_name_every_parameter_and_what_becomes_of_it(name, body):
    rows = {field: f"taken | {about.description}" for field, about in body.model_fields.items()}
    for refused, neutral in REFUSED[body].items():
        values = ["null", *(f"`{json.dumps(value)}`" for value in neutral if value is not None)]
        rows[refused] = f"refused | Unless it is {' or '.join(values)}."
    lines = [f"| `{parameter}` | {rows[parameter]} |" for parameter in sorted(rows)]
    table = "\n".join(["| parameter | | |", "|---|---|---|", *lines])
    assert table == PAGE.partition(f"<!-- {name} -->\n")[2].partition(f"\n<!-- /{name} -->")[0]


def test_what_cannot_be_served_ends_in_one_line_before_the_model_is_loaded(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    keys = tmp_path / "keys"
    keys.write_text("short\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for words, status, said in (
            (("--state", "my-state"), 2, "--state NAME=FOLDER"),
            (("--host", "0.0.0.0"), 2, "--api-key-file"),
            (("--api-key-file", keys), 2, "16 characters"),
            (("--api-key-file", tmp_path / "none"), 1, "No such file"),
            (("--pin", "code"), 2, "--pin"),
            (("--state", "code=nowhere"), 1, "nowhere"),
            (("--port", taken.getsockname()[1]), 1, "in use"),
            (("--max-samples", 300, "--max-rows", 2), 2, "--max-samples"),
            (("--states-dir", tmp_path / "none"), 2, "--states-dir"),
            (("--max-states", 0), 2, "--max-states"),
            (("--task", "poetry"), 2, "pocket-code"),
            (("--task", "own=nowhere.jsonl"), 1, "nowhere.jsonl"),
        ):
            done = s0("serve", "--model", "pocket:gdn", *words)
            assert done.returncode == status and said in done.stderr, (words, done)
            assert "Traceback" not in done.stderr


def test_the_untouched_model_goes_by_the_name_that_is_asked_for(monkeypatch):
    names = []
    monkeypatch.setattr(GracefulServer, "run", lambda self, sockets: names.append(self._runner.states.base_name))
    for words in ((), ("--served-model-name", "gdn")):
        assert s0("serve", "--model", "pocket:gdn", "--port", 0, *words).returncode == 0
    assert names == ["pocket:gdn", "gdn"]


def test_states_that_cannot_be_served_are_told_by_name(folder, monkeypatch):
    monkeypatch.chdir(folder)
    shutil.copytree("my-state", "copy")
    for words, said in (
        (("--state", "pocket:gdn=my-state"), "base model"),
        (("--state", "a=my-state", "--state", "b=copy"), "served as 'a'"),
        (("--state", "a=my-state", "--state", "a=states/shy"), "under which"),
    ):
        done = s0("serve", "--model", "pocket:gdn", "--port", 0, *words)
        assert done.returncode == 2 and said in done.stderr
    done = s0("serve", "--model", "pocket:mamba2", "--port", 0, "--state", "code=my-state")
    assert done.returncode == 1 and "'code'" in done.stderr
