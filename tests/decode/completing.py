"""Many prompts to many completions, by one batcher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from s0.decode import Batcher, Completion, Sampling
from s0.models import encode_prompt


def complete(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Any],
    sampling: Sampling,
    states: Sequence[str] | None = None,
    seeds: Sequence[int | str] | None = None,
) -> list[Completion]:
    """A completion of every prompt, in order; the seeds are their places where none are named."""
    batcher = Batcher(model, tokenizer, sampling.batch_rows)
    numbers = [
        batcher.submit(
            sampling.request(
                tuple(encode_prompt(tokenizer, prompt)),
                seed=seeds[i] if seeds else i,
                state=states[i] if states else None,
            )
        )
        for i, prompt in enumerate(prompts)
    ]
    completions = batcher.finish(lambda event: None)
    return [completions[number] for number in numbers]
