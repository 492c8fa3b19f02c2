"""Commands and their options. Nothing here imports torch before a command runs, so that help is instant."""

from __future__ import annotations

import json
import logging
import os
import sys
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from s0_cli.ending import EXIT_STATUS, in_one_line, put
from s0_cli.env import env, print_version
from s0_cli.report import report
from s0_cli.sandbox import sandbox

app = typer.Typer(
    name="s0",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="""Tune the initial recurrent state of hybrid language models.

    Start with `s0 demo`: it collects verified solutions from a small model that ships with the package, tunes its
    initial state on them, and tells on held-out problems whether that helped. `s0 collect`, `s0 train` and `s0 eval`
    are the same steps for any model.

    Human text goes to stderr, results to stdout. """
    + EXIT_STATUS,
)

app.add_typer(sandbox, name="sandbox")


@app.callback()
def _s0(
    version: Annotated[
        bool,
        typer.Option("--version", help="Tell which s0-tuning this is and exit.", callback=print_version, is_eager=True),
    ] = False,
) -> None:
    """Options before the command."""


Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="Hugging Face id, local folder, or pocket:gdn, pocket:mamba2, pocket:transformer."
    ),
]
TaskName = Annotated[str, typer.Option("--task", "-t", help="A benchmark; `s0 eval --list` names them all.")]
Data = Annotated[
    Path | None, typer.Option("--data", help="A file (or folder) in the task's format; default: the task's own source.")
]
State = Annotated[str | None, typer.Option("--state", help="Folder (or Hugging Face id) of a tuned state.")]
OtherBase = Annotated[
    bool, typer.Option("--allow-other-base", help="Accept a state tuned on other weights of the same shape.")
]
Chat = Annotated[
    bool,
    typer.Option(
        "--chat",
        help="Ask through the chat template, as instruction-tuned models expect; default: continue the raw prompt.",
    ),
]
Unsafe = Annotated[
    bool,
    typer.Option(
        "--unsafe-no-sandbox",
        help="Run what the model writes WITHOUT a sandbox: it can read and change your files and use your network.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout-s",
        min=0.1,
        help="Seconds of processor time that a program may take for all its tests; default: 4. Where the reference "
        "solution is slow, four times what that takes.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace what this command has written there before; never an input, or anything it has not written.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
NewTokens = Annotated[int | None, typer.Option("--max-new-tokens", min=1, help="Default: the task's own limit.")]


@app.command()
@in_one_line
def demo(
    model: Model = "pocket:gdn",
    task: TaskName = "pocket-code",
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for the results; default: in runs/, the newest unfinished one or a new one."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the sampling of examples.")] = 0,
    new: Annotated[
        bool, typer.Option("--new", help="Start over in a new folder in runs/, though one is unfinished.")
    ] = False,
    overwrite: Overwrite = False,
    timeout_s: Timeout = None,
    unsafe_no_sandbox: Unsafe = False,
    as_json: Json = False,
) -> None:
    """Collect, train and evaluate in one go, LoRA beside the state; under two minutes on a laptop.

    Writes the examples, what was trained, a record of every answer and a report.html to the folder --out. Interrupted
    or killed, the same command goes on where it stopped.
    """
    from s0_cli import work

    _print(work.demo(model, task, data, out, seed, new, overwrite, _judging(timeout_s, unsafe_no_sandbox)), as_json)


@app.command()
@in_one_line
def collect(
    model: Model,
    task: TaskName,
    out: Annotated[Path, typer.Option("--out", help="JSONL file of examples to write.")],
    data: Data = None,
    split: Annotated[
        str, typer.Option("--split", help="train, to learn from, or select, to choose settings on; never final.")
    ] = "train",
    samples: Annotated[int, typer.Option("--samples", min=1, help="At most this many per problem.")] = 16,
    keep: Annotated[
        str, typer.Option("--keep", help="Of those that pass: first (no more are drawn then), shortest, or all.")
    ] = "first",
    temperature: Annotated[float, typer.Option("--temperature", min=0.01)] = 0.7,
    top_p: Annotated[float, typer.Option("--top-p", min=0.01, max=1.0)] = 0.95,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    chat: Chat = False,
    max_new_tokens: NewTokens = None,
    overwrite: Overwrite = False,
    timeout_s: Timeout = None,
    unsafe_no_sandbox: Unsafe = False,
    as_json: Json = False,
) -> None:
    """Sample solutions from a model, run them in the sandbox, keep what passes.

    Every sample with its verdict stays in a .samples.jsonl beside --out. Interrupted or killed, the same command goes
    on where it stopped; with more --samples or another --keep it draws only what is missing.
    """
    from s0_cli import work

    settings = dict(
        samples=samples,
        keep=keep,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        chat=chat,
        max_new_tokens=max_new_tokens,
    )
    _print(
        work.collect(model, task, data, split, out, settings, overwrite, _judging(timeout_s, unsafe_no_sandbox)),
        as_json,
    )


