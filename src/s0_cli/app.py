"""Commands and their options. Nothing here imports torch before a command runs, so that help is instant."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from s0_cli import options
from s0_cli.env import env, print_version
from s0_cli.exits import EXIT_STATUS, in_one_line
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
from s0_cli.options import GroupedHelp, parsed_alpha
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
    model: options.Model = "pocket:gdn",
    dtype: options.Dtype = None,
    device: options.Device = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    task: options.TaskName = "pocket-code",
    data: options.Data = None,
    seed: options.Seed = 0,
    timeout_s: options.Timeout = None,
    unsafe_no_sandbox: options.Unsafe = False,
    out: options.DemoOut = None,
    new: options.New = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Collect, train and evaluate in one go, LoRA beside the state; under two minutes on a laptop.

    Writes the examples, what was trained, a record of every answer and a report.html to the folder --out. Interrupted
    or killed, the same command goes on where it stopped.

    Example: s0 demo --out runs/first
    """
    from s0_cli.work.demo import demo as run

    result = run(
        ModelOptions(model, dtype=dtype, device=device, revision=revision, trust_remote_code=trust_remote_code),
        TaskOptions(task, data=data),
        seed,
        OutOptions(out, overwrite=overwrite) if out else None,
        new,
        JudgingOptions(timeout_s=timeout_s, unsafe=unsafe_no_sandbox),
    )
    put_result(result, as_json)


