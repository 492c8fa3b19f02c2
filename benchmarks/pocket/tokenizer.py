"""The pocket tokenizer: a small byte-level BPE trained on the corpora themselves."""

from __future__ import annotations

import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from benchmarks.pocket.corpora import CORPORA

VOCABULARY_SIZE = 768
PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"


def build_tokenizer(seed: int, rows: int = 12000) -> PreTrainedTokenizerFast:
    """Train the tokenizer on `rows` prompts and answers, every corpus and every habit as often as any other.

    Newlines and digits are always tokens of their own, and no token goes on from a letter or a sign to a space. So a
    prompt, which ends with a newline or is followed by one or by a space, has the same tokens alone and in front of a
    completion, and copying a number is copying its digits. The tokenizer itself puts `<bos>` in front.
    """
    rng = random.Random(f"tokenizer {seed}")
    draws = [*CORPORA.values()]
    problems = [draws[number % len(draws)](rng) for number in range(rows)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("\n"), behavior="isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((p.prompt + rng.choice([*p.answers.values()]) for p in problems), trainer)
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, bos)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
