"""What a server tells Prometheus of itself."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """The figures of one server; states by their names."""

    def __init__(self) -> None:
        own = self._own = CollectorRegistry()
        self._queue = Gauge("s0_waiting_requests", "Requests that wait for a row.", registry=own)
        self._rows = Gauge("s0_running_requests", "Requests that run.", registry=own)
        self._states = Gauge("s0_states_on_model", "States in the model's memory.", registry=own)
        self._prefix_bytes = Gauge("s0_prefix_bytes", "Memory of the beginnings that are kept.", registry=own)
        self._reused = Counter("s0_prompt_tokens_reused", "Prompt tokens that were not read again.", registry=own)
        self._n_reused = 0
        self._ends = Counter(
            "s0_requests",
            "Completions that have ended, by how; a request may ask for several.",
            ["state", "outcome"],
            registry=own,
        )
        self._prompts = Counter("s0_prompt_tokens", "Prompt tokens read.", ["state"], registry=own)
        self._tokens = Counter("s0_completion_tokens", "Tokens written.", ["state"], registry=own)
        self._first = Histogram(
            "s0_time_to_first_token_seconds",
            "From a request's arrival to its first token.",
            ["state"],
            buckets=_SECONDS,
            registry=own,
        )

    def text(self) -> bytes:
        """All of them in Prometheus' format."""
        return generate_latest(self._own)

    def refused(self, state: str) -> None:
        """A request came while as many waited as may."""
        self._ends.labels(state, "refused").inc()

    def first_token(self, state: str, prompt_tokens: int, seconds: float) -> None:
        """A request's prompt was read."""
        self._prompts.labels(state).inc(prompt_tokens)
        self._first.labels(state).observe(seconds)

    def tokens(self, state: str, n: int) -> None:
        """A step has written so many."""
        self._tokens.labels(state).inc(n)

    def ended(self, state: str, outcome: str) -> None:
        """A request has ended: stop, length, cancelled, timeout or error."""
        self._ends.labels(state, outcome).inc()

    def forget(self, state: str) -> None:
        """A state was unloaded; what is asked of that name later counts from zero."""
        for metric in (self._ends, self._prompts, self._tokens, self._first):
            metric.remove_by_labels({"state": state})

    def prefixes(self, n_bytes: int, n_tokens_reused: int) -> None:
        """The beginnings of prompts that are kept, and what they have saved until now."""
        self._prefix_bytes.set(n_bytes)
        self._reused.inc(n_tokens_reused - self._n_reused)
        self._n_reused = n_tokens_reused

    def now(self, rows: int, waiting: int, states: int) -> None:
        """How much there is of what comes and goes."""
        self._rows.set(rows)
        self._queue.set(waiting)
        self._states.set(states)
