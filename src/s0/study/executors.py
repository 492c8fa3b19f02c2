"""Who does the units: processes of this machine, or jobs of SLURM. Units of one call depend on none of it."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
from transformers.utils.logging import disable_progress_bar

from s0.errors import ConfigError, ExecutorError
from s0.study.plan import AnyUnit
from s0.study.work import do

_LOOK_EVERY_S = 1.0


class Executor(Protocol):
    """Does units."""

    @property
    def at_once(self) -> int:
        """So many at a time."""

    def run(self, units: Sequence[AnyUnit], folder: Path) -> Iterator[str]:
        """Do all of them.

        Args:
            units: that need nothing but what is in the folder.
            folder: of all units, where their records go.

        Yields:
            the key of each as it comes to its end, or is with another process.

        Raises:
            ExecutorError: one cannot be done at all: a process was killed, a job was lost.
        """


class Processes:
    """Processes of one thread each, on this machine; within a context, the same ones for all calls."""

    def __init__(self, at_once: int = 1, unsafe: bool = False) -> None:
        """Start none yet.

        Args:
            at_once: how many.
            unsafe: judge programs without a sandbox.

        Raises:
            ConfigError: fewer than one.
        """
        if at_once < 1:
            raise ConfigError(f"expected `jobs` of at least 1, got {at_once}")
        self.at_once, self._unsafe = at_once, unsafe
        context = multiprocessing.get_context("spawn")
        self._pool = concurrent.futures.ProcessPoolExecutor(at_once, context, _begin_process, (os.getpid(),))

    def __enter__(self) -> Processes:
        self._of_others = {*multiprocessing.active_children()}
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._pool.shutdown()
            return
        processes = {*multiprocessing.active_children()} - self._of_others
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()  # what it does goes on where it was

    def run(self, units: Sequence[AnyUnit], folder: Path) -> Iterator[str]:
        """As of `Executor`."""
        running = {self._pool.submit(_work, *_call(unit, folder, self._unsafe)): unit.key for unit in units}
        try:
            for done in concurrent.futures.as_completed(running):
                done.result()
                yield running[done]
        except BrokenProcessPool as error:
            raise ExecutorError(
                "expected the processes of the study to live, got one that was killed, by the system where memory is "
                "short; run it again, with fewer `jobs`: what was done is kept"
            ) from error


@dataclass(frozen=True)
class Slurm:
    """Jobs of SLURM, one for each unit, by submitit.

    Attributes:
        parameters: of submitit's executor: slurm_partition, timeout_min, mem_gb, cpus_per_task and so on.
        at_once: jobs that run at a time, at most.
        cluster: "slurm", or "local" for processes of this machine in its place.
        unsafe: judge programs without a sandbox.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    at_once: int = 64
    cluster: str = "slurm"
    unsafe: bool = False

    def run(self, units: Sequence[AnyUnit], folder: Path) -> Iterator[str]:
        """As of `Executor`; logs are in the folder's `slurm`."""
        jobs = dict(zip((unit.key for unit in units), self._submitted(units, folder.resolve()), strict=True))
        while jobs:
            ended = [key for key, job in jobs.items() if job.done()]
            for key in ended:
                job = jobs.pop(key)
                if error := job.exception():
                    raise ExecutorError(
                        f"expected job {job.job_id} to do the unit {key}, got {error!s:.300}; look at "
                        f"{job.paths.stderr}, and run the study again: what was done is kept"
                    )
                yield key
            if not ended:
                time.sleep(_LOOK_EVERY_S)

    def _submitted(self, units: Sequence[AnyUnit], folder: Path) -> list[Any]:
        executor = _submitit().AutoExecutor(folder=folder / "slurm", cluster=self.cluster)
        executor.update_parameters(slurm_array_parallelism=self.at_once, **self.parameters)
        calls = [_call(unit, folder, self.unsafe) for unit in units]
        jobs: list[Any] = executor.map_array(_job, *zip(*calls, strict=True))
        return jobs


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise ImportError("s0-tuning needs submitit for SLURM; pip install 's0-tuning[slurm]'") from error
    return submitit


def _call(unit: AnyUnit, folder: Path, unsafe: bool) -> tuple[bytes, str, bool]:
    """The arguments of `do`."""
    return msgspec.json.encode(unit), str(folder), unsafe


def _work(config: bytes, folder: str, unsafe: bool) -> None:
    with suppress(BlockingIOError):  # another process is at it
        do(config, folder, unsafe)


def _job(config: bytes, folder: str, unsafe: bool) -> None:
    disable_progress_bar()  # type: ignore[no-untyped-call]
    _work(config, folder, unsafe)


def _begin_process(parent: int) -> None:
    """A process that outlived the one that started it would go on unseen, beside the one that starts next."""
    disable_progress_bar()  # type: ignore[no-untyped-call]
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGKILL)
