"""The paper's studies of real models, from file to tables, on shrunk random models and made-up problems."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from benchmarks.gpu import configs
from s0.core.families import find_mixers, layer_index, recurrence_of
from s0.study.spec import Study, VariantSpec, read_study
from s0.train.baselines import LoraTuning
from s0.train.placement import target_layers
from tests import zoo
from tests.breadth import mostly_slow
from tests.cli.calls import result, s0
from tests.study.small import written
from tests.study.test_page import in_this_process
from tests.tasks.databases import made_folder

FILES = sorted((Path(__file__).parents[2] / "benchmarks" / "studies" / "published").glob("*.toml"))
STUDIES = {file.stem: read_study(file) for file in FILES}
SPLITS = 12 * ["train"] + 8 * ["select"] + 8 * ["final"]
ANSWERS = {
    "humaneval": "    return 7\n",
    "gsm8k": "#### 7\n",
    "math500": "\\boxed{7}\n",
    "spider": "```sql\nSELECT 7 FROM singer\n```\n",
}
"""To every problem of a task."""
CHAT = "{% for message in messages %}{{ message.content }}{% endfor %}{% if enable_thinking %}think{% endif %}"


def humaneval(folder: Path) -> Path:
    return lines(
        folder,
        lambda i: {
            "task_id": f"made/{i}",
            "prompt": f'def f{i}(x):\n    """Seven."""\n',
            "entry_point": f"f{i}",
            "canonical_solution": ANSWERS["humaneval"],
            "test": "def check(candidate):\n    assert candidate(0) == 7\n",
        },
    )


def gsm8k(folder: Path) -> Path:
    return lines(folder, lambda i: {"question": f"What is {i + 7} less {i}?", "answer": ANSWERS["gsm8k"]})


def math500(folder: Path) -> Path:
    return lines(folder, lambda i: {"problem": f"What is ${i + 7} - {i}$?", "answer": "7", "unique_id": f"made/{i}"})


def spider(folder: Path) -> Path:
    rows = [
        {
            "db_id": "made",
            "question": f"What is {i + 7} less {i}?",
            "query": f"SELECT {i + 7} - {i} FROM singer",
            "split": split,
        }
        for i, split in enumerate(SPLITS)
    ]
    return made_folder(folder, rows, ["made"])


def lines(folder: Path, row: Callable[[int], dict[str, Any]]) -> Path:
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps({**row(i), "split": split}) + "\n" for i, split in enumerate(SPLITS)))
    return path


DATA = {task.__name__: task for task in (humaneval, gsm8k, math500, spider)}


def tokenizer(answer: str) -> PreTrainedTokenizerFast:
    """It has hardly another word than an answer, four times: what is written at random is often right."""
    words = [answer.replace("7", "7" + " " * i) for i in range(4)]
    vocabulary = {token: i for i, token in enumerate(["<unk>", "<end>", *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    isolated = Regex("|".join([*map(re.escape, words), "[\\s\\S]"]))
    core.pre_tokenizer = pre_tokenizers.Split(isolated, "isolated")
    core.decoder = decoders.Fuse()
    special = {"pad_token": "<unk>", "eos_token": "<end>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template=CHAT, **special)


def shrunk(hub_id: str, n_layers: int) -> PreTrainedModel:
    """A random model of the same family, layers of the same kinds in the same order, none of them wide."""
    tokens: dict[str, Any] = dict(vocab_size=6, pad_token_id=0, bos_token_id=None, eos_token_id=1)
    torch.manual_seed(0)
    model: Any
    if "Qwen2.5" in hub_id:
        sizes: dict[str, Any] = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
        # transformers reads every tokenizer beside a Qwen2 as that one's own
        model = Qwen3ForCausalLM(Qwen3Config(**sizes, num_key_value_heads=1, head_dim=16, **tokens))
    elif "Falcon" in hub_id:
        model = zoo.build("falcon_h1", tokens)
    else:
        kinds = ["full_attention" if layer % 4 == 3 else "linear_attention" for layer in range(n_layers)]
        model = zoo.build("qwen3_5", dict(num_hidden_layers=n_layers, layer_types=kinds, **tokens))
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(0.1)  # so that every token is about as likely as another
    return model  # type: ignore[no-any-return]


def on_made_problems(study: Study, folder: Path) -> str:
    """The same file but for the problems, and for the length of answers to them."""
    (task,) = study.tasks
    text = next(file for file in FILES if file.stem == study.name).read_text(encoding="utf-8")
    text = re.sub(r"^(data|max_new_tokens) = .*\n", "", text, flags=re.MULTILINE)
    return f'max_new_tokens = 4\ndata = {{ {task} = "{DATA[task](folder)}" }}\n{text}'


def shrunk_study(study: Study, folder: Path) -> Path:
    """The same with other models, on this machine's CPU."""
    text = on_made_problems(study, folder)
    names_layers = any("layers" in variant.settings for variant in study.variants.values())
    for number, hub_id in enumerate(study.models):
        path = folder / f"model-{number}"
        shrunk(hub_id, 32 if names_layers else 4).save_pretrained(path)
        tokenizer(ANSWERS[study.tasks[0]]).save_pretrained(path)
        text = text.replace(f'"{hub_id}"', f'"{path}"')
    text = text.replace('dtype = "bfloat16", device = "cuda"', 'dtype = "float32", device = "cpu"')
    return written(folder, text, study.name)