@app.command()
@in_one_line
def train(
    model: Model,
    examples: Annotated[Path, typer.Option("--examples", help="JSONL of examples, see `s0 collect`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the result, a PEFT adapter.")],
    method: Annotated[
        str,
        typer.Option(
            "--method", help="s0 (the initial state), offset (read at every step), or a baseline: lora, prefix."
        ),
    ] = "s0",
    select: Annotated[
        Path | None,
        typer.Option("--select", help="JSONL of examples to choose settings on (`s0 collect --split select`)."),
    ] = None,
    n_steps: Annotated[
        int | None,
        typer.Option("--n-steps", min=1, help="Optimiser steps over all examples; default: 20, LoRA and prefix 50."),
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Adam's learning rate; default: 1e-3, LoRA 5e-4.")] = None,
    l2_lambda: Annotated[
        float | None, typer.Option("--l2-lambda", help="Weight of the trained tensors' summed squares.")
    ] = None,
    alpha: Annotated[
        str | None,
        typer.Option(
            "--alpha",
            help="Scale a state is deployed at, or auto; default: auto with --select, else the family's published one.",
        ),
    ] = None,
    alpha_by: Annotated[
        str, typer.Option("--alpha-by", help="loss on --select, or pass-rate on the select problems of --task.")
    ] = "loss",
    auto: Annotated[
        bool, typer.Option("--auto", help="Choose learning rate, steps and scale of a state on --select.")
    ] = False,
    task: Annotated[str | None, typer.Option("--task", "-t", help="Only for --alpha-by pass-rate.")] = None,
    data: Data = None,
    rank: Annotated[int | None, typer.Option("--rank", min=1, help="Of LoRA; default: 24.")] = None,
    lora_alpha: Annotated[
        float | None, typer.Option("--lora-alpha", help="Of LoRA, whose update is that / rank; default: 2 x rank.")
    ] = None,
    virtual_tokens: Annotated[
        int | None, typer.Option("--virtual-tokens", min=1, help="Of a prefix; default: 30.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of a baseline's first weights.")] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", min=1, help="Stop when the loss on --select has not fallen for so long.")
    ] = None,
    normalize: Annotated[bool, typer.Option("--normalize", help="Divide each state by its norm first.")] = False,
    scale_in_training: Annotated[
        bool, typer.Option("--scale-in-training", help="Train at the deployed scale.")
    ] = False,
    max_length: Annotated[int | None, typer.Option("--max-length", min=2, help="Longest row, in tokens.")] = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, a third more time.")
    ] = False,
    checkpoint_every: Annotated[
        int, typer.Option("--checkpoint-every", min=1, help="Steps between checkpoints, beside --out.")
    ] = 10,
    overwrite: Overwrite = False,
    timeout_s: Timeout = None,
    unsafe_no_sandbox: Unsafe = False,
    as_json: Json = False,
) -> None:
    """Learn from verified examples: an initial state, or a baseline to compare it with.

    Interrupted (Ctrl-C, SIGTERM, even a crash), it goes on where it stopped when called again with the same options.
    """
    from s0_cli import work

    settings: dict[str, Any] = dict(
        n_steps=n_steps,
        lr=lr,
        l2_lambda=l2_lambda,
        alpha=_alpha(alpha),
        rank=rank,
        lora_alpha=lora_alpha,
        virtual_tokens=virtual_tokens,
        seed=seed,
        patience=patience,
        normalize=normalize or None,
        scale_in_training=scale_in_training or None,
        max_length=max_length,
        gradient_checkpointing=gradient_checkpointing or None,
    )
    _print(
        work.train(
            model, method, examples, select, out, settings, auto, alpha_by, task, data, checkpoint_every,
            overwrite, _judging(timeout_s, unsafe_no_sandbox),
        ),
        as_json,
    )  # fmt: skip


def _judging(timeout_s: float | None, unsafe: bool) -> dict[str, Any]:
    """What the sandbox of a command is started with."""
    return dict(timeout_s=timeout_s, unsafe=unsafe)


def _alpha(text: str | None) -> float | str | None:
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected a number or auto, got {text!r}", param_hint="--alpha") from None


