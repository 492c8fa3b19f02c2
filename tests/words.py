"""Real tokenizers, made on the spot."""

from __future__ import annotations

import string

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIALS = ["<pad>", "<end>", "<unk>"]
TEXT = [
    "def add(a, b):\n    return a + b\n",
    "def sub(a, b):\n    return a - b\n",
    "def double(x):\n    return x * 2\n",
    "the quick brown fox jumps over the lazy dog " * 3,
]


def merging() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 64 entries: tokens merge across the border between two texts."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=64, special_tokens=SPECIALS))
    return _wrapped(core)


def characters() -> PreTrainedTokenizerFast:
    """One token per character, from a fixed list of 64: the same on every version of everything."""
    listed = SPECIALS + list(string.ascii_lowercase + string.digits + " \n():+-*/=,.<>[]{}_'\"#%!")
    vocabulary = {token: i for i, token in enumerate(listed[:64])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    core.decoder = decoders.Fuse()
    return _wrapped(core)


def _wrapped(core: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>", unk_token="<unk>")
