"""The options of `s0 serve` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from s0_cli.options import ADDRESS, LIMITS, MODEL, TASK, option

NamedStates = Annotated[
    list[str] | None,
    option(
        "--state",
        group=MODEL,
        metavar="NAME=STATE",
        help="A tuned state, by folder or Hugging Face id, and the name by which requests ask for it; may be repeated.",
    ),
]
PageTasks = Annotated[
    list[str] | None, option("--task", group=TASK, metavar="NAME[=DATA]", help="Of the page at /; may be repeated.")
]
StatesDirs = Annotated[
    list[Path] | None,
    option(
        "--states-dir",
        group=MODEL,
        metavar="DIR",
        help="Folder of states: each folder in it with a state answers by its name; may be repeated.",
    ),
]
Pins = Annotated[
    list[str] | None,
    option("--pin", group=MODEL, metavar="NAME", help="A --state that never leaves memory; may be repeated."),
]
ServedName = Annotated[
    str | None,
    option(
        "--served-model-name", group=MODEL, help="What requests call the untouched model; default: as --model has it."
    ),
]
MaxStates = Annotated[
    int,
    option(
        "--max-states",
        group=MODEL,
        min=1,
        help="States in memory; beyond it the least recently used one leaves, and comes back when asked for.",
    ),
]
Host = Annotated[str, option("--host", group=ADDRESS, help="Address to listen at; any but loopback needs API keys.")]
Port = Annotated[int, option("--port", group=ADDRESS, min=0, max=65535, help="0 takes one that is free.")]
KeyFile = Annotated[
    Path | None,
    option("--api-key-file", group=ADDRESS, help="API keys, one a line; a request has to bring one of them."),
]
NoKeys = Annotated[
    bool,
    option(
        "--no-api-keys",
        group=ADDRESS,
        help="Let everybody ask who can reach the address, and load and unload states.",
    ),
]
MaxRows = Annotated[int, option("--max-rows", group=LIMITS, min=1, help="Completions that run at the same time.")]
MaxBatchTokens = Annotated[
    int | None,
    option(
        "--max-batch-tokens",
        group=LIMITS,
        min=1,
        help="Completions that run x the longest of them, in tokens, with all it may write: bounds memory.",
    ),
]
PrefixMib = Annotated[
    int,
    option(
        "--prefix-mib",
        group=LIMITS,
        min=0,
        help="Memory for beginnings of prompts, of 512 tokens and more, that are not read again; 0 for none.",
    ),
]
MaxWaiting = Annotated[
    int, option("--max-waiting", group=LIMITS, min=0, help="Further ones that wait; beyond it requests get a 429.")
]
RequestTimeout = Annotated[
    float, option("--timeout-s", group=LIMITS, min=0.1, help="Seconds from a request's arrival to its last token.")
]
MaxPromptTokens = Annotated[
    int | None,
    option("--max-prompt-tokens", group=LIMITS, min=1, help="Of a prompt; default: what the model has room for."),
]
MaxNewTokens = Annotated[int, option("--max-new-tokens", group=LIMITS, min=1, help="Of a completion.")]
MaxSamples = Annotated[
    int, option("--max-samples", group=LIMITS, min=1, help="Completions of a request: its prompts times its n.")
]
MaxBodyBytes = Annotated[int, option("--max-body-bytes", group=LIMITS, min=1, help="Of a request.")]
Grace = Annotated[
    float,
    option("--grace-s", group=LIMITS, min=0.0, help="Seconds that running requests have when the server ends."),
]
