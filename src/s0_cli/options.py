"""The options of the commands, each said once; a command names those that it has."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

MODEL, TASK, SAMPLING, TRAINING = "Model", "Task", "Sampling", "Training"
CHOOSING, BASELINES, JUDGING, OUTPUT = "Choosing on select examples", "Baselines", "Judging", "Output"
ADDRESS, LIMITS, STUDY = "Address", "Limits", "Study"
_OF_WORK = (MODEL, TASK, STUDY, SAMPLING, TRAINING, CHOOSING, BASELINES, JUDGING, OUTPUT)
_PANELS = ("Arguments", *_OF_WORK, ADDRESS, LIMITS, "Options")


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


def option(*names: str, group: str, help: str = "", **bounds: Any) -> Any:
    """An option of typer's, in one of the groups of a help."""
    return typer.Option(*names, help=help, rich_help_panel=group, **bounds)


# --- The model ---

Model = Annotated[
    str,
    option(
        "--model",
        "-m",
        group=MODEL,
        help="Hugging Face id, local folder, or pocket:gdn, pocket:mamba2, pocket:transformer.",
    ),
]
Dtype = Annotated[
    str | None,
    option("--dtype", group=MODEL, help="float32, bfloat16 or float16; default: the checkpoint's."),
]
Device = Annotated[
    str | None,
    option("--device", group=MODEL, help="cpu, cuda, cuda:1, mps; default: the GPUs, where there are some."),
]
Kernels = Annotated[
    str | None,
    option(
        "--kernels",
        group=MODEL,
        help="torch: transformers' own functions run the recurrences, in PyTorch, slow and always right; default: the "
        "packages for it that are installed.",
    ),
]
Revision = Annotated[
    str | None, option("--revision", group=MODEL, help="Branch, tag or commit of a model from the hub.")
]
TrustRemoteCode = Annotated[
    bool,
    option("--trust-remote-code", group=MODEL, help="Run the Python code that comes with the model, unsandboxed."),
]
State = Annotated[
    str | None, option("--state", group=MODEL, help="Folder (or Hugging Face id) of a tuned state or baseline.")
]
States = Annotated[
    list[str] | None,
    option("--state", group=MODEL, help="Folder (or Hugging Face id) of a tuned state or baseline; may be repeated."),
]
OtherBase = Annotated[
    bool,
    option("--allow-other-base", group=MODEL, help="Accept a state tuned on other weights of the same shape."),
]
Chat = Annotated[
    bool,
    option(
        "--chat",
        group=MODEL,
        help="Ask through the chat template, as instruction-tuned models expect; default: continue the raw prompt.",
    ),
]


Prompts = Annotated[
    Path | None,
    option(
        "--prompts",
        group=MODEL,
        help='JSONL of more prompts, one a line: {"prompt": text or messages} or {"messages": [...]}.',
    ),
]

# --- The task ---

TaskName = Annotated[str, option("--task", "-t", group=TASK, help="A benchmark; `s0 eval --list` names them all.")]
TaskForScale = Annotated[str | None, option("--task", "-t", group=CHOOSING, help="Only for --alpha-by pass-rate.")]
ListTasks = Annotated[
    bool,
    option("--list", group=TASK, help="Name the tasks and where their problems come from, and do nothing else."),
]
Data = Annotated[
    Path | None,
    option("--data", group=TASK, help="A file (or folder) in the task's format; default: the task's own source."),
]
DataForScale = Annotated[
    Path | None, option("--data", group=CHOOSING, help="Of --task: a file (or folder) in its format.")
]
CollectedSplit = Annotated[
    str, option("--split", group=TASK, help="train, to learn from, or select, to choose settings on; never final.")
]
Split = Annotated[str, option("--split", group=TASK, help="train, select or final.")]
Limit = Annotated[
    int | None,
    option("--limit", group=TASK, min=1, help="Ask only the split's first so many problems."),
]

# --- Sampling ---

