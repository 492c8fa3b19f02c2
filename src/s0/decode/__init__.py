"""Completions: one request at a time joining and leaving a running batch, or many prompts in bulk."""

from s0.decode.batcher import Batcher
from s0.decode.generation import generate, generate_by_transformers, is_single, prompts_in, require_possible, seeds_of
from s0.decode.request import BATCH_ROWS, Prompt, Request, Sampling
from s0.decode.row import Completion, Event
from s0.decode.sampling import Logprobs

__all__ = [
    "BATCH_ROWS",
    "Batcher",
    "Completion",
    "Event",
    "Logprobs",
    "Prompt",
    "Request",
    "Sampling",
    "generate",
    "generate_by_transformers",
    "is_single",
    "prompts_in",
    "require_possible",
    "seeds_of",
]
