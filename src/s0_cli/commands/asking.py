"""Commands that ask a model, tuned or not: eval, generate."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from s0_cli import options
from s0_cli.exits import in_one_line
from s0_cli.groups import (
    AskingOptions,
    JudgingOptions,
    ModelOptions,
    OutOptions,
    PromptOptions,
    SamplingOptions,
    StateOptions,
    TaskOptions,
)
from s0_cli.lists import tasks
from s0_cli.results import put_result
from s0_cli.texts import piece_by_piece, put_texts


@in_one_line
def evaluate(
    model: options.Model = "",
    task: options.TaskName = "",
    list_tasks: options.ListTasks = False,
    dtype: options.Dtype = None,
    device: options.Device = None,
    kernels: options.Kernels = None,
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
        ModelOptions(
            model, dtype=dtype, device=device, kernels=kernels, revision=revision, trust_remote_code=trust_remote_code
        ),
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


@in_one_line
def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT", help="Texts to continue; - reads one from stdin.")
    ] = None,
    model: options.Model = "pocket:gdn",
    dtype: options.Dtype = None,
    device: options.Device = None,
    kernels: options.Kernels = None,
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
            ModelOptions(
                model,
                dtype=dtype,
                device=device,
                kernels=kernels,
                revision=revision,
                trust_remote_code=trust_remote_code,
            ),
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