@pytest.mark.parametrize("name", mostly_slow(STUDIES, ["qwen35_examples", "qwen35_gsm8k", "qwen25_prefix"]))
def test_it_runs_from_its_file_to_its_tables(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = STUDIES[name]
    in_this_process(monkeypatch)
    how = (shrunk_study(study, tmp_path), "--quick", "--records", tmp_path / "records")
    listed = result("study", "list", *how)["listed"]
    assert {unit["standing"] for unit in listed} == {"left"}
    done = s0("study", "run", *how)
    assert done.returncode == 0, done.stderr
    report = result("study", "report", *how)
    assert report["left"] == 0 and not report["failed"]
    assert len(report["tables"]) == len(study.models) * min(2, len(study.examples))
    by_model = dict(zip(read_study(how[0]).models, study.models, strict=True))
    for table in report["tables"]:
        hub_id = by_model[table["model"]]
        published = {key: each.published.get(hub_id, "") for key, each in study.variants_on(hub_id).items()}
        assert {row["variant"]: row["published"] for row in table["rows"]} == published
    figures = {figure for variant in study.variants.values() for figure in variant.published.values()}
    assert figures and all(figure in report["page"] for figure in figures)


def test_one_is_listed_where_its_model_cannot_be_had(tmp_path: Path) -> None:
    file = written(tmp_path, on_made_problems(STUDIES["falcon_h1"], tmp_path))
    done = s0("study", "list", file, "--records", tmp_path / "records")
    assert done.returncode == 0 and f"{7 * 3 + 2 * 3 - 2} left" in done.stderr  # the untouched model is asked once
    assert "how long it takes is not known yet: expected" in done.stderr
    assert "memory tiiuae/Falcon-H1-7B-Instruct needs is not known: expected a Hugging Face id" in done.stderr


def test_they_are_run_as_the_paper_ran_its_own() -> None:
    for study in STUDIES.values():
        assert study.chat and (study.loading.dtype, study.loading.device) == ("bfloat16", "cuda")
        assert study.split == "final" and study.slurm["gpus_per_node"] == 1
        variants = study.variants.values()
        assert not any(variant.grid or variant.winner for variant in variants)  # what it chose is written down
        assert all(variant.published for variant in variants if variant.learns)


def numbers(outline: torch.nn.Module, variant: VariantSpec) -> float:
    """Millions of numbers that a variant learns."""
    if variant.method == "lora":
        settings = LoraTuning(**variant.settings)
        layers = target_layers(outline, settings.targets).values()
        return settings.rank * sum(layer.in_features + layer.out_features for layer in layers) / 1e6
    wanted = variant.settings.get("layers")
    mixers = [each for each in find_mixers(outline).values() if wanted is None or layer_index(each) in wanted]
    return sum(torch.Size(recurrence_of(each).state_shape(each)).numel() for each in mixers) / 1e6


def test_they_learn_as_many_numbers_as_the_papers() -> None:
    told = {
        "qwen35_humaneval": {"s0": 12.6, "lora_r24": 4.7, "lora_r48": 9.4, "lora_r64": 12.6, "offset": 12.6},
        "falcon_h1": {"s0": 34.6, "lora": 22.2},
        "qwen35_layers": {"early": 4.2, "middle": 4.2, "late": 4.2, "all": 12.6},
    }
    with torch.device("meta"):
        qwen, falcon = (AutoModelForCausalLM.from_config(config) for config in configs(tiny=False).values())
    for name, variants in told.items():
        outline = falcon if name == "falcon_h1" else qwen
        learned = {key: round(numbers(outline, STUDIES[name].variants[key]), 1) for key in variants}
        assert learned == variants


def test_thirds_of_the_recurrent_layers_are_all_of_them() -> None:
    variants = STUDIES["qwen35_layers"].variants
    with torch.device("meta"):
        qwen = AutoModelForCausalLM.from_config(configs(tiny=False)["qwen3_5_4b"])
    every = [layer_index(mixer) for mixer in find_mixers(qwen).values()]
    early, middle, late = (variants[name].settings["layers"] for name in ("early", "middle", "late"))
    assert [*early, *middle, *late] == every and len(early) == len(middle) == len(late)