SamplesToCollect = Annotated[int, option("--samples", group=SAMPLING, min=1, help="At most this many per problem.")]
Samples = Annotated[
    int,
    option("--samples", group=SAMPLING, min=0, help="Also sample this many answers to each problem, for pass@k."),
]
Keep = Annotated[
    str,
    option("--keep", group=SAMPLING, help="Of those that pass: first (no more are drawn then), shortest, or all."),
]
Rounds = Annotated[int, option("--rounds", group=SAMPLING, min=1, help="Of collecting and training, at most.")]
KeptAnswers = Annotated[
    int, option("--keep", group=SAMPLING, min=1, help="Different answers of a problem to learn from, at most.")
]
SelectSamples = Annotated[
    int,
    option(
        "--select-samples", group=SAMPLING, min=1, help="Per select problem and round; --samples: per train problem."
    ),
]
Temperature = Annotated[float, option("--temperature", group=SAMPLING, min=0.01, help="Of what is sampled.")]
TopP = Annotated[float, option("--top-p", group=SAMPLING, min=0.01, max=1.0, help="Of what is sampled.")]
Seed = Annotated[int, option("--seed", group=SAMPLING, min=0, help="Of what is sampled.")]
NewTokens = Annotated[
    int | None, option("--max-new-tokens", group=SAMPLING, min=1, help="Default: the task's own limit.")
]
TemperatureOfTexts = Annotated[
    float,
    option("--temperature", group=SAMPLING, min=0.0, help="0 takes the likeliest token at every step."),
]
TextsOfPrompt = Annotated[
    int, option("--samples", "-n", group=SAMPLING, min=1, help="Texts for each prompt; with a --temperature.")
]
BatchRows = Annotated[
    int,
    option(
        "--batch-rows",
        group=SAMPLING,
        min=1,
        help="Texts written side by side; fewer take less memory. One may change with it where rounding decides "
        "between two tokens.",
    ),
]
TokensOfText = Annotated[int, option("--max-new-tokens", group=SAMPLING, min=1, help="Of a text.")]

# --- Training ---

Examples = Annotated[Path, option("--examples", group=TRAINING, help="JSONL of examples, see `s0 collect`.")]
Method = Annotated[
    str,
    option(
        "--method",
        group=TRAINING,
        help="s0 (the initial state), s0+gains (of norms, too), offset (read at every step), or a baseline: lora, "
        "prefix, gains, ia3; or full, all weights, in float32.",
    ),
]
Steps = Annotated[
    int | None,
    option(
        "--n-steps",
        group=TRAINING,
        min=1,
        help="Optimiser steps over all examples; default: 20; LoRA, prefix and IA3: 50.",
    ),
]
LearningRate = Annotated[
    float | None, option("--lr", group=TRAINING, help="Adam's learning rate; default: 1e-3, LoRA 5e-4, full 1e-4.")
]
Penalty = Annotated[
    float | None, option("--l2-lambda", group=TRAINING, help="Weight of the trained tensors' summed squares.")
]
StateRank = Annotated[
    int | None,
    option(
        "--state-rank",
        group=TRAINING,
        min=1,
        help="Rank of each head's matrix in a state or offset, after every step; default: any.",
    ),
]
Normalize = Annotated[bool, option("--normalize", group=TRAINING, help="Divide each state by its norm first.")]
ScaleInTraining = Annotated[bool, option("--scale-in-training", group=TRAINING, help="Train at the deployed scale.")]
MaxLength = Annotated[int | None, option("--max-length", group=TRAINING, min=2, help="Longest row, in tokens.")]
BatchTokens = Annotated[
    int | None,
    option(
        "--batch-tokens",
        group=TRAINING,
        min=1,
        help="Rows x longest row of a micro-batch at most; default: 1024. Less takes less memory, see `s0 inspect`.",
    ),
]
GradientCheckpointing = Annotated[
    bool,
    option(
        "--gradient-checkpointing",
        group=TRAINING,
        help="Compute layers again in the backward pass: less memory, more time.",
    ),
]
CheckpointEvery = Annotated[
    int, option("--checkpoint-every", group=TRAINING, min=1, help="Steps between checkpoints, beside --out.")
]

# --- Choosing on select examples ---

