"""Completions of many answers as one line of a record."""

from __future__ import annotations

import base64
import json
import lzma
from collections.abc import Sequence

from s0.errors import DatasetError

_MOST_BYTES = 256 << 20


def compressed(completions: Sequence[str]) -> str:
    """Completions as one line of a record: JSON, compressed by LZMA, in base64."""
    return base64.b64encode(lzma.compress(json.dumps(list(completions)).encode())).decode("ascii")


def decompressed(line: str) -> list[str]:
    """What `compressed` got.

    Raises:
        DatasetError: the line is none of its kind, or holds more than 256 MiB.
    """
    try:
        reader = lzma.LZMADecompressor()
        text = reader.decompress(base64.b64decode(line, validate=True), _MOST_BYTES)
    except (ValueError, lzma.LZMAError, EOFError) as error:
        raise _completions_error(str(error)) from error
    if not reader.eof:
        raise _completions_error("a part of them" if reader.needs_input else "more than anybody keeps")
    try:
        completions = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _completions_error(str(error)) from error
    if not isinstance(completions, list) or not all(isinstance(text, str) for text in completions):
        raise _completions_error("something else")
    return completions


def _completions_error(got: str) -> DatasetError:
    return DatasetError(f"expected the compressed completions of a record, got {got:.80}; make the record again")
