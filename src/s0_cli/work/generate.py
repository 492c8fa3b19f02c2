"""`s0 generate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from s0.decode import Prompt, Sampling, require_possible
from s0.decode import generate as continued
from s0.errors import ConfigError
from s0.examples import read_prompts
from s0.train import load_tuned
from s0_cli.groups import ModelOptions, PromptOptions, SamplingOptions, StateOptions


def generate(
    model: ModelOptions,
    states: StateOptions,
    prompts: PromptOptions,
    how: SamplingOptions,
    on_text: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """`s0 generate`; `on_text` is told the text as it comes where there is a single one."""
    asked = [*prompts.texts, *(read_prompts(prompts.file) if prompts.file else [])]
    if not asked or "" in asked:
        raise ConfigError(
            f"expected a prompt, got {'an empty one' if asked else 'none'}; put it in quotes, or - to read it from "
            "stdin, or name a file of prompts (--prompts)"
        )
    sampling = Sampling(how.max_new_tokens, how.temperature, how.top_p, seed=how.seed)
    require_possible(sampling, how.samples)
    loaded, tokenizer = model.source.load()
    tuned: Any = loaded
    for state in states.names:
        tuned = load_tuned(loaded, tokenizer, state, allow_other_base=states.allow_other_base).model
    is_single = len(asked) == how.samples == 1
    answers = continued(
        tuned,
        tokenizer,
        _as_turns(asked) if prompts.chat else asked,
        sampling,
        n=how.samples,
        on_text=on_text if is_single else None,
    )
    return {
        "kind": "generate",
        "model": model.name,
        "state": next(iter(states.names), None),
        "settings": {**vars(how), "chat": prompts.chat},
        "answers": [
            {
                "prompt": prompt,
                "texts": [
                    {
                        "text": completion.text,
                        "n_tokens": completion.n_tokens,
                        "ended": "length" if completion.truncated else "stop",
                    }
                    for completion in of_prompt
                ],
            }
            for prompt, of_prompt in zip(asked, answers, strict=True)
        ],
        "text": answers[0][0].text if is_single else None,
    }


def _as_turns(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Prompts as a user says them: texts as one message each, messages as they are."""
    return [[{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt for prompt in prompts]
