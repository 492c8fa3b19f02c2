"""What a study's models need of memory is told from their configs, wherever they are to be loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from s0.models import load_base_model, model_without_weights
from s0.study.memory import ModelMemory, memory_of
from s0.study.plan import plan
from s0.study.spec import read_study
from s0.train.memory import step_memory
from tests.study.small import STUDY, written


def memory(folder: Path, text: str = STUDY) -> list[ModelMemory]:
    return memory_of(plan(read_study(written(folder, text))).units.values())


def test_it_is_what_a_step_of_the_studys_settings_needs(tmp_path: Path) -> None:
    settings = "alpha = 1, batch_tokens = 512, max_length = 700 }"
    (told,) = memory(tmp_path, STUDY.replace("alpha = 1 }", settings))
    outline = model_without_weights("pocket:gdn")
    step = step_memory(outline, batch_tokens=512, gradient_checkpointing=False)
    longest = step_memory(outline, batch_tokens=700, row_tokens=700, gradient_checkpointing=False)
    assert (told.weights, told.step, told.longest_step) == (step.weights, step.total, longest.total)
    assert (told.model, told.max_length, told.trouble) == ("pocket:gdn", 700, None)


def test_of_several_settings_it_is_the_most(tmp_path: Path) -> None:
    more = '\n[variants.large]\nmethod = "offset"\nsettings = { batch_tokens = 2048 }\n'
    (usual,), (most,) = memory(tmp_path), memory(tmp_path, STUDY + more)
    assert usual.step and most.step and most.step > 1.5 * usual.step and most.longest_step == usual.longest_step


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_the_device_may_be_another_machines(dtype: str, size: int, tmp_path: Path) -> None:
    n_weights = sum(weight.numel() for weight in load_base_model("pocket:gdn").parameters())
    loading = f'loading = {{ device = "cuda:99", dtype = "{dtype}" }}\n'
    (told,) = memory(tmp_path, loading + STUDY)
    assert told.weights and told.trouble is None
    assert size * n_weights <= told.weights < 1.01 * size * n_weights  # with the buffers


def test_what_cannot_be_known_is_said_by_model(tmp_path: Path) -> None:
    models = 'models = ["./absent", "pocket:transformer", "pocket:gdn"]'
    absent, without_states, whole = memory(tmp_path, STUDY.replace('models = ["pocket:gdn"]', models))
    assert absent.weights is None and absent.trouble and "'./absent'" in absent.trouble
    assert without_states.weights and without_states.step is None and without_states.trouble
    assert whole.step and whole.trouble is None


def test_where_no_state_is_learned_it_is_the_weights_alone(tmp_path: Path) -> None:
    text = STUDY.replace('models = ["pocket:gdn"]', 'models = ["pocket:transformer"]').replace('"s0"', '"prefix"')
    (told,) = memory(tmp_path, text.replace(", alpha = 1 }", " }"))
    assert told.weights and told.step is None and told.trouble is None
