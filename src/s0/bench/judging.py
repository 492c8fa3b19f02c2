"""Completions are judged in groups while others are still being written, so that no kill loses more than a group."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from typing import Any, TypeVar

from torch import nn

from s0.decode import Batcher, Completion
from s0.tasks.sandbox import Limits, Sandbox

Judged = TypeVar("Judged")

_JUDGED_AT_ONCE = 32  # completions: enough to keep the judge's processes busy


def judged_under(sandbox: Sandbox | None) -> dict[str, Any]:
    """What verdicts depend on of the machine: backend, None for that of the process-wide sandbox, and limits."""
    if sandbox is None:
        return {"backend": None, **asdict(Limits())}
    return {"backend": sandbox.backend, **asdict(sandbox.limits)}


def judged_as_written(
    model: nn.Module,
    batcher: Batcher,
    judge: Callable[[Sequence[tuple[int, Completion]]], Judged],
    on_written: Callable[[int], None] = lambda count: None,
) -> Generator[Judged, None, None]:
    """Let a batcher write all that it is asked for; verdicts are found while a model on a GPU goes on writing.

    Close it where it is not used to its end: verdicts may be on their way.

    Args:
        model: the batcher's.
        batcher: with requests; more may come whenever a group has been judged.
        judge: told the batcher's numbers of some requests, and their completions.
        on_written: told the number of completions that were just written.

    Yields:
        what `judge` makes of a group. Interrupted by Ctrl-C, the group that is with the judge comes before the
        interruption goes on.
    """
    # A model that computes on the processor's cores is slowed down by verdicts beside it more than they take.
    shares_cores = next(model.parameters()).device.type == "cpu"
    written: list[tuple[int, Completion]] = []  # not yet with the judge
    judging: Future[Judged] | None = None
    with ThreadPoolExecutor(1) as judges:
        try:
            while batcher.unfinished or written or judging:
                finished = [
                    (event.request, event.completion) for event in batcher.step() if event.completion is not None
                ]
                written += finished
                if finished:
                    on_written(len(finished))
                if not judging and (len(written) >= _JUDGED_AT_ONCE or (written and not batcher.unfinished)):
                    judging, written = judges.submit(judge, written), []
                if judging and (shares_cores or not batcher.unfinished):
                    wait([judging])
                if judging and judging.done():
                    judged, judging = judging.result(), None
                    yield judged
        except KeyboardInterrupt:  # SIGTERM as well, where a command makes it one
            if judging:
                yield judging.result()
            raise
