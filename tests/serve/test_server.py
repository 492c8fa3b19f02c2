"""The server as operators and attackers meet it: states come and go, nothing gets in that may not, nothing is stuck."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from s0.errors import ConfigError, UnsupportedModelError
from s0.serve.access import Access, JsonLines, access_for
from s0.serve.registry import Registry
from s0.serve.service import Service
from tests import words, zoo
from tests.serve.serving import Server, serving
from tests.serve.states import save

KEY = "a-key-of-the-tests-1"
PROMPT = "def add"


def tiny() -> tuple[Any, Any]:
    model = zoo.make("qwen3_5")
    model.generation_config.eos_token_id = [zoo.VOCAB]  # which it cannot write
    return model, words.characters()


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.text)["error"]


def ask(server: Server, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    """A request as it is written."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    raw = body if isinstance(body, (bytes, str)) or body is None else json.dumps(body)
    kind = {} if body is None else {"Content-Type": "application/json"}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, raw, {**kind, **names})
    response = connection.getresponse()
    reply = Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read().decode())
    connection.close()
    return reply


def complete(server: Server, model: str = "base", **how: Any) -> Reply:
    return ask(server, "POST", "/v1/completions", {"model": model, "prompt": PROMPT, "temperature": 0, **how})


def text_of(reply: Reply) -> str:
    assert reply.status == 200, reply.text
    return json.loads(reply.text)["choices"][0]["text"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("states")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    hosts = frozenset({"localhost", "127.0.0.1"})
    with serving(*tiny(), Access(hosts=hosts), folders=[folder], max_states=2, max_body_bytes=2000) as running:
        yield running


# --- States ---


def load(server: Server, name: str, path: str) -> Reply:
    return ask(server, "POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})


def unload(server: Server, name: str) -> Reply:
    return ask(server, "POST", "/v1/unload_lora_adapter", {"lora_name": name})


def model_names(server: Server) -> list[str]:
    return [model["id"] for model in json.loads(ask(server, "GET", "/v1/models").text)["data"]]


def test_states_are_loaded_answered_from_and_unloaded(server, folder):
    base = text_of(complete(server))
    texts = {}
    for i, name in enumerate(("one", "two", "three")):  # one more than has room
        save(folder / "team" / name, i)
        assert complete(server, name).status == 404
        reply = load(server, name, f"team/{name}")
        assert (reply.status, "Success" in reply.text) == (200, True)
        texts[name] = text_of(complete(server, name))
    assert len({base, *texts.values()}) == 4
    assert {name: text_of(complete(server, name)) for name in texts} == texts
    assert model_names(server)[:4] == ["base", *texts]
    for name in texts:
        assert unload(server, name).status == 200
        reply = complete(server, name)
        assert (reply.status, reply.error["code"]) == (404, "model_not_found")
        assert unload(server, name).status == 404
    assert text_of(complete(server)) == base


def test_a_state_in_a_folder_is_there_for_whoever_asks_on_every_server_of_the_folder(tmp_path):
    folder, hosts = tmp_path / "shared", frozenset({"127.0.0.1"})
    folder.mkdir()
    with (
        serving(*tiny(), Access(hosts=hosts), folders=[folder]) as server,
        serving(*tiny(), Access(hosts=hosts), folders=[folder], max_states=1) as replica,
    ):
        assert complete(server, "late").status == 404
        save(folder / "late", 1)
        save(folder / "other", 2)
        for asked in (server, replica):
            assert model_names(asked) == ["base", "late", "other"]
            assert ask(asked, "GET", "/v1/models/late").status == 200
            assert unload(asked, "late").status == 404  # nobody has asked for it
        replies = [complete(asked, name) for name in ("late", "other", "late") for asked in (server, replica)]
        texts = [text_of(reply) for reply in replies]
        assert (
            texts[0::2] == texts[1::2] and texts[0] == texts[4] != texts[2] and text_of(complete(server)) not in texts
        )
        digests = [json.loads(reply.text)["system_fingerprint"] for reply in replies]
        assert digests[0] == digests[1] != digests[2]
        assert unload(server, "late").status == 200
        assert text_of(complete(server, "late")) == texts[0]
        shutil.copytree(folder / "late", folder / "twin")
        assert text_of(complete(server, "twin")) == texts[0]
        server.all_given_back()
        replica.all_given_back()


def test_a_changed_file_answers_as_its_new_self_and_says_so(server, folder):
    save(folder / "changing", 5)
    load(server, "changing", "changing")
    first = complete(server, "changing", max_tokens=30)
    save(folder / "changing", 6)
    second = complete(server, "changing", max_tokens=30)
    unload(server, "changing")
    assert text_of(first) != text_of(second)
    assert json.loads(first.text)["system_fingerprint"] != json.loads(second.text)["system_fingerprint"]


def test_what_may_not_be_loaded_is_refused_by_name(server, folder, tmp_path):
    save(folder / "good", 7)
    load(server, "good", "good")
    outside = save(tmp_path / "outside", 8)
    (folder / "empty").mkdir()
    for name, path, word in (
        ("base", "good", "base model"),
        ("good", "good", "under which"),
        ("again", "good", "served as 'good'"),
        ("out", str(outside), "within those"),
        ("out", "../outside", "within those"),
        ("out", "/etc", "within those"),
        ("empty", "empty", "'empty'"),
        ("a b", "good", "letters"),
    ):
        reply = load(server, name, path)
        assert reply.status == 400 and word in reply.error["message"], reply.text
    assert "expected" in ask(server, "POST", "/v1/load_lora_adapter", {"lora_name": "x"}).error["message"]
    assert unload(server, "base").status == 400
    assert unload(server, "unknown").error["param"] == "lora_name"
    unload(server, "good")


def test_a_state_that_breaks_on_disk_is_unavailable_and_others_are_not(server, folder):
    weights = save(folder / "broken", 9) / "adapter_model.safetensors"
    load(server, "broken", "broken")
    weights.write_bytes(weights.read_bytes()[:-4])
    reply = complete(server, "broken", stream=True)
    assert (reply.status, reply.error["code"]) == (503, "state_unavailable") and "'broken'" in reply.error["message"]
    assert str(folder) not in reply.text and reply.headers["x-should-retry"] == "false"
    assert text_of(complete(server))
    unload(server, "broken")


# --- What comes in ---


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"model": "base", "model": "base", "prompt": "x"}',
        b'{"model": "base", "prompt": "x", "temperature": NaN}',
        b'{"model": "base", "prompt": "x", "temperature": 1e999}',
        b'{"model": "base", "prompt": "\\ud800"}',
        b'{"model": "base", "prompt": "x", "seed": ' + b"9" * 1900 + b".5}",
        b"[" * 1990,
        b'{"model": ["base"], "prompt": "x"}',
        b'{"model": "base", "prompt": "x", "max_tokens": 100000000000000000000}',
    ],
    ids=lambda body: body.decode("latin-1")[:40],
)
def test_malformed_bodies_are_refused_in_openais_form(server, body):
    reply = ask(server, "POST", "/v1/completions", body)
    assert reply.status == 400 and "expected" in reply.error["message"]
    assert set(reply.error) == {"message", "type", "param", "code"}


