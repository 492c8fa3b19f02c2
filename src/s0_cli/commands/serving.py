"""Commands that serve tuned states: serve."""

from __future__ import annotations

from s0_cli import options, serving_options
from s0_cli.exits import in_one_line
from s0_cli.groups import AddressOptions, LimitOptions, ModelOptions, ServedStates


@in_one_line
def serve(
    model: options.Model,
    state: serving_options.NamedStates = None,
    states_dir: serving_options.StatesDirs = None,
    pin: serving_options.Pins = None,
    max_states: serving_options.MaxStates = 64,
    served_model_name: serving_options.ServedName = None,
    task: serving_options.PageTasks = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    kernels: options.Kernels = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    host: serving_options.Host = "127.0.0.1",
    port: serving_options.Port = 8000,
    api_key_file: serving_options.KeyFile = None,
    no_api_keys: serving_options.NoKeys = False,
    max_rows: serving_options.MaxRows = 64,
    max_batch_tokens: serving_options.MaxBatchTokens = None,
    prefix_mib: serving_options.PrefixMib = 256,
    max_waiting: serving_options.MaxWaiting = 256,
    timeout_s: serving_options.RequestTimeout = 300.0,
    max_prompt_tokens: serving_options.MaxPromptTokens = None,
    max_new_tokens: serving_options.MaxNewTokens = 4096,
    max_samples: serving_options.MaxSamples = 16,
    max_body_bytes: serving_options.MaxBodyBytes = 1048576,
    grace_s: serving_options.Grace = 30.0,
) -> None:
    """Serve one model with many tuned states behind the OpenAI API.

    The state is the `model` of a request, by its NAME; the untouched model goes by what --model says, or by
    --served-model-name. Requests on different states run in one batch, each exactly as it would alone. Without --state
    and --states-dir, pocket:gdn and pocket:mamba2 come with a state of their own, `pocket-code`. The log, one JSON
    object a line, goes to stderr. Ctrl-C or SIGTERM ends the server once the requests that run have ended; again, at
    once.

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
            tuple(state or ()),
            base_name=served_model_name,
            pinned=tuple(pin or ()),
            folders=tuple(states_dir or ()),
            max_states=max_states,
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
