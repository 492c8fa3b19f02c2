"""The options of the commands, each said once; a command names those that it has."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

_MODEL, _TASK, _SAMPLING, _TRAINING = "Model", "Task", "Sampling", "Training"
_CHOOSING, _BASELINES, _JUDGING, _OUTPUT = "Choosing on select examples", "Baselines", "Judging", "Output"
_ADDRESS, _LIMITS = "Address", "Limits"
_OF_WORK = (_MODEL, _TASK, _SAMPLING, _TRAINING, _CHOOSING, _BASELINES, _JUDGING, _OUTPUT)
_PANELS = ("Arguments", *_OF_WORK, _ADDRESS, _LIMITS, "Options")


class GroupedHelp(TyperCommand):
    """A command whose help lists its options in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group, in the order of `_PANELS`."""
        shown = [parameter for parameter in self.get_params(ctx) if not getattr(parameter, "hidden", False)]
        shown.sort(key=lambda parameter: _PANELS.index(_panel(parameter)))
        for panel, parameters in groupby(shown, _panel):
            rows = [row for parameter in parameters if (row := parameter.get_help_record(ctx))]
            with formatter.section(panel):
                formatter.write_dl(rows)


def _panel(parameter: Any) -> str:
    kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
    return getattr(parameter, "rich_help_panel", None) or kind


def _option(*names: str, group: str, help: str = "", **bounds: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=group, **bounds)


# --- The model ---

Model = Annotated[
    str,
    _option(
        "--model",
        "-m",
        group=_MODEL,
        help="Hugging Face id, local folder, or pocket:gdn, pocket:mamba2, pocket:transformer.",
    ),
]
Dtype = Annotated[
    str | None,
    _option("--dtype", group=_MODEL, help="float32, bfloat16 or float16; default: the checkpoint's."),
]
Device = Annotated[
    str | None,
    _option("--device", group=_MODEL, help="cpu, cuda, cuda:1, mps; default: the GPUs, where there are some."),
]
Kernels = Annotated[
    str | None,
    _option(
        "--kernels",
        group=_MODEL,
        help="torch: transformers' own functions run the recurrences, in PyTorch, slow and always right; default: the "
        "packages for it that are installed.",
    ),
]
Revision = Annotated[
    str | None, _option("--revision", group=_MODEL, help="Branch, tag or commit of a model from the hub.")
]
TrustRemoteCode = Annotated[
    bool,
    _option("--trust-remote-code", group=_MODEL, help="Run the Python code that comes with the model, unsandboxed."),
]
State = Annotated[
    str | None, _option("--state", group=_MODEL, help="Folder (or Hugging Face id) of a tuned state or baseline.")
]
States = Annotated[
    list[str] | None,
    _option("--state", group=_MODEL, help="Folder (or Hugging Face id) of a tuned state or baseline; may be repeated."),
]
OtherBase = Annotated[
    bool,
    _option("--allow-other-base", group=_MODEL, help="Accept a state tuned on other weights of the same shape."),
]
Chat = Annotated[
    bool,
    _option(
        "--chat",
        group=_MODEL,
        help="Ask through the chat template, as instruction-tuned models expect; default: continue the raw prompt.",
    ),
]


Prompts = Annotated[
    Path | None,
    _option(
        "--prompts",
        group=_MODEL,
        help='JSONL of more prompts, one a line: {"prompt": text or messages} or {"messages": [...]}.',
    ),
]

# --- The task ---

TaskName = Annotated[str, _option("--task", "-t", group=_TASK, help="A benchmark; `s0 eval --list` names them all.")]
TaskForScale = Annotated[str | None, _option("--task", "-t", group=_CHOOSING, help="Only for --alpha-by pass-rate.")]
ListTasks = Annotated[
    bool,
    _option("--list", group=_TASK, help="Name the tasks and where their problems come from, and do nothing else."),
]
Data = Annotated[
    Path | None,
    _option("--data", group=_TASK, help="A file (or folder) in the task's format; default: the task's own source."),
]
DataForScale = Annotated[
    Path | None, _option("--data", group=_CHOOSING, help="Of --task: a file (or folder) in its format.")
]
CollectedSplit = Annotated[
    str, _option("--split", group=_TASK, help="train, to learn from, or select, to choose settings on; never final.")
]
Split = Annotated[str, _option("--split", group=_TASK, help="train, select or final.")]
Limit = Annotated[
    int | None,
    _option("--limit", group=_TASK, min=1, help="Ask only the split's first so many problems."),
]

# --- Sampling ---

SamplesToCollect = Annotated[int, _option("--samples", group=_SAMPLING, min=1, help="At most this many per problem.")]
Samples = Annotated[
    int,
    _option("--samples", group=_SAMPLING, min=0, help="Also sample this many answers to each problem, for pass@k."),
]
Keep = Annotated[
    str,
    _option("--keep", group=_SAMPLING, help="Of those that pass: first (no more are drawn then), shortest, or all."),
]
Temperature = Annotated[float, _option("--temperature", group=_SAMPLING, min=0.01, help="Of what is sampled.")]
TopP = Annotated[float, _option("--top-p", group=_SAMPLING, min=0.01, max=1.0, help="Of what is sampled.")]
Seed = Annotated[int, _option("--seed", group=_SAMPLING, min=0, help="Of what is sampled.")]
NewTokens = Annotated[
    int | None, _option("--max-new-tokens", group=_SAMPLING, min=1, help="Default: the task's own limit.")
]
TemperatureOfTexts = Annotated[
    float,
    _option("--temperature", group=_SAMPLING, min=0.0, help="0 takes the likeliest token at every step."),
]
TextsOfPrompt = Annotated[
    int, _option("--samples", "-n", group=_SAMPLING, min=1, help="Texts for each prompt; with a --temperature.")
]
BatchRows = Annotated[
    int,
    _option(
        "--batch-rows",
        group=_SAMPLING,
        min=1,
        help="Texts written side by side; fewer take less memory. One may change with it where rounding decides "
        "between two tokens.",
    ),
]
TokensOfText = Annotated[int, _option("--max-new-tokens", group=_SAMPLING, min=1, help="Of a text.")]

# --- Training ---

Examples = Annotated[Path, _option("--examples", group=_TRAINING, help="JSONL of examples, see `s0 collect`.")]
Method = Annotated[
    str,
    _option(
        "--method",
        group=_TRAINING,
        help="s0 (the initial state), offset (read at every step), or a baseline: lora, prefix.",
    ),
]
Steps = Annotated[
    int | None,
    _option(
        "--n-steps",
        group=_TRAINING,
        min=1,
        help="Optimiser steps over all examples; default: 20, LoRA and prefix 50.",
    ),
]
LearningRate = Annotated[
    float | None, _option("--lr", group=_TRAINING, help="Adam's learning rate; default: 1e-3, LoRA 5e-4.")
]
Penalty = Annotated[
    float | None, _option("--l2-lambda", group=_TRAINING, help="Weight of the trained tensors' summed squares.")
]
Normalize = Annotated[bool, _option("--normalize", group=_TRAINING, help="Divide each state by its norm first.")]
ScaleInTraining = Annotated[bool, _option("--scale-in-training", group=_TRAINING, help="Train at the deployed scale.")]
MaxLength = Annotated[int | None, _option("--max-length", group=_TRAINING, min=2, help="Longest row, in tokens.")]
BatchTokens = Annotated[
    int | None,
    _option(
        "--batch-tokens",
        group=_TRAINING,
        min=1,
        help="Rows x longest row of a micro-batch at most; default: 1024. Less takes less memory, see `s0 inspect`.",
    ),
]
GradientCheckpointing = Annotated[
    bool,
    _option(
        "--gradient-checkpointing",
        group=_TRAINING,
        help="Compute layers again in the backward pass: less memory, more time.",
    ),
]
CheckpointEvery = Annotated[
    int, _option("--checkpoint-every", group=_TRAINING, min=1, help="Steps between checkpoints, beside --out.")
]

# --- Choosing on select examples ---

Select = Annotated[
    Path | None,
    _option(
        "--select",
        group=_CHOOSING,
        help="JSONL of examples to choose settings on (`s0 collect --split select`).",
    ),
]
Alpha = Annotated[
    str | None,
    _option(
        "--alpha",
        group=_CHOOSING,
        help="Scale a state is deployed at, or auto; default: auto with --select, else the recurrence's published one.",
    ),
]
AlphaBy = Annotated[
    str,
    _option("--alpha-by", group=_CHOOSING, help="loss on --select, or pass-rate on the select problems of --task."),
]
Auto = Annotated[
    bool,
    _option("--auto", group=_CHOOSING, help="Choose learning rate, steps and scale of a state on --select."),
]
Patience = Annotated[
    int | None,
    _option(
        "--patience",
        group=_CHOOSING,
        min=1,
        help="Stop when the loss on --select has not fallen for so long.",
    ),
]

# --- Baselines ---

Rank = Annotated[int | None, _option("--rank", group=_BASELINES, min=1, help="Of LoRA; default: 24.")]
LoraAlpha = Annotated[
    float | None,
    _option("--lora-alpha", group=_BASELINES, help="Of LoRA, whose update is that / rank; default: 2 x rank."),
]
VirtualTokens = Annotated[
    int | None, _option("--virtual-tokens", group=_BASELINES, min=1, help="Of a prefix; default: 30.")
]
FirstWeightsSeed = Annotated[
    int | None, _option("--seed", group=_BASELINES, min=0, help="Of a baseline's first weights.")
]

# --- Judging ---

Timeout = Annotated[
    float | None,
    _option(
        "--timeout-s",
        group=_JUDGING,
        min=0.1,
        help="Seconds of processor time that a program may take for all its tests; default: 4. Where the reference "
        "solution is slow, four times what that takes.",
    ),
]
Unsafe = Annotated[
    bool,
    _option(
        "--unsafe-no-sandbox",
        group=_JUDGING,
        help="Run what the model writes WITHOUT a sandbox: it can read and change your files and use your network.",
    ),
]

# --- Serving ---

NamedStates = Annotated[
    list[str] | None,
    _option(
        "--state",
        group=_MODEL,
        metavar="NAME=STATE",
        help="A tuned state, by folder or Hugging Face id, and the name by which requests ask for it; may be repeated.",
    ),
]
PageTasks = Annotated[
    list[str] | None, _option("--task", group=_TASK, metavar="NAME[=DATA]", help="Of the page at /; may be repeated.")
]
StatesDirs = Annotated[
    list[Path] | None,
    _option(
        "--states-dir",
        group=_MODEL,
        metavar="DIR",
        help="Folder of states: each folder in it with a state answers by its name; may be repeated.",
    ),
]
Pins = Annotated[
    list[str] | None,
    _option("--pin", group=_MODEL, metavar="NAME", help="A --state that never leaves memory; may be repeated."),
]
MaxStates = Annotated[
    int,
    _option(
        "--max-states",
        group=_MODEL,
        min=1,
        help="States in memory; beyond it the least recently used one leaves, and comes back when asked for.",
    ),
]
Host = Annotated[str, _option("--host", group=_ADDRESS, help="Address to listen at; any but loopback needs API keys.")]
Port = Annotated[int, _option("--port", group=_ADDRESS, min=0, max=65535, help="0 takes one that is free.")]
KeyFile = Annotated[
    Path | None,
    _option("--api-key-file", group=_ADDRESS, help="API keys, one a line; a request has to bring one of them."),
]
NoKeys = Annotated[
    bool,
    _option(
        "--no-api-keys",
        group=_ADDRESS,
        help="Let everybody ask who can reach the address, and load and unload states.",
    ),
]
MaxRows = Annotated[int, _option("--max-rows", group=_LIMITS, min=1, help="Completions that run at the same time.")]
MaxBatchTokens = Annotated[
    int | None,
    _option(
        "--max-batch-tokens",
        group=_LIMITS,
        min=1,
        help="Completions that run x the longest of them, in tokens, with all it may write: bounds memory.",
    ),
]
PrefixMib = Annotated[
    int,
    _option(
        "--prefix-mib",
        group=_LIMITS,
        min=0,
        help="Memory for beginnings of prompts, of 512 tokens and more, that are not read again; 0 for none.",
    ),
]
MaxWaiting = Annotated[
    int, _option("--max-waiting", group=_LIMITS, min=0, help="Further ones that wait; beyond it requests get a 429.")
]
RequestTimeout = Annotated[
    float, _option("--timeout-s", group=_LIMITS, min=0.1, help="Seconds from a request's arrival to its last token.")
]
MaxPromptTokens = Annotated[
    int | None,
    _option("--max-prompt-tokens", group=_LIMITS, min=1, help="Of a prompt; default: what the model has room for."),
]
MaxNewTokens = Annotated[int, _option("--max-new-tokens", group=_LIMITS, min=1, help="Of a completion.")]
MaxSamples = Annotated[
    int, _option("--max-samples", group=_LIMITS, min=1, help="Completions of a request: its prompts times its n.")
]
MaxBodyBytes = Annotated[int, _option("--max-body-bytes", group=_LIMITS, min=1, help="Of a request.")]
Grace = Annotated[
    float,
    _option("--grace-s", group=_LIMITS, min=0.0, help="Seconds that running requests have when the server ends."),
]

# --- Output ---

Out = Annotated[Path, _option("--out", group=_OUTPUT, help="Folder to write.")]
DemoOut = Annotated[
    Path | None,
    _option(
        "--out",
        group=_OUTPUT,
        help="Folder for the results; default: in runs/, the newest unfinished one or a new one.",
    ),
]
ExamplesOut = Annotated[Path, _option("--out", group=_OUTPUT, help="JSONL file of examples to write.")]
AdapterOut = Annotated[Path, _option("--out", group=_OUTPUT, help="Folder for the result, a PEFT adapter.")]
RecordOut = Annotated[
    Path | None,
    _option(
        "--out",
        group=_OUTPUT,
        help="A folder for the record and a report; or NAME.json for the record, with the report in a folder NAME.",
    ),
]
ReportOut = Annotated[Path, _option("--out", group=_OUTPUT, help="Folder for report.html and its plots.")]
Layout = Annotated[str, _option("--to", group=_OUTPUT, help="published: the layout of s0-tuning 0.1.2.")]
New = Annotated[
    bool, _option("--new", group=_OUTPUT, help="Start over in a new folder in runs/, though one is unfinished.")
]
Overwrite = Annotated[
    bool,
    _option(
        "--overwrite",
        group=_OUTPUT,
        help="Replace what this command has written there before; never an input, or anything it has not written.",
    ),
]
Json = Annotated[bool, _option("--json", group=_OUTPUT, help="Print the result as JSON on stdout.")]


def parsed_alpha(text: str | None) -> float | str | None:
    """What was typed after --alpha: a number, or auto."""
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected a number or auto, got {text!r}", param_hint="--alpha") from None
