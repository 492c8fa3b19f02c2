"""Texts that a model has written, on stdout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from s0_cli.exits import put


@contextmanager
def piece_by_piece() -> Iterator[Callable[[str], None]]:
    """Prints a text as it comes; where it breaks off, its line ends, so that what is to say of that has its own."""
    last = ""

    def put_piece(piece: str) -> None:
        nonlocal last
        last = piece  # before: Ctrl-C may come as soon as the piece is there
        put(piece, end="")

    try:
        yield put_piece
    except BaseException:  # Ctrl-C above all
        if last and not last.endswith("\n"):
            put("")
        raise


def put_texts(result: Mapping[str, Any], streamed: bool) -> None:
    """Print the texts of `s0 generate`: a single one alone, several with a line above each.

    Args:
        result: of the command.
        streamed: a single text is there already, but for the end of its line.
    """
    answers = result["answers"]
    n_prompts, n_texts = len(answers), result["settings"]["samples"]
    if n_prompts == n_texts == 1:
        put("" if streamed else result["text"])
        return
    for i, answer in enumerate(answers, start=1):
        for k, text in enumerate(answer["texts"], start=1):
            which = f"prompt {i} of {n_prompts}" + (f", text {k} of {n_texts}" if n_texts > 1 else "")
            cut = f", cut at {text['n_tokens']} tokens" if text["ended"] == "length" else ""
            put(f"=== {which}{cut}: {_beginning(answer['prompt'])} ===\n{text['text']}\n")


def _beginning(prompt: str | list[Mapping[str, str]]) -> str:
    """The beginning of a prompt, or of its last message, in one line."""
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    return repr(text if len(text) <= 50 else f"{text[:47]}...")
