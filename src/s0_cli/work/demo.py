"""`s0 demo`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from s0.errors import ConfigError
from s0.record import plain
from s0.study import DemoSettings, run_demo, unfinished_demos
from s0_cli.exits import interruptible, same_command
from s0_cli.groups import JudgingOptions, ModelOptions, OutOptions, TaskOptions
from s0_cli.outputs import demo_claimed
from s0_cli.work.problems import sandbox
from s0_cli.work.record_page import reported
from s0_cli.work.stages import say, stage

_RUNS = Path("runs")


def demo(
    model: ModelOptions, task: TaskOptions, seed: int, out: OutOptions | None, new: bool, judging: JudgingOptions
) -> dict[str, Any]:
    """`s0 demo`; without `out`, the newest one in runs/ that was not finished goes on, unless this is to be `new`."""
    if new and out:
        raise ConfigError("expected --new without --out, which names the folder, got both; leave one out")
    data = None if task.data is None else str(task.data)
    settings = DemoSettings(model=model.name, loading=model.source.loading, task=task.name, data=data, seed=seed)
    inputs = [model.name, task.data]

    def kept() -> str:
        named = () if out else ("--out", str(place))
        return f"what was done so far is kept in {place}; go on with: {same_command(*named, without='--new')}"

    with ExitStack() as stack:
        cells = stack.enter_context(sandbox(judging))
        overwrite = out is not None and out.overwrite
        if out is not None:
            place = stack.enter_context(demo_claimed(out.path, inputs, overwrite))
        else:
            begun = [] if new else unfinished_demos(settings, _RUNS, cells)
            place = stack.enter_context(_claimed_in_runs(begun, inputs))
        stack.enter_context(interruptible(kept))
        record = run_demo(settings, place, stage, cells, overwrite=overwrite)
        return {**plain(record), "out": str(place), "report": reported(record, place / "record.json", place)}


@contextmanager
def _claimed_in_runs(begun: Sequence[Path], inputs: Collection[str | Path | None]) -> Iterator[Path]:
    """The first of the folders `begun` that can be claimed, or a new one."""
    with ExitStack() as stack:
        for folder in begun:
            try:
                place = stack.enter_context(demo_claimed(folder, inputs, overwrite=False))
            except (BlockingIOError, ConfigError):  # somebody is at it, or has put something of his own there
                continue
            say(f"going on in {place}, which was not finished; --new starts over")
            yield place
            return
        new = _RUNS / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
        yield stack.enter_context(demo_claimed(new, inputs, overwrite=False))
