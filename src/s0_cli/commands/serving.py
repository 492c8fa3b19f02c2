"""Commands that serve tuned states: serve."""

from __future__ import annotations

from s0_cli import options
from s0_cli.exits import in_one_line
from s0_cli.groups import AddressOptions, LimitOptions, ModelOptions, ServedStates


@in_one_line
def serve(
    model: options.Model,
    state: options.NamedStates = None,
    states_dir: options.StatesDirs = None,
    pin: options.Pins = None,
    max_states: options.MaxStates = 64,
    task: options.PageTasks = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    kernels: options.Kernels = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    host: options.Host = "127.0.0.1",
    port: options.Port = 8000,
    api_key_file: options.KeyFile = None,
    no_api_keys: options.NoKeys = False,
    max_rows: options.MaxRows = 64,
    max_batch_tokens: options.MaxBatchTokens = None,
    prefix_mib: options.PrefixMib = 256,
    max_waiting: options.MaxWaiting = 256,
    timeout_s: options.RequestTimeout = 300.0,
    max_prompt_tokens: options.MaxPromptTokens = None,
    max_new_tokens: options.MaxNewTokens = 4096,
    max_samples: options.MaxSamples = 16,
    max_body_bytes: options.MaxBodyBytes = 1048576,
    grace_s: options.Grace = 30.0,
) -> None:
    """Serve one model with many tuned states behind the OpenAI API.

    The state is the `model` of a request, by its NAME; the untouched model goes by what --model says. Requests on
    different states run in one batch, each exactly as it would alone. Without --state and --states-dir, pocket:gdn and
    pocket:mamba2 come with a state of their own, `pocket-code`. The log, one JSON object a line, goes to stderr.
    Ctrl-C or SIGTERM ends the server once the requests that run have ended.

    The page at / asks the base and up to three states the same and shows their answers side by side: a prompt, or a
    problem of each --task NAME, or NAME=DATA; else of pocket-code, pocket-math and pocket-sql.

    Example: s0 serve --model pocket:gdn --state code=state
    """
    from s0_cli.work.serve import serve as run

    run(
        ModelOptions(
            model, dtype=dtype, device=device, kernels=kernels, revision=revision, trust_remote_code=trust_remote_code
        ),
        ServedStates(
            tuple(state or ()), pinned=tuple(pin or ()), folders=tuple(states_dir or ()), max_states=max_states
        ),
        AddressOptions(host, port, api_key_file=api_key_file, no_api_keys=no_api_keys),
        LimitOptions(
            max_rows=max_rows,
            max_batch_tokens=max_batch_tokens,
            prefix_mib=prefix_mib,
            max_waiting=max_waiting,
            timeout_s=timeout_s,
            max_prompt_tokens=max_prompt_tokens,
            max_new_tokens=max_new_tokens,
            max_samples=max_samples,
            max_body_bytes=max_body_bytes,
            grace_s=grace_s,
        ),
        tuple(task or ()),
    )
