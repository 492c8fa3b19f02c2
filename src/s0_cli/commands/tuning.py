"""Commands that tune a model: demo, collect, train, improve."""

from __future__ import annotations

from typing import Any

from s0_cli import options
from s0_cli.exits import in_one_line
from s0_cli.groups import (
    CheckpointedOut,
    ChoosingOptions,
    CollectingOptions,
    ExampleOptions,
    JudgingOptions,
    MethodOptions,
    ModelOptions,
    OutOptions,
    RoundOptions,
    StateOptions,
    TaskOptions,
)
from s0_cli.options import parsed_alpha
from s0_cli.results import put_result


@in_one_line
def demo(
    model: options.Model = "pocket:gdn",
    dtype: options.Dtype = None,
    device: options.Device = None,
    kernels: options.Kernels = None,
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
        ModelOptions(
            model, dtype=dtype, device=device, kernels=kernels, revision=revision, trust_remote_code=trust_remote_code
        ),
        TaskOptions(task, data=data),
        seed,
        OutOptions(out, overwrite=overwrite) if out else None,
        new,
        JudgingOptions(timeout_s=timeout_s, unsafe=unsafe_no_sandbox),
    )
    put_result(result, as_json)


@in_one_line
def collect(
    model: options.Model,
    task: options.TaskName,
    out: options.ExamplesOut,
    dtype: options.Dtype = None,
    device: options.Device = None,
    kernels: options.Kernels = None,
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
        ModelOptions(
            model, dtype=dtype, device=device, kernels=kernels, revision=revision, trust_remote_code=trust_remote_code
        ),
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


@in_one_line
def train(
    model: options.Model,
    examples: options.Examples,
    out: options.AdapterOut,
    dtype: options.Dtype = None,
    device: options.Device = None,
    kernels: options.Kernels = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    method: options.Method = "s0",
    n_steps: options.Steps = None,
    lr: options.LearningRate = None,
    l2_lambda: options.Penalty = None,
    state_rank: options.StateRank = None,
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
    targets: options.Targets = None,
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
        state_rank=state_rank,
        alpha=parsed_alpha(alpha),
        rank=rank,
        lora_alpha=lora_alpha,
        targets=targets,
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
        ModelOptions(
            model, dtype=dtype, device=device, kernels=kernels, revision=revision, trust_remote_code=trust_remote_code
        ),
        MethodOptions(method, settings),
        ExampleOptions(examples, select=select),
        ChoosingOptions(auto=auto, alpha_by=alpha_by, task=task, data=data),
        CheckpointedOut(out, overwrite=overwrite, checkpoint_every=checkpoint_every),
        JudgingOptions(timeout_s=timeout_s, unsafe=unsafe_no_sandbox),
    )
    put_result(result, as_json)


@in_one_line
def improve(
    model: options.Model,
    task: options.TaskName,
    out: options.AdapterOut,
    dtype: options.Dtype = None,
    device: options.Device = None,
    kernels: options.Kernels = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    chat: options.Chat = False,
    data: options.Data = None,
    limit: options.Limit = None,
    rounds: options.Rounds = 3,
    keep: options.KeptAnswers = 4,
    samples: options.SamplesToCollect = 16,
    select_samples: options.SelectSamples = 4,
    temperature: options.Temperature = 0.7,
    top_p: options.TopP = 0.95,
    seed: options.Seed = 0,
    max_new_tokens: options.NewTokens = None,
    batch_rows: options.BatchRows = 64,
    method: options.Method = "s0",
    n_steps: options.Steps = None,
    lr: options.LearningRate = None,
    l2_lambda: options.Penalty = None,
    state_rank: options.StateRank = None,
    alpha: options.Alpha = None,
    patience: options.Patience = None,
    batch_tokens: options.BatchTokens = None,
    gradient_checkpointing: options.GradientCheckpointing = False,
    rank: options.Rank = None,
    lora_alpha: options.LoraAlpha = None,
    targets: options.Targets = None,
    timeout_s: options.Timeout = None,
    unsafe_no_sandbox: options.Unsafe = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Collect and train in rounds: each collects with what the last one has learned, and learns anew from all of it.

    The result is the round that solves most select problems; problems of the final split are never asked. Examples and
    what each round has learned stay in the folder OUT.rounds. Interrupted or killed, the same command goes on where it
    stopped; so does one with more --rounds.

    Example: s0 improve -m pocket:gdn -t pocket-code --lr 0.01 --out improved
    """
    from s0_cli.work.improve import improve as run

    settings: dict[str, Any] = dict(
        n_steps=n_steps,
        lr=lr,
        l2_lambda=l2_lambda,
        state_rank=state_rank,
        alpha=parsed_alpha(alpha),
        patience=patience,
        batch_tokens=batch_tokens,
        gradient_checkpointing=gradient_checkpointing or None,
        rank=rank,
        lora_alpha=lora_alpha,
        targets=targets,
    )
    result = run(
        ModelOptions(
            model, dtype=dtype, device=device, kernels=kernels, revision=revision, trust_remote_code=trust_remote_code
        ),
        TaskOptions(task, data=data, split="train", limit=limit),
        MethodOptions(method, settings),
        RoundOptions(
            chat=chat,
            max_new_tokens=max_new_tokens,
            batch_rows=batch_rows,
            samples=samples,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            rounds=rounds,
            keep=keep,
            select_samples=select_samples,
        ),
        OutOptions(out, overwrite=overwrite),
        JudgingOptions(timeout_s=timeout_s, unsafe=unsafe_no_sandbox),
    )
    put_result(result, as_json)