Select = Annotated[
    Path | None,
    option(
        "--select",
        group=CHOOSING,
        help="JSONL of examples to choose settings on (`s0 collect --split select`).",
    ),
]
Alpha = Annotated[
    str | None,
    option(
        "--alpha",
        group=CHOOSING,
        help="Scale a state is deployed at, or auto; default: auto with --select, else the recurrence's published one.",
    ),
]
AlphaBy = Annotated[
    str,
    option("--alpha-by", group=CHOOSING, help="loss on --select, or pass-rate on the select problems of --task."),
]
Auto = Annotated[
    bool,
    option("--auto", group=CHOOSING, help="Choose learning rate, steps and scale of a state on --select."),
]
Patience = Annotated[
    int | None,
    option(
        "--patience",
        group=CHOOSING,
        min=1,
        help="Stop when the loss on --select has not fallen for so long.",
    ),
]

# --- Baselines ---

Rank = Annotated[int | None, option("--rank", group=BASELINES, min=1, help="Of LoRA; default: 24.")]
LoraAlpha = Annotated[
    float | None,
    option("--lora-alpha", group=BASELINES, help="Of LoRA, whose update is that / rank; default: 2 x rank."),
]
Targets = Annotated[
    list[str] | None,
    option(
        "--targets",
        group=BASELINES,
        metavar="WHERE",
        help="Linear layers of LoRA: attention, recurrent, all-linear, or a name like q_proj; may be repeated. IA3: of "
        "its outputs.",
    ),
]
VirtualTokens = Annotated[
    int | None, option("--virtual-tokens", group=BASELINES, min=1, help="Of a prefix; default: 30.")
]
FirstWeightsSeed = Annotated[
    int | None, option("--seed", group=BASELINES, min=0, help="Of a baseline's first weights.")
]

# --- Judging ---

Timeout = Annotated[
    float | None,
    option(
        "--timeout-s",
        group=JUDGING,
        min=0.1,
        help="Seconds of processor time that a program may take for all its tests; default: 4. Where the reference "
        "solution is slow, four times what that takes.",
    ),
]
Unsafe = Annotated[
    bool,
    option(
        "--unsafe-no-sandbox",
        group=JUDGING,
        help="Run what the model writes WITHOUT a sandbox: it can read and change your files and use your network.",
    ),
]

# --- Output ---

Out = Annotated[Path, option("--out", group=OUTPUT, help="Folder to write.")]
DemoOut = Annotated[
    Path | None,
    option(
        "--out",
        group=OUTPUT,
        help="Folder for the results; default: in runs/, the newest unfinished one or a new one.",
    ),
]
ExamplesOut = Annotated[Path, option("--out", group=OUTPUT, help="JSONL file of examples to write.")]
AdapterOut = Annotated[Path, option("--out", group=OUTPUT, help="Folder for the result, a PEFT adapter.")]
RecordOut = Annotated[
    Path | None,
    option(
        "--out",
        group=OUTPUT,
        help="A folder for the record and a report; or NAME.json for the record, with the report in a folder NAME.",
    ),
]
ReportOut = Annotated[Path, option("--out", group=OUTPUT, help="Folder for report.html and its plots.")]
StudyReportOut = Annotated[
    Path | None,
    option("--out", group=OUTPUT, help="Folder for report.md and its figures, report.json; default: only show them."),
]
Layout = Annotated[str, option("--to", group=OUTPUT, help="published: the layout of s0-tuning 0.1.2.")]
New = Annotated[
    bool, option("--new", group=OUTPUT, help="Start over in a new folder in runs/, though one is unfinished.")
]
Overwrite = Annotated[
    bool,
    option(
        "--overwrite",
        group=OUTPUT,
        help="Replace what this command has written there before; never an input, or anything it has not written.",
    ),
]
Json = Annotated[bool, option("--json", group=OUTPUT, help="Print the result as JSON on stdout.")]


def parsed_alpha(text: str | None) -> float | str | None:
    """What was typed after --alpha: a number, or auto."""
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected a number or auto, got {text!r}", param_hint="--alpha") from None
