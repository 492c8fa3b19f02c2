"""`s0 train`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from s0 import S0Trainer
from s0.bench import Questions, scale_by_pass_rate, tuned_facts
from s0.core.kernel_backends import TORCH, packages_of, versions_of
from s0.errors import ConfigError
from s0.examples import Example, read_examples
from s0.train import METHODS, make_trainer
from s0.train.distributed import is_first_process
from s0.train.methods import Settings
from s0_cli.exits import interruptible, s0_command, same_command
from s0_cli.groups import (
    CheckpointedOut,
    ChoosingOptions,
    ExampleOptions,
    JudgingOptions,
    MethodOptions,
    ModelOptions,
    TaskOptions,
)
from s0_cli.outputs import TRAINED, claimed, n_kept, require_answers_place, require_free_folder, require_name
from s0_cli.work.problems import load_problems, sandbox
from s0_cli.work.stages import after, stage


def train(
    model: ModelOptions,
    method: MethodOptions,
    examples: ExampleOptions,
    choosing: ChoosingOptions,
    out: CheckpointedOut,
    judging: JudgingOptions,
) -> dict[str, Any]:
    """`s0 train`."""
    _require_choices(method, examples, choosing)
    can_choose = examples.select is not None and not choosing.by_verdicts
    config, source = settings_of(method, can_choose=can_choose), model.source
    learned = read_examples(examples.train)
    select = None if examples.select is None else read_examples(examples.select)
    questions = Questions(*load_problems(choosing.problems)) if choosing.problems else None
    require_name(out.path)
    checkpoint, answers = (out.path.with_name(f"{out.path.name}.{what}") for what in ("checkpoint", "scale.jsonl"))

    def look() -> None:
        require_free_folder(out.path, TRAINED, out.overwrite)
        require_answers_place(answers)

    inputs: list[str | Path | None] = [model.name, examples.train, examples.select, choosing.data]
    with (
        claimed(out.path, inputs, look, beside=[checkpoint, answers]),
        interruptible(partial(_kept, checkpoint, answers)),
        sandbox(judging) if questions else nullcontext() as cells,
    ):
        if questions:
            questions = questions.judged_in(cells)
            questions.task.require_runnable(questions.problems)
        loaded, tokenizer = source.load()
        kernels = _kernels(loaded)
        first_stage = stage if kernels is None else after(kernels)
        trainer = make_trainer(loaded, tokenizer, config)
        keeping: dict[str, Any] = {"checkpoint": checkpoint, "checkpoint_every": out.checkpoint_every}
        if choosing.auto:
            assert isinstance(trainer, S0Trainer) and select is not None
            result = trainer.train_auto(learned, select, **keeping, stage=first_stage)
        else:
            result = trainer.train(learned, select=select, **keeping, stage=first_stage)
        if questions and isinstance(trainer, S0Trainer):
            kept_in = answers if is_first_process() else None
            choice = scale_by_pass_rate(trainer, questions, answers=kept_in, stage=stage)
            trainer.set_scale(choice.alpha, choice)
            account = trainer.training  # without the losses at the scale before
            result = {name: account[name] for name in result if name in account}
        trainer.save(out.path)
        if is_first_process():
            answers.unlink(missing_ok=True)  # as the checkpoint: the state that they were given for is on disk
    return {
        "kind": "train",
        "method": method.name,
        "examples": len(learned),
        **result,
        **tuned_facts(trainer),
        "out": str(out.path),
        "next": s0_command(*_after_training(model, out.path, learned, choosing.problems, judging)),
    }


def _kernels(model: nn.Module) -> str | None:
    """What runs the recurrences of a model, in a line; None where it has no kernels that others could run."""
    kernels: dict[str, list[str]] = {}
    for kernel, package in packages_of(model).items():
        kernels.setdefault(package, []).append(kernel.removeprefix("torch_"))  # its name in transformers
    own = kernels.pop(TORCH, [])
    parts = [f"{', '.join(names)} by {versions_of([package])}" for package, names in sorted(kernels.items())]
    if own:
        parts.append(f"{', '.join(own) if parts else 'all'} by transformers, in PyTorch")
    return "kernels: " + "; ".join(parts) if parts else None


def _kept(checkpoint: Path, answers: Path) -> str:
    """What an interrupted training has left, and how it goes on."""
    if not checkpoint.exists():
        return f"nothing was learned yet; start again with: {same_command()}"
    asked = f", and {n_kept(answers)} answers in {answers}" if answers.exists() else ""
    return f"what was learned so far is kept in {checkpoint}{asked}; go on with: {same_command()}"


def _require_choices(method: MethodOptions, examples: ExampleOptions, choosing: ChoosingOptions) -> None:
    """Refuse options that do not go together."""
    settings, alpha_by, auto = method.settings, choosing.alpha_by, choosing.auto
    has_select = examples.select is not None
    if alpha_by not in ("loss", "pass-rate"):
        raise ConfigError(f"expected --alpha-by loss or pass-rate, got {alpha_by!r}")
    for_verdicts = {"--task": choosing.task, "--data": choosing.data}
    needless = [option for option, value in for_verdicts.items() if value is not None]
    if needless and not choosing.by_verdicts:
        raise ConfigError(
            f"expected --alpha-by pass-rate with {' and '.join(needless)}, got --alpha-by {alpha_by}, which asks no "
            "problems; add it, or leave the others out"
        )
    has_scale = method.name in METHODS and METHODS[method.name].has_scale
    if choosing.by_verdicts and (choosing.task is None or not has_scale or auto):
        raise ConfigError(
            "expected --method s0, s0+gains or offset with --task, and no --auto, for --alpha-by pass-rate: it asks "
            "problems"
        )
    if auto and not (has_scale and has_select):
        raise ConfigError(
            "expected --method s0, s0+gains or offset, and --select, for --auto: candidates are compared on select "
            "examples"
        )
    fixed = [name for name in ("lr", "n_steps", "alpha") if auto and settings[name] not in (None, "auto")]
    if fixed:
        options = ", ".join("--" + name.replace("_", "-") for name in fixed)
        raise ConfigError(f"expected --auto to choose learning rate, steps and scale, got {options}; leave one out")
    if choosing.by_verdicts and settings["alpha"] is not None:
        raise ConfigError("expected no --alpha with --alpha-by pass-rate, which chooses it; leave one out")
    if auto and settings["patience"] is not None:
        raise ConfigError("expected no --patience with --auto, which chooses the number of steps; leave one out")
    needs_select = {"--patience": settings["patience"] is not None, "--alpha auto": settings["alpha"] == "auto"}
    for option, is_asked in needs_select.items():
        if is_asked and not has_select:
            raise ConfigError(f"expected --select with {option}; collect examples for it: s0 collect --split select")


def _after_training(
    model: ModelOptions,
    out: Path,
    learned: Sequence[Example],
    problems: TaskOptions | None,
    judging: JudgingOptions,
) -> list[str | Path]:
    """The command that tells whether a training helped; what was learned as messages is asked as such."""
    tasks = {str(example.provenance.get("task", "own")) for example in learned}
    asked = problems or TaskOptions(tasks.pop() if len(tasks) == 1 else "own")
    if asked.name == "own" and asked.data is None:
        asked = TaskOptions("own", data=Path("FILE"))
    learned_in_chat = all(isinstance(example.prompt, list) for example in learned)
    chat = ["--chat"] if learned_in_chat else []
    same_way = [*asked.as_typed(), *chat, *judging.as_typed()]
    return ["eval", *model.as_typed(), "--state", out, *same_way, "--out", f"{out}-eval"]


def settings_of(options: MethodOptions, *, can_choose: bool) -> Settings:
    """The method's settings: its own defaults, changed where an option was given.

    Args:
        options: what was given.
        can_choose: whether there are select examples, on which a scale is chosen where nothing else is said of it.

    Raises:
        ConfigError: no such method, or options that it has not or that cannot work.
    """
    method = options.name
    if method not in METHODS:
        raise ConfigError(f"expected --method to be one of {', '.join(METHODS)}, got {method!r}; name one of them")
    chosen = {name: value for name, value in options.settings.items() if value is not None}
    known = {name: name for name in METHODS[method].settings.__dataclass_fields__}
    if method == "lora":
        known = {**known, "lora_alpha": "alpha"}
        del known["alpha"]  # the option of that name is the scale of a state
    unknown = ", ".join("--" + name.replace("_", "-") for name in chosen if name not in known)
    if unknown:
        hint = ", or take --lora-alpha" if method == "lora" and "alpha" in chosen else ""
        raise ConfigError(f"expected options that --method {method} has, got {unknown}; leave them out{hint}")
    settings = {known[name]: value for name, value in chosen.items()}
    if METHODS[method].has_scale and can_choose and not settings.get("scale_in_training"):
        settings.setdefault("alpha", "auto")
    try:
        return METHODS[method].configure(**settings)
    except ConfigError as error:
        raise ConfigError(str(error).replace("`alpha`", "`lora_alpha`") if method == "lora" else str(error)) from error
