"""Completions: one request at a time joining and leaving a running batch, or many prompts in bulk."""

from s0.decode.batcher import Batcher, Completion, Event, Request
from s0.decode.complete import Sampling, complete

__all__ = ["Batcher", "Completion", "Event", "Request", "Sampling", "complete"]
