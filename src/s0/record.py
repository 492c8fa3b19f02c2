"""Records of evaluations: the one rule for what a comparison shows, and how completions are kept in little room."""

from __future__ import annotations

import base64
import json
import lzma
from collections.abc import Mapping, Sequence
from typing import Any

from s0.errors import DatasetError

LEVEL = 0.05
_MOST_BYTES = 256 << 20
HELPED, HURT, UNCLEAR = "helped", "hurt", "no clear difference"


def effect(comparison: Mapping[str, Any]) -> str:
    """What the standard scoring shows of the second variant: "helped", "hurt" or "no clear difference".

    Clear is a difference whose 95% interval (Tango's) leaves out 0 and whose p-value (McNemar's), adjusted by Holm for
    all comparisons of the record, is at most 0.05. Records say it themselves; those written before they did are judged
    by the same rule.

    Args:
        comparison: of two variants, see `s0.bench.record.comparisons`.
    """
    if "effect" in comparison:
        return str(comparison["effect"])
    standard = comparison["standard"]
    if not standard["p_holm"] <= LEVEL:  # nor NaN
        return UNCLEAR
    return HELPED if standard["low"] > 0 else HURT if standard["high"] < 0 else UNCLEAR


def packed(completions: Sequence[str]) -> str:
    """Completions as one line of a record: JSON, compressed by LZMA, in base64."""
    return base64.b64encode(lzma.compress(json.dumps(list(completions)).encode())).decode("ascii")


def unpacked(line: str) -> list[str]:
    """What `packed` was given.

    Raises:
        DatasetError: the line is none of its kind, or holds more than 256 MiB.
    """
    try:
        reader = lzma.LZMADecompressor()
        text = reader.decompress(base64.b64decode(line, validate=True), _MOST_BYTES)
    except (ValueError, lzma.LZMAError, EOFError) as error:
        raise _no_completions(str(error)) from error
    if not reader.eof:
        raise _no_completions("a part of them" if reader.needs_input else "more than anybody keeps")
    try:
        completions = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_completions(str(error)) from error
    if not isinstance(completions, list) or not all(isinstance(text, str) for text in completions):
        raise _no_completions("something else")
    return completions


def _no_completions(got: str) -> DatasetError:
    return DatasetError(f"expected the packed completions of a record, got {got:.80}; make the record again")
