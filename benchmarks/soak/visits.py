"""What clients do, each with its checks: they ask, leave, dawdle, make mistakes, bring states and take them away."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.soak.questions import Answer, Answers, Question
from benchmarks.soak.server import Server
from benchmarks.soak.wire import Connection, Reply, ask, events
from s0.files import write_files

CHANGING = ("changing a", "changing b")
"""The two states that one folder holds by turns."""
LOAD, UNLOAD, COMPLETE, CHAT = (
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/v1/completions",
    "/v1/chat/completions",
)
MISTAKES: tuple[tuple[str, Any, int], ...] = (
    (COMPLETE, b"", 400),
    (COMPLETE, b"{", 400),
    (COMPLETE, b"\xff\xfe\x00", 400),
    (COMPLETE, b"[" * 5000, 400),
    (COMPLETE, {"model": "steady"}, 400),
    (COMPLETE, {"model": "nobody", "prompt": "x"}, 404),
    (COMPLETE, {"model": "../steady", "prompt": "x", "stream": True}, 404),
    (COMPLETE, {"model": "extra/guest 0", "prompt": "x"}, 404),
    (COMPLETE, {"model": "lora", "prompt": "x"}, 503),
    (COMPLETE, {"model": "steady", "prompt": ""}, 400),
    (COMPLETE, {"model": "steady", "prompt": [[10**9]]}, 400),
    (COMPLETE, {"model": "steady", "prompt": "x " * 4000}, 400),
    (COMPLETE, {"model": "steady", "prompt": "x", "max_tokens": 10**9}, 400),
    (COMPLETE, {"model": "steady", "prompt": "x", "temperature": "hot"}, 400),
    (COMPLETE, {"model": "steady", "prompt": "x", "n": 2, "temperature": 0}, 400),
    (COMPLETE, {"model": "steady", "prompt": "x", "top_k": 5}, 400),
    (COMPLETE, {"model": "steady", "prompt": "x" * (1 << 17)}, 413),
    (CHAT, {"model": "steady", "messages": [{"role": "robot", "content": "x"}]}, 400),
    (CHAT, {"model": "steady", "messages": []}, 400),
    (LOAD, {"lora_name": "x", "lora_path": "../../etc"}, 400),
    (LOAD, {"lora_name": "x", "lora_path": "lora"}, 400),
    (LOAD, {"lora_name": "steady", "lora_path": "found-0"}, 400),
    (UNLOAD, {"lora_name": "nobody"}, 404),
    (UNLOAD, {"lora_name": "steady"}, 400),
    ("/v1/nothing", {}, 404),
)
"""Where, what, and the status that it has to end with."""


class WrongError(Exception):
    """The server has done what it must not do."""


@dataclass
class Tally:
    """What has happened so far."""

    visits: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)  # that were as they have to be, by state
    n_tokens: int = 0
    n_cut_by_a_kill: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scene:
    """What clients have to do with.

    Attributes:
        server: to be visited.
        base: the name of the untouched model.
        steady: names of states that are always there.
        guests: names of states that are loaded by the paths below, and unloaded.
        material: folders of states that come to the states' folder and leave it, by name.
        states_dir: the folder that states come to.
        questions, answers: what is asked, and what each state has to say; "base" stands for the untouched model.
    """

    server: Server
    base: str
    steady: Sequence[str]
    guests: Mapping[str, str]
    material: Mapping[str, Path]
    states_dir: Path
    questions: Sequence[Question]
    answers: Answers


class Visits:
    """All kinds of visits, each a coroutine that raises if something is wrong."""

    def __init__(self, scene: Scene, chance: random.Random, tally: Tally) -> None:
        self._scene, self._chance, self._tally = scene, chance, tally
        self._port = scene.server.port
        self._idle_guests, self._idle_material = [*scene.guests], [*scene.material]
        self._of_fingerprint: dict[str, str] = {}
        self.kinds: Mapping[str, tuple[Callable[[], Awaitable[None]], int]] = {
            "whole": (self.ask_whole, 30),
            "streamed": (self.ask_streamed, 30),
            "several on a connection": (self.ask_several, 8),
            "of a state that changes": (self.ask_the_changing, 8),
            "left while it came": (self.leave, 6),
            "left before it came": (self.leave_at_once, 6),
            "dropped within the request": (self.drop, 4),
            "read slowly": (self.read_slowly, 3),
            "not read at all": (self.do_not_read, 2),
            "mistaken": (self.make_a_mistake, 12),
            "loaded and unloaded": (self.bring_a_guest, 5),
            "put into the folder and taken": (self.put_into_the_folder, 5),
            "looked": (self.look, 4),
        }

    # --- Those who ask ---

    async def ask_whole(self) -> None:
        state, question = self._any()
        async with await Connection.to(self._port) as connection:
            await self._whole(connection, state, question)

    async def ask_several(self) -> None:
        async with await Connection.to(self._port) as connection:
            for _ in range(self._chance.randint(2, 5)):
                await self._whole(connection, *self._any())

    async def ask_streamed(self) -> None:
        await self._streamed(*self._any())

    async def ask_the_changing(self) -> None:
        question = self._question(*CHANGING)
        async with await Connection.to(self._port) as connection:
            reply = await self._answered(connection, question, "changing")
        if reply.status != 503:  # it was being written
            self._check_whole(reply, CHANGING, question)

    def _any(self) -> tuple[str, Question]:
        state = self._chance.choice(("base", *self._scene.steady))
        return state, self._question(state)

    def _question(self, *states: str) -> Question:
        """One that all of these have an answer to."""
        answers = self._scene.answers
        return self._chance.choice(
            [q for q in self._scene.questions if all((state, q.number) in answers for state in states)]
        )

    def _name(self, state: str) -> str:
        return self._scene.base if state == "base" else state

    async def _whole(self, connection: Connection, state: str, question: Question) -> None:
        self._check_whole(await self._answered(connection, question, self._name(state)), (state,), question)

    async def _answered(self, connection: Connection, question: Question, name: str) -> Reply:
        """The reply once there is room for the request."""
        while (reply := await connection.ask("POST", question.path, question.body(name))).status == 429:
            self._tally.statuses["429"] += 1
            await asyncio.sleep(self._chance.uniform(0.05, 0.3))
        self._tally.statuses[str(reply.status)] += 1
        return reply

    def _check_whole(self, reply: Reply, states: Sequence[str], question: Question) -> None:
        _require(
            reply.status == 200, f"{states} {question.number}: expected 200, got {reply.status}: {reply.text:.300}"
        )
        body = reply.json
        choices = sorted(body["choices"], key=lambda choice: choice["index"])
        texts = tuple(choice["message"]["content"] if question.is_chat else choice["text"] for choice in choices)
        reasons = tuple(choice["finish_reason"] for choice in choices)
        n_tokens = body["usage"]["completion_tokens"]
        self._check(states, question, Answer(texts, reasons, n_tokens), body["system_fingerprint"])

    async def _streamed(self, state: str, question: Question, *, is_slow: bool = False) -> None:
        body = {**question.body(self._name(state)), "stream": True, "stream_options": {"include_usage": True}}
        if is_slow and not question.is_chat:
            body["logprobs"] = 20  # more to read
        texts, reasons, n_tokens, fingerprint = [""] * question.n, [""] * question.n, 0, ""
        async with await Connection.to(self._port, is_slow=is_slow) as connection:
            while True:
                await connection.send("POST", question.path, body)
                status, parts = await connection.answer()
                if status != 429:
                    break
                self._tally.statuses["429"] += 1
                _ = [part async for part in parts]
                await asyncio.sleep(self._chance.uniform(0.05, 0.3))
            self._tally.statuses[str(status)] += 1
            _require(status == 200, f"{state} {question.number}: expected a stream, got {status}")
            async for event in events(parts, 0.05 if is_slow else 0.0):
                _require("error" not in event, f"{state} {question.number}: got {event}")
                fingerprint = event["system_fingerprint"]
                n_tokens = (event.get("usage") or {}).get("completion_tokens", n_tokens)
                for choice in event["choices"]:
                    piece = choice["delta"].get("content") if question.is_chat else choice["text"]
                    texts[choice["index"]] += piece or ""
                    reasons[choice["index"]] = choice["finish_reason"] or ""
        self._check((state,), question, Answer(tuple(texts), tuple(reasons), n_tokens), fingerprint)

    def _check(self, states: Sequence[str], question: Question, answer: Answer, fingerprint: str) -> None:
        """That an answer is that of one of these states, alone, and comes under this state's fingerprint alone."""
        by_state = {state: self._scene.answers[state, question.number] for state in states}
        equal = [state for state, expected in by_state.items() if expected == answer]
        others = [key for key, expected in self._scene.answers.items() if expected.texts == answer.texts]
        _require(bool(equal), f"{question.number}: expected {by_state}, got {answer}, which is that of {others}")
        known = self._of_fingerprint.setdefault(fingerprint, equal[0])
        _require(known == equal[0], f"expected the fingerprint {fingerprint} for {known}, got it for {equal[0]}")
        self._tally.answers[equal[0]] += 1
        self._tally.n_tokens += answer.n_tokens

    # --- Those who do not stay ---

    async def leave(self) -> None:
        state, question = self._any()
        async with await Connection.to(self._port) as connection:
            await connection.send("POST", question.path, {**question.body(self._name(state)), "stream": True})
            _, parts = await connection.answer()
            with suppress(StopAsyncIteration):
                for _ in range(self._chance.randint(1, 4)):
                    await anext(parts)

    async def leave_at_once(self) -> None:
        state, question = self._any()
        is_streamed = self._chance.random() < 0.5
        async with await Connection.to(self._port) as connection:
            await connection.send("POST", question.path, {**question.body(self._name(state)), "stream": is_streamed})
            await asyncio.sleep(self._chance.uniform(0, 0.1))

    async def drop(self) -> None:
        state, question = self._any()
        async with await Connection.to(self._port) as connection:
            share = self._chance.uniform(0.05, 0.95)
            await connection.send("POST", question.path, question.body(self._name(state)), share=share)
            await asyncio.sleep(self._chance.uniform(0, 0.1))

    async def read_slowly(self) -> None:
        await self._streamed(*self._any(), is_slow=True)

    async def do_not_read(self) -> None:
        state, _ = self._any()
        body = {"model": self._name(state), "prompt": "def f(", "max_tokens": 200, "n": 4, "temperature": 2}
        async with await Connection.to(self._port, is_slow=True) as connection:
            await connection.send("POST", COMPLETE, {**body, "stream": True, "logprobs": 20})
            await asyncio.sleep(self._chance.uniform(1, 4))

    async def make_a_mistake(self) -> None:
        path, body, expected = self._chance.choice(MISTAKES)
        reply = await ask(self._port, "POST", path, body)
        self._tally.statuses[str(reply.status)] += 1
        shown = f"{path} {body!r:.80}: expected {expected}"
        _require(reply.status == expected, f"{shown}, got {reply.status}: {reply.text:.300}")
        _require(set(reply.json["error"]) == {"message", "type", "param", "code"}, f"{shown}, got {reply.text:.300}")

    # --- Those who bring states ---

    async def bring_a_guest(self) -> None:
        if not self._idle_guests:
            return
        name = self._idle_guests.pop()
        try:
            loading = {"lora_name": name, "lora_path": self._scene.guests[name]}
            await self._expect(404, COMPLETE, {"model": name, "prompt": "x"})
            await self._expect(200, LOAD, loading)
            await self._expect(400, LOAD, loading)
            await self._ask_for(name)
            await self._expect(200, UNLOAD, {"lora_name": name})
            await self._expect(404, COMPLETE, {"model": name, "prompt": "x"})
        finally:
            self._idle_guests.append(name)

    async def put_into_the_folder(self) -> None:
        if not self._idle_material:
            return
        name = self._idle_material.pop()
        there, new = self._scene.states_dir / name, self._scene.states_dir / f".{name}"
        try:
            await self._expect(404, COMPLETE, {"model": name, "prompt": "x"})
            shutil.copytree(self._scene.material[name], new)
            new.rename(there)
            listed = await ask(self._port, "GET", "/v1/models")
            _require(name in [model["id"] for model in listed.json["data"]], f"expected {name} to be listed")
            for _ in range(2):  # it is found again
                await self._ask_for(name)
                await self._expect(200, UNLOAD, {"lora_name": name})
            shutil.rmtree(there)
            await self._expect(404, COMPLETE, {"model": name, "prompt": "x"})
        finally:
            shutil.rmtree(there, ignore_errors=True)
            shutil.rmtree(new, ignore_errors=True)
            self._idle_material.append(name)

    async def _ask_for(self, name: str) -> None:
        for _ in range(self._chance.randint(1, 3)):
            question = self._question(name)
            async with await Connection.to(self._port) as connection:
                self._check_whole(await self._answered(connection, question, name), (name,), question)

    async def _expect(self, status: int, path: str, body: dict[str, Any]) -> None:
        reply = await ask(self._port, "POST", path, body)
        self._tally.statuses[str(reply.status)] += 1
        _require(reply.status == status, f"{path} {body}: expected {status}, got {reply.status}: {reply.text:.300}")

    async def look(self) -> None:
        for path in ("/health", "/ready", "/metrics", "/v1/models", "/openapi.json"):
            reply = await ask(self._port, "GET", path)
            self._tally.statuses[str(reply.status)] += 1
            _require(reply.status == 200, f"{path}: expected 200, got {reply.status}")


async def keep_changing(folder: Path, versions: Sequence[Path], every_s: float) -> None:
    """Write one state and then the other into a folder, as long as nobody stops it."""
    contents = [{path.name: path.read_bytes() for path in sorted(version.iterdir())} for version in versions]
    while True:
        for files in contents:
            await asyncio.to_thread(write_files, folder, files)
            await asyncio.sleep(every_s)


def _require(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise WrongError(otherwise)