def test_numbers_of_any_size_are_seeds(server):
    assert complete(server, temperature=1, seed=-(10**300), max_tokens=2).status == 200


def test_more_than_the_model_has_room_for_is_refused_in_the_words_of_the_api(server, monkeypatch):
    monkeypatch.setattr(server.service, "_longest", 20)
    reply = complete(server, max_tokens=14)
    assert (reply.status, reply.error["param"]) == (400, "max_tokens") and f"got {len(PROMPT)} and 14" in reply.text
    assert complete(server, max_tokens=13).status == 200
    assert json.loads(ask(server, "GET", "/playground").text)["max_new_tokens"] == 19


def test_bodies_have_a_limit_whatever_they_say_of_their_length(server):
    large = json.dumps({"model": "base", "prompt": "x" * 3000})
    assert ask(server, "POST", "/v1/completions", large).status == 413
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    pieces = [large[i : i + 500].encode() for i in range(0, len(large), 500)]
    connection.request("POST", "/v1/completions", iter(pieces), {"Content-Type": "application/json"})
    assert connection.getresponse().status == 413
    connection.close()


def test_forms_of_pages_and_unknown_paths_are_refused(server):
    body = json.dumps({"model": "base", "prompt": "x"})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert ask(server, "POST", "/v1/completions", body, Content_Type=kind).status == 415
    assert ask(server, "GET", "/v1/nothing").status == 404
    assert ask(server, "GET", "/v1/completions").status == 405
    assert ask(server, "GET", "/docs").status == 404
    assert "expected a path" in ask(server, "POST", "/v2/completions", "{}").error["message"]


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models"])
def test_head_has_what_get_has_but_the_body(server, path):
    whole, head = ask(server, "GET", path), ask(server, "HEAD", path)
    same = ("content-type", "content-length")
    assert head.status == 200 and head.text == ""
    assert [head.headers[name] for name in same] == [whole.headers[name] for name in same]


def test_pages_that_call_this_machine_by_their_own_name_get_nothing(server):
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""):
        assert ask(server, "GET", "/v1/models", Host=host).status == 403
    for host in ("localhost", f"127.0.0.1:{server.port}", "LOCALHOST:1"):
        assert ask(server, "GET", "/v1/models", Host=host).status == 200