@app.command("eval")
@in_one_line
def evaluate(
    model: Model = "",
    task: TaskName = "",
    list_tasks: Annotated[
        bool, typer.Option("--list", help="Name the tasks and where their problems come from, and do nothing else.")
    ] = False,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="Folder (or Hugging Face id) of a tuned state or baseline; may be repeated."),
    ] = None,
    data: Data = None,
    split: Annotated[str, typer.Option("--split", help="train, select or final.")] = "final",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="A folder for the record and a report; or NAME.json for the record, with the report in a folder NAME.",
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=0, help="Also sample this many answers to each problem, for pass@k.")
    ] = 0,
    temperature: Annotated[float, typer.Option("--temperature", min=0.01, help="Of --samples.")] = 0.7,
    top_p: Annotated[float, typer.Option("--top-p", min=0.01, max=1.0, help="Of --samples.")] = 0.95,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of --samples.")] = 0,
    chat: Chat = False,
    max_new_tokens: NewTokens = None,
    allow_other_base: OtherBase = False,
    overwrite: Overwrite = False,
    timeout_s: Timeout = None,
    unsafe_no_sandbox: Unsafe = False,
    as_json: Json = False,
) -> None:
    """Answer problems greedily, and by sampling where asked, and judge the answers by both scorings.

    With --state the untouched and the tuned model answer the same problems and are compared pair by pair. --out also
    writes a report to look at: rates with intervals, what flipped, where the numbers come from.

    With --out every answer is kept as it comes, in a file .answers.jsonl beside the record. Interrupted or killed, the
    same command goes on where it stopped; with --overwrite and another --state the untouched model is not asked again.
    """
    if list_tasks:
        _print(_tasks(), as_json)
        return
    for name, given in (("--model", model), ("--task", task)):
        if not given:
            raise typer.BadParameter("expected one, got none", param_hint=name)
    from s0_cli import work

    sampling = dict(n=samples, temperature=temperature, top_p=top_p, seed=seed) if samples else None
    _print(
        work.evaluate(
            model, task, state or [], data, split, out, chat, max_new_tokens, sampling, allow_other_base,
            overwrite, _judging(timeout_s, unsafe_no_sandbox),
        ),
        as_json,
    )  # fmt: skip


def _import_parts_only() -> None:
    """From here on, modules of `s0` are imported beside an empty `s0`, whose own import takes long."""
    spec = find_spec("s0") if "s0" not in sys.modules else None
    if spec is not None:
        sys.modules["s0"] = ModuleType("s0")
        sys.modules["s0"].__path__ = list(spec.submodule_search_locations or ())


def _tasks() -> dict[str, Any]:
    """What `s0 eval --list` tells."""
    _import_parts_only()
    from s0.tasks import TASKS

    entries = [
        {"name": name, "what": entry.what, "version": entry.version, "source": entry.source}
        for name, entry in TASKS.items()
    ]
    return {"kind": "tasks", "tasks": entries}


@app.command()
@in_one_line
def generate(
    prompt: Annotated[str, typer.Argument(help="Text to continue; - reads it from stdin.")],
    model: Model = "pocket:gdn",
    state: State = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1)] = 512,
    chat: Chat = False,
    allow_other_base: OtherBase = False,
    as_json: Json = False,
) -> None:
    """Continue a prompt greedily, with or without a tuned state; the text goes to stdout."""
    from s0_cli import work

    text = sys.stdin.read().removeprefix("\ufeff") if prompt == "-" else prompt
    result = work.generate(model, text, state, max_new_tokens, chat, allow_other_base)
    if as_json:
        _print(result, as_json)
    else:
        put(result["text"])


@app.command()
@in_one_line
def inspect(
    target: Annotated[str, typer.Argument(help="A model or the folder of a state.")] = "",
    list_families: Annotated[
        bool, typer.Option("--families", help="Tell which model families can be tuned, and do nothing else.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a model's recurrent layers, or a state's layers, norms, scale and origin."""
    if list_families:
        _print(_families(), as_json)
        return
    if not target:
        raise typer.BadParameter("expected a model or the folder of a state, got neither", param_hint="TARGET")
    from s0_cli import work

    _print(work.inspect(target), as_json)


def _families() -> dict[str, Any]:
    """What `s0 inspect --families` tells."""
    _import_parts_only()
    from s0.core.families import REFUSED, family_facts

    refused = [{"family": name, "reason": reason} for name, reason in REFUSED.items()]
    return {"kind": "families", "families": family_facts(), "refused": refused}


@app.command()
@in_one_line
def verify(
    model: Annotated[str, typer.Argument(help="Hugging Face id, local folder, or a pocket model.")],
    as_json: Json = False,
) -> None:
    """Check on a model everything this library promises: what holds, the error measured, the error allowed.

    Two random states are put on the model, in float32, and every way of running it is compared with a plain one.
    Exit status 1 where a check fails that the untouched model does not fail as well.
    """
    from s0_cli import work

    result = work.verify(model)
    _print(result, as_json)
    if result["failed"]:
        raise typer.Exit(1)


@app.command()
@in_one_line
def export(
    state: Annotated[str, typer.Argument(help="Folder of a state.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    to: Annotated[str, typer.Option("--to", help="published: the layout of s0-tuning 0.1.2.")] = "published",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a state in another layout."""
    from s0_cli import work

    _print(work.export(state, to, out, overwrite), as_json)


app.command()(report)
app.command()(env)


def _print(result: dict[str, Any], as_json: bool) -> None:
    if os.environ.get("RANK", "0") != "0":
        return  # of several launched processes, the first one speaks
    if as_json:
        put(json.dumps(result, ensure_ascii=False))
        return
    from s0_cli.show import show

    show(result)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message of bitsandbytes' is more than what it says at every start without `kernels`, which is optional.

    PEFT imports it wherever it is installed; on processors with AVX512-BF16 (0.50).
    """
    return not record.getMessage().startswith("Failed to load CPU gemm_4bit_forward")


def main() -> None:
    """Run the command line."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_news)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for what a terminal has no letter for
    app()
