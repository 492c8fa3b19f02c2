"""Commands that look at a model or a state: inspect, verify, export."""

from __future__ import annotations

from typing import Annotated

import typer

from s0_cli import options
from s0_cli.exits import in_one_line
from s0_cli.groups import (
    ModelOptions,
    OutOptions,
)
from s0_cli.lists import families
from s0_cli.results import put_result


@in_one_line
def inspect(
    target: Annotated[str, typer.Argument(help="A model or the folder of a state.")] = "",
    list_families: Annotated[
        bool, typer.Option("--families", help="Tell which model families can be tuned, and do nothing else.")
    ] = False,
    dtype: options.Dtype = None,
    device: options.Device = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
) -> None:
    """Show a model's recurrent layers and what training needs of memory, or a state's layers, norms, scale and origin.

    Example: s0 inspect pocket:gdn
    """
    if list_families:
        put_result(families(), as_json)
        return
    if not target:
        raise typer.BadParameter("expected a model or the folder of a state, got neither", param_hint="TARGET")
    from s0_cli.work.inspect import inspect as run

    put_result(
        run(ModelOptions(target, dtype=dtype, device=device, revision=revision, trust_remote_code=trust_remote_code)),
        as_json,
    )


@in_one_line
def verify(
    model: Annotated[str, typer.Argument(help="Hugging Face id, local folder, or a pocket model.")],
    device: options.Device = None,
    kernels: options.Kernels = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
) -> None:
    """Check on a model everything this library promises: what holds, the error measured, the error allowed.

    Two random states are put on the model, in float32, and every way of running it is compared with a plain one.
    Exit status 1 where a check fails that the untouched model does not fail as well.

    Example: s0 verify pocket:gdn
    """
    from s0_cli.work.verify import verify as run

    result = run(
        ModelOptions(
            model,
            dtype="float32",
            device=device,
            kernels=kernels,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
    )
    put_result(result, as_json)
    if result["failed"]:
        raise typer.Exit(1)


@in_one_line
def export(
    state: Annotated[str, typer.Argument(help="Folder of a state.")],
    out: options.Out,
    to: options.Layout = "published",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Write a state in another layout.

    Example: s0 export state --out published
    """
    from s0_cli.work.export import export as run

    put_result(run(state, to, OutOptions(out, overwrite=overwrite)), as_json)
