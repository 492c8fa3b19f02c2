"""Commands and their options. Nothing here imports torch before a command runs, so that help is instant."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from s0_cli import options as has
from s0_cli.ending import EXIT_STATUS, in_one_line
from s0_cli.env import env, print_version
from s0_cli.groups import (
    AskingOptions,
    CheckpointedOut,
    ChoosingOptions,
    CollectingOptions,
    ExampleOptions,
    JudgingOptions,
    MethodOptions,
    ModelOptions,
    OutOptions,
    PromptOptions,
    SamplingOptions,
    StateOptions,
    TaskOptions,
)
from s0_cli.lists import families, tasks
from s0_cli.options import GroupedHelp
from s0_cli.report import report
from s0_cli.results import put_result
from s0_cli.sandbox import sandbox
from s0_cli.texts import piece_by_piece, put_texts

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


@app.command(cls=GroupedHelp)
@in_one_line
def demo(
    model: has.Model = "pocket:gdn",
    dtype: has.Dtype = None,
    device: has.Device = None,
    revision: has.Revision = None,
    trust_remote_code: has.TrustRemoteCode = False,
    task: has.TaskName = "pocket-code",
    data: has.Data = None,
    seed: has.Seed = 0,
    timeout_s: has.Timeout = None,
    unsafe_no_sandbox: has.Unsafe = False,
    out: has.DemoOut = None,
    new: has.New = False,
    overwrite: has.Overwrite = False,
    as_json: has.Json = False,
) -> None:
    """Collect, train and evaluate in one go, LoRA beside the state; under two minutes on a laptop.

    Writes the examples, what was trained, a record of every answer and a report.html to the folder --out. Interrupted
    or killed, the same command goes on where it stopped.

    Example: s0 demo --out runs/first
    """
    from s0_cli.work.demo import demo as run

    put_result(
        run(
            ModelOptions(model, dtype, device, revision, trust_remote_code),
            TaskOptions(task, data),
            seed,
            OutOptions(out, overwrite) if out else None,
            new,
            JudgingOptions(timeout_s, unsafe_no_sandbox),
        ),
        as_json,
    )


@app.command(cls=GroupedHelp)
@in_one_line
def collect(
    model: has.Model,
    task: has.TaskName,
    out: has.ExamplesOut,
    dtype: has.Dtype = None,
    device: has.Device = None,
    revision: has.Revision = None,
    trust_remote_code: has.TrustRemoteCode = False,
    state: has.State = None,
    allow_other_base: has.OtherBase = False,
    chat: has.Chat = False,
    data: has.Data = None,
    split: has.CollectedSplit = "train",
    limit: has.Limit = None,
    samples: has.SamplesToCollect = 16,
    keep: has.Keep = "first",
    temperature: has.Temperature = 0.7,
    top_p: has.TopP = 0.95,
    seed: has.Seed = 0,
    max_new_tokens: has.NewTokens = None,
    batch_rows: has.BatchRows = 64,
    timeout_s: has.Timeout = None,
    unsafe_no_sandbox: has.Unsafe = False,
    overwrite: has.Overwrite = False,
    as_json: has.Json = False,
) -> None:
    """Sample solutions from a model, run them in the sandbox, keep what passes.

    Every sample with its verdict stays in a .samples.jsonl beside --out. Interrupted or killed, the same command goes
    on where it stopped; with more --samples or another --keep it draws only what is missing.

    Example: s0 collect --model pocket:gdn --task pocket-code --samples 4 --out train.jsonl
    """
    from s0_cli.work.collecting import collect as run

    put_result(
        run(
            ModelOptions(model, dtype, device, revision, trust_remote_code),
            StateOptions(() if state is None else (state,), allow_other_base),
            TaskOptions(task, data, split, limit),
            CollectingOptions(chat, max_new_tokens, batch_rows, samples, temperature, top_p, seed, keep),
            OutOptions(out, overwrite),
            JudgingOptions(timeout_s, unsafe_no_sandbox),
        ),
        as_json,
    )


@app.command(cls=GroupedHelp)
@in_one_line
def train(
    model: has.Model,
    examples: has.Examples,
    out: has.AdapterOut,
    dtype: has.Dtype = None,
    device: has.Device = None,
    revision: has.Revision = None,
    trust_remote_code: has.TrustRemoteCode = False,
    method: has.Method = "s0",
    n_steps: has.Steps = None,
    lr: has.LearningRate = None,
    l2_lambda: has.Penalty = None,
    normalize: has.Normalize = False,
    scale_in_training: has.ScaleInTraining = False,
    max_length: has.MaxLength = None,
    gradient_checkpointing: has.GradientCheckpointing = False,
    checkpoint_every: has.CheckpointEvery = 10,
    select: has.Select = None,
    alpha: has.Alpha = None,
    alpha_by: has.AlphaBy = "loss",
    auto: has.Auto = False,
    patience: has.Patience = None,
    task: has.TaskForScale = None,
    data: has.DataForScale = None,
    rank: has.Rank = None,
    lora_alpha: has.LoraAlpha = None,
    virtual_tokens: has.VirtualTokens = None,
    seed: has.FirstWeightsSeed = None,
    timeout_s: has.Timeout = None,
    unsafe_no_sandbox: has.Unsafe = False,
    overwrite: has.Overwrite = False,
    as_json: has.Json = False,
) -> None:
    """Learn from verified examples: an initial state, or a baseline to compare it with.

    Interrupted (Ctrl-C, SIGTERM, even a crash), it goes on where it stopped when called again with the same options.

    Example: s0 train --model pocket:gdn --examples train.jsonl --out state
    """
    from s0_cli.work.training import train as run

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
    put_result(
        run(
            ModelOptions(model, dtype, device, revision, trust_remote_code),
            MethodOptions(method, settings),
            ExampleOptions(examples, select),
            ChoosingOptions(auto, alpha_by, task, data),
            CheckpointedOut(out, overwrite, checkpoint_every),
            JudgingOptions(timeout_s, unsafe_no_sandbox),
        ),
        as_json,
    )


def _alpha(text: str | None) -> float | str | None:
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected a number or auto, got {text!r}", param_hint="--alpha") from None


@app.command("eval", cls=GroupedHelp)
@in_one_line
def evaluate(
    model: has.Model = "",
    task: has.TaskName = "",
    list_tasks: has.ListTasks = False,
    dtype: has.Dtype = None,
    device: has.Device = None,
    revision: has.Revision = None,
    trust_remote_code: has.TrustRemoteCode = False,
    state: has.States = None,
    allow_other_base: has.OtherBase = False,
    chat: has.Chat = False,
    data: has.Data = None,
    split: has.Split = "final",
    limit: has.Limit = None,
    samples: has.Samples = 0,
    temperature: has.Temperature = 0.7,
    top_p: has.TopP = 0.95,
    seed: has.Seed = 0,
    max_new_tokens: has.NewTokens = None,
    batch_rows: has.BatchRows = 64,
    timeout_s: has.Timeout = None,
    unsafe_no_sandbox: has.Unsafe = False,
    out: has.RecordOut = None,
    overwrite: has.Overwrite = False,
    as_json: has.Json = False,
) -> None:
    """Answer problems greedily, and by sampling where asked, and judge the answers by both scorings.

    With --state the untouched and the tuned model answer the same problems and are compared pair by pair. --out also
    writes a report to look at: rates with intervals, what flipped, where the numbers come from.

    With --out every answer is kept as it comes, in a file .answers.jsonl beside the record. Interrupted or killed, the
    same command goes on where it stopped; with --overwrite and another --state the untouched model is not asked again.

    Example: s0 eval --model pocket:gdn --state state --task pocket-code --limit 40 --out state-eval
    """
    if list_tasks:
        put_result(tasks(), as_json)
        return
    for name, value in (("--model", model), ("--task", task)):
        if not value:
            raise typer.BadParameter("expected one, got none", param_hint=name)
    from s0_cli.work.evaluating import evaluate as run

    put_result(
        run(
            ModelOptions(model, dtype, device, revision, trust_remote_code),
            StateOptions(state or (), allow_other_base),
            TaskOptions(task, data, split, limit),
            AskingOptions(chat, max_new_tokens, batch_rows, samples, temperature, top_p, seed),
            OutOptions(out, overwrite) if out else None,
            JudgingOptions(timeout_s, unsafe_no_sandbox),
        ),
        as_json,
    )


@app.command(cls=GroupedHelp)
@in_one_line
def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT", help="Texts to continue; - reads one from stdin.")
    ] = None,
    model: has.Model = "pocket:gdn",
    dtype: has.Dtype = None,
    device: has.Device = None,
    revision: has.Revision = None,
    trust_remote_code: has.TrustRemoteCode = False,
    state: has.State = None,
    allow_other_base: has.OtherBase = False,
    chat: has.Chat = False,
    prompts_file: has.Prompts = None,
    max_new_tokens: has.TokensOfText = 512,
    temperature: has.TemperatureOfTexts = 0.0,
    top_p: has.TopP = 1.0,
    seed: has.Seed = 0,
    samples: has.TextsOfPrompt = 1,
    as_json: has.Json = False,
) -> None:
    """Continue prompts, with or without a tuned state; the texts go to stdout.

    A single text is printed as it comes where stdout is a terminal, several have a line above each. Without a
    --temperature the likeliest tokens are taken, whatever the model's generation config says.

    Example: s0 generate --state state "def add_two(n):"
    """
    from s0_cli.work.generating import generate as run

    texts = [sys.stdin.read().removeprefix("\ufeff") if prompt == "-" else prompt for prompt in prompts or ()]
    streamed = sys.stdout.isatty() and not as_json
    with piece_by_piece() as put_piece:
        result = run(
            ModelOptions(model, dtype, device, revision, trust_remote_code),
            StateOptions(() if state is None else (state,), allow_other_base),
            PromptOptions(texts, prompts_file, chat),
            SamplingOptions(max_new_tokens, temperature, top_p, seed, samples),
            put_piece if streamed else None,
        )
    if as_json:
        put_result(result, as_json)
    else:
        put_texts(result, streamed)


@app.command(cls=GroupedHelp)
@in_one_line
def inspect(
    target: Annotated[str, typer.Argument(help="A model or the folder of a state.")] = "",
    list_families: Annotated[
        bool, typer.Option("--families", help="Tell which model families can be tuned, and do nothing else.")
    ] = False,
    dtype: has.Dtype = None,
    device: has.Device = None,
    revision: has.Revision = None,
    trust_remote_code: has.TrustRemoteCode = False,
    as_json: has.Json = False,
) -> None:
    """Show a model's recurrent layers, or a state's layers, norms, scale and origin.

    Example: s0 inspect pocket:gdn
    """
    if list_families:
        put_result(families(), as_json)
        return
    if not target:
        raise typer.BadParameter("expected a model or the folder of a state, got neither", param_hint="TARGET")
    from s0_cli.work.inspecting import inspect as run

    put_result(run(ModelOptions(target, dtype, device, revision, trust_remote_code)), as_json)


@app.command(cls=GroupedHelp)
@in_one_line
def verify(
    model: Annotated[str, typer.Argument(help="Hugging Face id, local folder, or a pocket model.")],
    device: has.Device = None,
    revision: has.Revision = None,
    trust_remote_code: has.TrustRemoteCode = False,
    as_json: has.Json = False,
) -> None:
    """Check on a model everything this library promises: what holds, the error measured, the error allowed.

    Two random states are put on the model, in float32, and every way of running it is compared with a plain one.
    Exit status 1 where a check fails that the untouched model does not fail as well.

    Example: s0 verify pocket:gdn
    """
    from s0_cli.work.verifying import verify as run

    result = run(ModelOptions(model, "float32", device, revision, trust_remote_code))
    put_result(result, as_json)
    if result["failed"]:
        raise typer.Exit(1)


@app.command(cls=GroupedHelp)
@in_one_line
def export(
    state: Annotated[str, typer.Argument(help="Folder of a state.")],
    out: has.Out,
    to: has.Layout = "published",
    overwrite: has.Overwrite = False,
    as_json: has.Json = False,
) -> None:
    """Write a state in another layout.

    Example: s0 export state --out published
    """
    from s0_cli.work.exporting import export as run

    put_result(run(state, to, OutOptions(out, overwrite)), as_json)


app.command(cls=GroupedHelp)(report)
app.command(cls=GroupedHelp)(env)