@app.command(cls=GroupedHelp)
@in_one_line
def collect(
    model: options.Model,
    task: options.TaskName,
    out: options.ExamplesOut,
    dtype: options.Dtype = None,
    device: options.Device = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    state: options.State = None,
    allow_other_base: options.OtherBase = False,
    chat: options.Chat = False,
    data: options.Data = None,
    split: options.CollectedSplit = "train",
    limit: options.Limit = None,
    samples: options.SamplesToCollect = 16,
    keep: options.Keep = "first",
    temperature: options.Temperature = 0.7,
    top_p: options.TopP = 0.95,
    seed: options.Seed = 0,
    max_new_tokens: options.NewTokens = None,
    batch_rows: options.BatchRows = 64,
    timeout_s: options.Timeout = None,
    unsafe_no_sandbox: options.Unsafe = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Sample solutions from a model, run them in the sandbox, keep what passes.

    Every sample with its verdict stays in a .samples.jsonl beside --out. Interrupted or killed, the same command goes
    on where it stopped; with more --samples or another --keep it draws only what is missing.

    Example: s0 collect --model pocket:gdn --task pocket-code --samples 4 --out train.jsonl
    """
    from s0_cli.work.collect import collect as run

    result = run(
        ModelOptions(model, dtype=dtype, device=device, revision=revision, trust_remote_code=trust_remote_code),
        StateOptions(() if state is None else (state,), allow_other_base=allow_other_base),
        TaskOptions(task, data=data, split=split, limit=limit),
        CollectingOptions(
            chat=chat,
            max_new_tokens=max_new_tokens,
            batch_rows=batch_rows,
            samples=samples,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            keep=keep,
        ),
        OutOptions(out, overwrite=overwrite),
        JudgingOptions(timeout_s=timeout_s, unsafe=unsafe_no_sandbox),
    )
    put_result(result, as_json)


@app.command(cls=GroupedHelp)
@in_one_line
def train(
    model: options.Model,
    examples: options.Examples,
    out: options.AdapterOut,
    dtype: options.Dtype = None,
    device: options.Device = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    method: options.Method = "s0",
    n_steps: options.Steps = None,
    lr: options.LearningRate = None,
    l2_lambda: options.Penalty = None,
    normalize: options.Normalize = False,
    scale_in_training: options.ScaleInTraining = False,
    max_length: options.MaxLength = None,
    batch_tokens: options.BatchTokens = None,
    gradient_checkpointing: options.GradientCheckpointing = False,
    checkpoint_every: options.CheckpointEvery = 10,
    select: options.Select = None,
    alpha: options.Alpha = None,
    alpha_by: options.AlphaBy = "loss",
    auto: options.Auto = False,
    patience: options.Patience = None,
    task: options.TaskForScale = None,
    data: options.DataForScale = None,
    rank: options.Rank = None,
    lora_alpha: options.LoraAlpha = None,
    virtual_tokens: options.VirtualTokens = None,
    seed: options.FirstWeightsSeed = None,
    timeout_s: options.Timeout = None,
    unsafe_no_sandbox: options.Unsafe = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Learn from verified examples: an initial state, or a baseline to compare it with.

    Interrupted (Ctrl-C, SIGTERM, even a crash), it goes on where it stopped when called again with the same options.

    Example: s0 train --model pocket:gdn --examples train.jsonl --out state
    """
    from s0_cli.work.train import train as run

    settings: dict[str, Any] = dict(
        n_steps=n_steps,
        lr=lr,
        l2_lambda=l2_lambda,
        alpha=parsed_alpha(alpha),
        rank=rank,
        lora_alpha=lora_alpha,
        virtual_tokens=virtual_tokens,
        seed=seed,
        patience=patience,
        normalize=normalize or None,
        scale_in_training=scale_in_training or None,
        max_length=max_length,
        batch_tokens=batch_tokens,
        gradient_checkpointing=gradient_checkpointing or None,
    )
    result = run(
        ModelOptions(model, dtype=dtype, device=device, revision=revision, trust_remote_code=trust_remote_code),
        MethodOptions(method, settings),
        ExampleOptions(examples, select=select),
        ChoosingOptions(auto=auto, alpha_by=alpha_by, task=task, data=data),
        CheckpointedOut(out, overwrite=overwrite, checkpoint_every=checkpoint_every),
        JudgingOptions(timeout_s=timeout_s, unsafe=unsafe_no_sandbox),
    )
    put_result(result, as_json)


@app.command("eval", cls=GroupedHelp)
@in_one_line
def evaluate(
    model: options.Model = "",
    task: options.TaskName = "",
    list_tasks: options.ListTasks = False,
    dtype: options.Dtype = None,
    device: options.Device = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    state: options.States = None,
    allow_other_base: options.OtherBase = False,
    chat: options.Chat = False,
    data: options.Data = None,
    split: options.Split = "final",
    limit: options.Limit = None,
    samples: options.Samples = 0,
    temperature: options.Temperature = 0.7,
    top_p: options.TopP = 0.95,
    seed: options.Seed = 0,
    max_new_tokens: options.NewTokens = None,
    batch_rows: options.BatchRows = 64,
    timeout_s: options.Timeout = None,
    unsafe_no_sandbox: options.Unsafe = False,
    out: options.RecordOut = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
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
    from s0_cli.work.eval import evaluate as run

    result = run(
        ModelOptions(model, dtype=dtype, device=device, revision=revision, trust_remote_code=trust_remote_code),
        StateOptions(state or (), allow_other_base=allow_other_base),
        TaskOptions(task, data=data, split=split, limit=limit),
        AskingOptions(
            chat=chat,
            max_new_tokens=max_new_tokens,
            batch_rows=batch_rows,
            samples=samples,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        ),
        OutOptions(out, overwrite=overwrite) if out else None,
        JudgingOptions(timeout_s=timeout_s, unsafe=unsafe_no_sandbox),
    )
    put_result(result, as_json)


@app.command(cls=GroupedHelp)
@in_one_line
def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT", help="Texts to continue; - reads one from stdin.")
    ] = None,
    model: options.Model = "pocket:gdn",
    dtype: options.Dtype = None,
    device: options.Device = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    state: options.State = None,
    allow_other_base: options.OtherBase = False,
    chat: options.Chat = False,
    prompts_file: options.Prompts = None,
    max_new_tokens: options.TokensOfText = 512,
    temperature: options.TemperatureOfTexts = 0.0,
    top_p: options.TopP = 1.0,
    seed: options.Seed = 0,
    samples: options.TextsOfPrompt = 1,
    as_json: options.Json = False,
) -> None:
    """Continue prompts, with or without a tuned state; the texts go to stdout.

    A single text is printed as it comes where stdout is a terminal, several have a line above each. Without a
    --temperature the likeliest tokens are taken, whatever the model's generation config says.

    Example: s0 generate --state state "def add_two(n):"
    """
    from s0_cli.work.generate import generate as run

    texts = [sys.stdin.read().removeprefix("\ufeff") if prompt == "-" else prompt for prompt in prompts or ()]
    streamed = sys.stdout.isatty() and not as_json
    with piece_by_piece() as put_piece:
        result = run(
            ModelOptions(model, dtype=dtype, device=device, revision=revision, trust_remote_code=trust_remote_code),
            StateOptions(() if state is None else (state,), allow_other_base=allow_other_base),
            PromptOptions(texts, file=prompts_file, chat=chat),
            SamplingOptions(
                max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed, samples=samples
            ),
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
    dtype: options.Dtype = None,
    device: options.Device = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
) -> None:
    """Show a model's recurrent layers and what training needs of memory, or a state's layers, norms, scale and origin.

    Example: s0 inspect pocket:gdn
    """
    if list_families:
        put_result(families(), as_json)
        return
    if not target:
        raise typer.BadParameter("expected a model or the folder of a state, got neither", param_hint="TARGET")
    from s0_cli.work.inspect import inspect as run

    put_result(
        run(ModelOptions(target, dtype=dtype, device=device, revision=revision, trust_remote_code=trust_remote_code)),
        as_json,
    )


@app.command(cls=GroupedHelp)
@in_one_line
def verify(
    model: Annotated[str, typer.Argument(help="Hugging Face id, local folder, or a pocket model.")],
    device: options.Device = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
) -> None:
    """Check on a model everything this library promises: what holds, the error measured, the error allowed.

    Two random states are put on the model, in float32, and every way of running it is compared with a plain one.
    Exit status 1 where a check fails that the untouched model does not fail as well.

    Example: s0 verify pocket:gdn
    """
    from s0_cli.work.verify import verify as run

    result = run(
        ModelOptions(model, dtype="float32", device=device, revision=revision, trust_remote_code=trust_remote_code)
    )
    put_result(result, as_json)
    if result["failed"]:
        raise typer.Exit(1)


@app.command(cls=GroupedHelp)
@in_one_line
def export(
    state: Annotated[str, typer.Argument(help="Folder of a state.")],
    out: options.Out,
    to: options.Layout = "published",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Write a state in another layout.

    Example: s0 export state --out published
    """
    from s0_cli.work.export import export as run

    put_result(run(state, to, OutOptions(out, overwrite=overwrite)), as_json)


app.command(cls=GroupedHelp)(report)
app.command(cls=GroupedHelp)(env)