def test_the_description_of_the_api_has_its_requests(server):
    description = json.loads(ask(server, "GET", "/openapi.json").text)
    for path in ("/v1/completions", "/v1/chat/completions", "/v1/load_lora_adapter"):
        schema = description["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert schema["additionalProperties"] is False
        assert "$ref" not in json.dumps(schema)
        assert path != "/v1/chat/completions" or "role" in schema["properties"]["messages"]["items"]["properties"]


# --- Figures and logs ---


def test_health_readiness_and_metrics(server, folder):
    assert ask(server, "GET", "/health").text == "ok" and ask(server, "GET", "/ready").text == "ready"
    save(folder / "measured", 11)
    load(server, "measured", "measured")
    complete(server, "measured", max_tokens=5)
    server.all_given_back()
    text = ask(server, "GET", "/metrics").text
    for line in (
        's0_completion_tokens_total{state="measured"} 5.0',
        f's0_prompt_tokens_total{{state="measured"}} {len(PROMPT)}.0',
        's0_requests_total{outcome="length",state="measured"} 1.0',
        's0_time_to_first_token_seconds_count{state="measured"} 1.0',
        f"s0_states_on_model {server.states.n_on_model}.0",
    ):
        assert line in text.splitlines()
    unload(server, "measured")
    assert "measured" not in ask(server, "GET", "/metrics").text


def lines_of(caplog: pytest.LogCaptureFixture, replies: Sequence[Reply]) -> list[dict[str, Any]]:
    """What the log says of these requests; a line may come a little after its response."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        own = [record for record in caplog.records if record.name == "s0.serve"]
        lines = {line["request_id"]: line for line in (json.loads(JsonLines().format(record)) for record in own)}
        if all(reply.headers["x-request-id"] in lines for reply in replies):
            return [lines[reply.headers["x-request-id"]] for reply in replies]
        time.sleep(0.002)
    raise AssertionError("a request is not in the log")


def test_every_request_is_a_line_of_json_with_its_id(server, caplog):
    with caplog.at_level(logging.INFO):
        replies = [
            complete(server, max_tokens=3, user="me", stream=False),
            ask(server, "GET", "/v1/models/nothing", X_Request_Id="mine-1"),
            complete(server, "none", stream=True),
            ask(server, "GET", "/health", X_Request_Id="a b\tc"),
        ]
        lines = lines_of(caplog, replies)
    assert [line["status"] for line in lines] == [200, 404, 404, 200]
    assert {line["message"] for line in lines} == {"request"}
    assert lines[1]["request_id"] == "mine-1" and lines[3]["request_id"] != "a b\tc"
    assert "'nothing'" in lines[1]["error"] and "error" not in lines[0]
    assert lines[0]["model"] == "base" and lines[0]["completion_tokens"] == 3 and lines[0]["user"] == "me"
    assert json.loads(replies[0].text)["id"] == f"cmpl-{lines[0]['request_id']}"
    assert all({"time", "level", "method", "path", "seconds"} <= set(line) for line in lines)


def test_what_fails_in_a_stream_that_has_begun_is_told_by_the_log(caplog):
    with caplog.at_level(logging.INFO), serving(*tiny(), running={"timeout_s": 0.5}) as server:
        reply = complete(server, max_tokens=4000, stream=True)
        whole, missing = complete(server, max_tokens=3), complete(server, "none")
        lines = lines_of(caplog, [reply, whole, missing])
    assert lines[0]["status"] == 200 and lines[0]["code"] == "timeout" and "0.5 seconds" in lines[0]["error"]
    assert lines[0]["completion_tokens"] > 0
    assert [line["level"] for line in lines] == ["warning", "info", "info"]


def test_a_fault_of_ours_tells_the_client_where_to_look_and_nothing_else(server, monkeypatch, caplog):
    def fail(*args: Any) -> Any:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(server.service, "_encoded", fail)
    reply = complete(server)
    assert reply.status == 500 and "secret" not in reply.text and reply.headers["x-request-id"] in reply.text
    assert "a secret" in caplog.text


# --- Keys ---


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# of the team\n{KEY}\n\nanother-key-of-the-tests\n")
    return path


def test_other_addresses_than_loopback_need_keys(tmp_path, key_file):
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org"):
        with pytest.raises(ConfigError, match="expected API keys"):
            access_for(host, None, allow_everybody=False)
        assert access_for(host, key_file, allow_everybody=False).keys
        assert access_for(host, None, allow_everybody=True) == Access()
    for host in ("127.0.0.1", "::1", "localhost", "127.0.0.5"):
        assert access_for(host, None, allow_everybody=False).hosts
    for text in ("", "# nothing\n", "short\n"):
        key_file.write_text(text)
        with pytest.raises(ConfigError, match="16 characters"):
            access_for("0.0.0.0", key_file, allow_everybody=False)
    for data in ("schlüssel-der-tests-lang".encode(), b"\xff\xfe another-key-of-the-tests"):
        key_file.write_bytes(data)
        with pytest.raises(ConfigError, match="ASCII"):
            access_for("0.0.0.0", key_file, allow_everybody=False)
    key_file.write_text(KEY, encoding="utf-8-sig")  # as some editors write it
    assert access_for("0.0.0.0", key_file, allow_everybody=False) == Access((hashlib.sha256(KEY.encode()).digest(),))


def test_with_keys_nothing_but_health_and_the_empty_page_is_open(key_file):
    access = access_for("0.0.0.0", key_file, allow_everybody=False)
    with serving(*tiny(), access) as server:
        for path in ("/v1/models", "/metrics", "/openapi.json", "/v1/states", "/playground", "/nothing"):
            for header in ("", KEY, f"Bearer {KEY}x", "Bearer", "Bearer ", f"Basic {KEY}", "Bearer é"):
                reply = ask(server, "GET", path, **({"Authorization": header} if header else {}))
                assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
        assert load(server, "x", "x").status == 401 and complete(server).status == 401
        assert ask(server, "GET", "/health").status == 200 and ask(server, "GET", "/ready").status == 200
        for key in (KEY, "another-key-of-the-tests"):
            assert ask(server, "GET", "/v1/models", Authorization=f"Bearer {key}").status == 200


# --- Load ---


def test_a_model_that_no_batch_can_be_made_of_is_refused_before_anybody_asks():
    model = zoo.make("minimax")
    with pytest.raises(UnsupportedModelError, match="DynamicCache"):
        Service(model, words.characters(), Registry(model, "base"))


def test_a_full_queue_says_when_to_come_again_and_empties():
    with serving(*tiny(), running={"max_rows": 2, "max_waiting": 2}, max_samples=2) as server:
        with ThreadPoolExecutor(12) as pool:
            replies = list(pool.map(lambda _: complete(server, max_tokens=100), range(12)))
        by_status = {status: [reply for reply in replies if reply.status == status] for status in (200, 429)}
        assert sum(map(len, by_status.values())) == 12 and by_status[200] and by_status[429]
        assert all(int(reply.headers["retry-after"]) > 0 for reply in by_status[429])
        assert {text_of(reply) for reply in by_status[200]} == {text_of(complete(server, max_tokens=100))}
        server.all_given_back()


def test_a_request_has_a_limit_of_time_streamed_or_not():
    with serving(*tiny(), running={"timeout_s": 0.6}) as server:
        whole = complete(server, max_tokens=4000)
        assert (whole.status, whole.error["code"]) == (504, "timeout") and whole.headers["x-should-retry"] == "false"
        *pieces, last = complete(server, max_tokens=4000, stream=True).text.strip().split("\n\n")
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout" and len(pieces) > 1
        server.all_given_back()


def test_a_server_that_ends_lets_the_running_end():
    with serving(*tiny()) as server:
        replies: list[Reply] = []
        asking = threading.Thread(target=lambda: replies.append(complete(server, max_tokens=300)))
        asking.start()
        while not server.service.runner._running:
            time.sleep(0.002)
        server.stop()
        asking.join()
        assert len(text_of(replies[0])) > 0
        assert not server.service.runner._thread.is_alive()


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_ends_tells_those_who_take_too_long(stream):
    with serving(*tiny(), grace_s=0.2) as server:
        replies: list[Reply] = []
        asking = threading.Thread(target=lambda: replies.append(complete(server, max_tokens=4000, stream=stream)))
        asking.start()
        while not server.service.runner._running:
            time.sleep(0.002)
        server.stop()
        asking.join()
    (reply,) = replies
    assert reply.status == (200 if stream else 503)
    last = reply.text.strip().split("\n\n")[-1].removeprefix("data: ")
    assert json.loads(last)["error"]["code"] == "stopping"


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_what_runs_at_once_and_tells_it(second):
    with serving(*tiny(), grace_s=600) as server:
        replies: list[Reply] = []
        asking = threading.Thread(target=lambda: replies.append(complete(server, max_tokens=4000)))
        asking.start()
        while not server.service.runner._running:
            time.sleep(0.002)
        for sent in (signal.SIGINT, second):
            server.uvicorn.handle_exit(sent, None)
        server.uvicorn._captured_signals.clear()  # which uvicorn would raise again, in whoever started it
        server.stop()
        asking.join()
    assert replies[0].error["code"] == "stopping"


def test_a_dropped_connection_in_the_middle_of_a_request_is_forgotten(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest("POST", "/v1/completions")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b'{"model":')
    connection.close()
    assert text_of(complete(server))
    server.all_given_back()
