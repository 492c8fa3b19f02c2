"""`s0 serve`."""

from __future__ import annotations

from s0.errors import ConfigError
from s0.serve import server
from s0.serve.runner import RunnerLimits
from s0.serve.service import RequestLimits
from s0_cli.exits import interruptible
from s0_cli.groups import AddressOptions, LimitOptions, ModelOptions, ServedStates


def serve(
    model: ModelOptions,
    states: ServedStates,
    address: AddressOptions,
    limits: LimitOptions,
    tasks: tuple[str, ...],
) -> None:
    """`s0 serve`, until a signal ends it."""
    settings = server.ServerSettings(
        base_name=states.base_name,
        states=tuple(map(_named, states.named)),
        tasks=tuple(map(_with_data, tasks)) or server.SHIPPED_TASKS,
        pinned=frozenset(states.pinned),
        states_dirs=states.folders,
        max_states=states.max_states,
        host=address.host,
        port=address.port,
        api_key_file=address.api_key_file,
        no_api_keys=address.no_api_keys,
        grace_s=limits.grace_s,
        running=RunnerLimits(
            limits.max_rows, limits.max_batch_tokens, limits.max_waiting, limits.timeout_s, limits.prefix_mib << 20
        ),
        asking=RequestLimits(
            limits.max_body_bytes, limits.max_prompt_tokens, limits.max_new_tokens, limits.max_samples
        ),
    )
    with interruptible(lambda: "the server has ended, and every request was answered or told so"):
        server.serve(model.source, settings)


def _named(state: str) -> tuple[str, str]:
    name, separator, folder = state.partition("=")
    if not (separator and name and folder):
        raise ConfigError(f"expected `state=NAME=FOLDER`, got {state!r}; say by which name requests ask for it")
    return name, folder


def _with_data(task: str) -> tuple[str, str | None]:
    name, _, data = task.partition("=")
    return name, data or None
