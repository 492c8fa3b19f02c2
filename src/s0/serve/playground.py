"""The page `/`, and what it asks beyond the API: facts of states, problems of tasks, verdicts on answers.

The page is three files, `page/`, without anything of this server's: they can be had without a key, and ask for it. All
that they show comes as JSON from here and from the API, and needs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from s0.errors import QueueFullError
from s0.serve.bodies import CLIENT_GONE, json_in, refuse, takes
from s0.serve.facts import FactsOfStates
from s0.serve.parameters import VerdictBody, parse
from s0.serve.refusals import RequestError
from s0.serve.registry import Registry
from s0.serve.service import Service
from s0.tasks import SPLITS, Problem, Task

MOST_VERDICTS = 16
"""At the same time: one is being reached, the others wait."""
_POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Playground:
    """The problems that the page offers, and their judge."""

    def __init__(self, tasks: Sequence[Task] = ()) -> None:
        """Offer tasks."""
        self._tasks = {task.name: task for task in tasks}
        self._problems = {task.name: {problem.id: problem for problem in task.problems} for task in tasks}
        self._judging = ThreadPoolExecutor(1, "s0-judging")
        self._n_verdicts = 0  # touched by the event loop alone

    def close(self) -> None:
        """End the judge after the verdict that it is reaching."""
        self._judging.shutdown(cancel_futures=True)

    def tasks(self) -> list[dict[str, Any]]:
        """What there is to choose from: ids of problems by split."""
        return [
            {
                "name": task.name,
                "version": task.version,
                "max_new_tokens": task.max_new_tokens,
                "stop": task.stop,
                "problems": {split: [problem.id for problem in task.split(split)] for split in SPLITS},
            }
            for task in self._tasks.values()
        ]

    def problem(self, task: str, problem: str) -> dict[str, Any]:
        """What a model is asked: a prompt to continue, or a request of a chat.

        Raises:
            RequestError: there is no such problem.
        """
        of_task, chosen = self._chosen(task, problem)
        return {
            "task": task,
            "id": chosen.id,
            "split": chosen.split,
            "prompt": chosen.prompt,
            "request": of_task.scorer.request(chosen),
        }

    async def verdict(self, asked: VerdictBody) -> dict[str, Any]:
        """Judge a whole answer by the standard scoring, one at a time, in the sandbox that the library uses.

        Raises:
            RequestError: there is no such problem.
            QueueFullError: no more may wait.
            SandboxError: no sandbox works on this machine, so that there is no verdict.
        """
        task, problem = self._chosen(asked.task, asked.problem)
        if self._n_verdicts >= MOST_VERDICTS:
            raise QueueFullError(f"expected at most {MOST_VERDICTS} verdicts at the same time; ask for it again later")
        self._n_verdicts += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._judging, _judged, task, problem, asked.completion)
        finally:
            self._n_verdicts -= 1

    def _chosen(self, task: str, problem: str) -> tuple[Task, Problem]:
        if task not in self._tasks:
            raise RequestError(
                f"expected one of the tasks {', '.join(self._tasks) or '(none)'}, got {task!r:.80}; GET /playground "
                "lists them",
                "task",
                status=404,
                code="task_not_found",
            )
        if problem not in self._problems[task]:
            raise RequestError(
                f"expected a problem of {task}, got {problem!r:.80}; GET /playground lists them",
                "problem",
                status=404,
                code="problem_not_found",
            )
        return self._tasks[task], self._problems[task][problem]


def _judged(task: Task, problem: Problem, completion: str) -> dict[str, Any]:
    (verdict,) = task.verdicts([(problem, completion)], jobs=1)
    return {
        "passed": verdict.passed,
        "judged": verdict.judged,
        "reason": verdict.reason,
        "format": task.format_of(problem, completion),
    }


def add_playground(app: FastAPI, service: Service, playground: Playground, *, needs_key: bool) -> None:
    """Add the page and its paths to an application."""
    _add_page(app, needs_key)
    _add_facts(app, service.states)
    _add_problems(app, service, playground)


def _add_page(app: FastAPI, needs_key: bool) -> None:
    folder = files("s0.serve").joinpath("page")

    def add(path: str, text: str, kind: str) -> None:
        @app.get(path, include_in_schema=False)
        async def file() -> Response:
            return Response(text, media_type=kind, headers=_POLICY)

    page = folder.joinpath("page.html").read_text(encoding="utf-8")
    add("/", page.replace("API_KEY", "needed" if needs_key else "none", 1), "text/html")
    for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript")):
        add(f"/page/{name}", folder.joinpath(name).read_text(encoding="utf-8"), kind)


def _add_facts(app: FastAPI, states: Registry) -> None:
    facts, reading = FactsOfStates(), asyncio.Lock()

    @app.get("/v1/states")
    async def all_states() -> Response:
        """Every state with its size, its scale, how it was trained, and what its record claims."""
        async with reading:
            listed = await asyncio.to_thread(states.listed)
            read = await asyncio.to_thread(facts.of, [state.folder for state in listed])
        data = [
            {
                "id": state.name,
                "object": "state",
                "pinned": state.is_pinned,
                "on_model": state.is_on_model,
                "loaded": state.is_loaded,
                **each,
            }
            for state, each in zip(listed, read, strict=True)
        ]
        return JSONResponse({"object": "list", "data": data})


def _add_problems(app: FastAPI, service: Service, playground: Playground) -> None:
    @app.get("/playground")
    async def settings() -> Response:
        """What the page has to know: the base model's name, limits, tasks with the ids of their problems."""
        return JSONResponse(
            {
                "base": service.states.base_name,
                "has_chat_template": service.tokenizer.chat_template is not None,
                "max_new_tokens": service.most_new_tokens,
                "tasks": playground.tasks(),
            }
        )

    @app.get("/playground/problem")
    async def problem(request: Request, task: str = "", id: str = "") -> Response:
        """One problem: what a model is asked."""
        try:
            return JSONResponse(playground.problem(task, id))
        except RequestError as error:
            return refuse(request, error)

    @app.post("/playground/verdict", openapi_extra=takes(VerdictBody))
    async def verdict(request: Request) -> Response:
        """Whether an answer solves its problem; one is judged at a time."""
        try:
            asked = parse(VerdictBody, await json_in(request, service.limits.max_body_bytes))
            request.state.logged.update(task=asked.task, problem=asked.problem)
            return JSONResponse(await playground.verdict(asked))
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        except Exception as error:
            return refuse(request, error)
