"""A server of many states under a mixed load for half an hour, every answer checked.

    python -m benchmarks.soak.run [--minutes 30] [--out benchmarks/results/soak.json]

`s0 serve` runs as a process of its own with more states than it has room for. Clients ask it in every way there is,
whole and streamed, leave in the middle, read slowly or not at all, send what is wrong, bring states and take them away;
one state's files keep changing. The server is killed (SIGKILL) under load twice and started again: after a twelfth of
the time, and at the end. What each state answers to each question was computed before, one prompt and one sample after
the other; no two states answer a question alike, so that an answer of another state's would be seen. Where rounding
might choose another token, which another batch brings with it, the question is not asked.

It has passed when every answer was the right one, every mistake was refused as it must be, memory after a sixth of the
time (five of thirty minutes) and at the end differs by less than 20 MiB, and nothing was left running. It takes two
minutes more than it is told, for the answers to be computed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from peft import LoraConfig, get_peft_model

from benchmarks.soak.questions import MODEL, Reference, kinds, questions_of_all_kinds
from benchmarks.soak.server import Begin, Server, begun
from benchmarks.soak.visits import CHANGING, Scene, Tally, Visits, WrongError, keep_changing
from s0 import load_model
from s0.bench import environment
from s0.record import write_record

OUT = Path(__file__).resolve().parents[1] / "results" / "soak.json"
MOST_GROWTH_MIB = 20.0
KILLED_AFTER, MEASURED_AFTER = 1 / 12, 1 / 6  # of the time
LIMITS = {
    "max-states": 4,
    "max-rows": 12,
    "max-waiting": 24,
    "prefix-mib": 16,
    "timeout-s": 60,
    "max-body-bytes": 65536,
}
_STUCK_S, _MOST_WRONG = 120.0, 20


@dataclass(frozen=True)
class Size:
    """How large a soak is.

    Attributes:
        seconds: under load.
        clients: at the same time.
        states: of each kind but those of --state: found in the folder, loaded as guests, put there and taken.
        questions: for each state.
    """

    seconds: float
    clients: int = 16
    states: int = 2
    questions: int = 24


def set_up(folder: Path, size: Size) -> tuple[Reference, dict[str, Path], Path]:
    """The model to be served, all states, and the folder of those that may be found or loaded."""
    reference, states_dir = Reference(folder), folder / "states"
    places = {"steady": folder / "steady", "second": folder / "second"}
    for i in range(size.states):
        places[f"found-{i}"] = states_dir / f"found-{i}"
        places[f"guest-{i}"] = states_dir / "extra" / f"guest-{i}"
        places[f"late-{i}"] = folder / f"late-{i}"
    places |= {name: folder / name.replace(" ", "-") for name in CHANGING}
    folders = {name: reference.write_state(place, seed) for seed, (name, place) in enumerate(places.items())}
    lora = get_peft_model(load_model(MODEL)[0], LoraConfig(target_modules=["o_proj"]))
    lora.save_pretrained(str(states_dir / "lora"))
    reference.write_state(states_dir / "changing", seed=len(folders))
    return reference, folders, states_dir


async def soak(size: Size, folder: Path, begin: Begin = begun) -> dict[str, Any]:
    """Run one.

    Args:
        size: of it.
        folder: an empty one, for states, model and log.
        begin: starts the command.

    Returns:
        the record.
    """
    began = time.monotonic()
    reference, folders, states_dir = set_up(folder, size)
    questions = questions_of_all_kinds(size.questions)
    answers = reference.answers(folders, questions)
    words = ["serve", "--model", reference.model_folder, "--dtype", "float32"]
    words += ["--states-dir", states_dir, "--pin", "steady"]
    words += [word for name in ("steady", "second") for word in ("--state", f"{name}={folders[name]}")]
    words += [word for name, value in LIMITS.items() for word in (f"--{name}", value)]
    server = Server([*map(str, words)], folder / "log", begin)
    steady = ["steady", "second", *(name for name in folders if name.startswith("found"))]
    guests = {name: f"extra/{name}" for name in folders if name.startswith("guest")}
    material = {name: place for name, place in folders.items() if name.startswith("late")}
    scene = Scene(server, str(reference.model_folder), steady, guests, material, states_dir, questions, answers)
    preparing_s, load = time.monotonic() - began, Load(scene, size, folders)
    await server.start()
    memory = await load.run()
    at_the_end = await load.end()
    tally = load.tally
    growth = memory["at the end"] - memory["after a sixth"]
    return {
        "benchmark": "soak",
        "environment": environment(),
        "model": MODEL,
        "minutes": size.seconds / 60,
        "clients": size.clients,
        "states": len(folders),
        "questions": {**kinds(questions), "answers": len(answers)},
        "limits": LIMITS,
        "seconds_of_preparing": round(preparing_s, 1),
        "visits": dict(tally.visits),
        "cut_by_a_kill": tally.n_cut_by_a_kill,
        "statuses": dict(sorted(tally.statuses.items())),
        "answers": {"all": tally.answers.total(), "by_state": dict(sorted(tally.answers.items()))},
        "tokens": tally.n_tokens,
        "kills": server.n_kills,
        "rss_mib": {name: round(mib, 1) for name, mib in {**memory, "growth": growth}.items()},
        "rss_curve": load.curve,
        "at_the_end": at_the_end,
        "wrong": tally.wrong,
        "passed": not tally.wrong and growth < MOST_GROWTH_MIB,
    }


class Load:
    """All clients at once, and what happens to the server meanwhile."""

    def __init__(self, scene: Scene, size: Size, folders: Mapping[str, Path]) -> None:
        self.tally = Tally()
        self.curve: list[tuple[float, float]] = []  # (minutes, MiB)
        self._scene, self._server, self._size = scene, scene.server, size
        self._changing = [folders[name] for name in CHANGING]
        self._chance = random.Random(0)
        self._visits = Visits(scene, self._chance, self.tally)
        self._is_over = asyncio.Event()  # by the clock, or for all that is wrong

    async def run(self) -> dict[str, float]:
        """The whole time; memory on the way."""
        changing = keep_changing(self._scene.states_dir / "changing", self._changing, every_s=1.0)
        beside = [asyncio.create_task(changing), asyncio.create_task(self._look_at_memory())]
        await asyncio.sleep(1.0)  # for the first of its versions to be there
        clients = [asyncio.create_task(self._visit()) for _ in range(self._size.clients)]
        seconds = self._size.seconds
        await self._go_on(seconds * KILLED_AFTER)
        await self._kill_and_start()
        await self._go_on(seconds * (MEASURED_AFTER - KILLED_AFTER))
        memory = {"after a sixth": self._server.rss_mib}
        await self._go_on(seconds * (1 - MEASURED_AFTER))
        memory["at the end"] = self._server.rss_mib
        await self._kill_and_start()
        await self._go_on(min(10.0, seconds / 10))
        self._is_over.set()
        await asyncio.gather(*clients)
        for task in beside:
            if task.done():
                task.result()  # what has ended it
            task.cancel()
        return memory

    async def end(self) -> dict[str, Any]:
        """What is left once nobody asks any more."""
        metrics = await self._server.idle()
        is_ready = (await self._server.ready()).status == 200
        status = await self._server.stop()
        errors = [line for line in self._server.log_lines() if line.get("level") == "error"]
        left = {"metrics": metrics, "ready": is_ready, "status": status, "errors_in_the_log": len(errors)}
        if any(metrics.values()) or not is_ready or status != 143:
            self.tally.wrong.append(f"expected nothing left at the end, got {left}")
        self.tally.wrong += [f"in the log: {error}"[:2000] for error in errors[:3]]
        return left

    async def _go_on(self, seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._is_over.wait(), seconds)

    async def _kill_and_start(self) -> None:
        await self._server.kill()
        await self._server.start()

    async def _look_at_memory(self) -> None:
        began = time.monotonic()
        while True:
            if self._server.is_up.is_set():
                minutes = round((time.monotonic() - began) / 60, 2)
                self.curve.append((minutes, round(self._server.rss_mib, 1)))
            await asyncio.sleep(max(2.0, self._size.seconds / 60))

    async def _visit(self) -> None:
        kinds, weights = [*self._visits.kinds], [weight for _, weight in self._visits.kinds.values()]
        while not self._is_over.is_set():
            await self._server.is_up.wait()
            (kind,) = self._chance.choices(kinds, weights)
            n_kills = self._server.n_kills
            try:
                await asyncio.wait_for(self._visits.kinds[kind][0](), _STUCK_S)
                self.tally.visits[kind] += 1
            except Exception as error:
                if self._server.n_kills != n_kills and not _is_of_a_wrong_text(error):
                    self.tally.n_cut_by_a_kill += 1
                else:
                    self.tally.wrong.append(f"{kind}: {type(error).__name__}: {error}"[:2000])
                    if len(self.tally.wrong) >= _MOST_WRONG:
                        self._is_over.set()


def _is_of_a_wrong_text(error: Exception) -> bool:
    """Whether no kill could have brought this about."""
    return isinstance(error, WrongError) and "which is that of" in str(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = asyncio.run(soak(Size(chosen.minutes * 60), Path(folder)))
    write_record(chosen.out, record)
    print(
        json.dumps({name: record[name] for name in ("answers", "rss_mib", "at_the_end", "wrong", "passed")}, indent=1)
    )
    raise SystemExit(0 if record["passed"] else 1)


if __name__ == "__main__":
    main()
