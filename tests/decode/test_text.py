"""Text that comes token by token is the text of all tokens, and nothing is handed out that changes later."""

from __future__ import annotations

import random
from functools import cache

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from s0.decode.text import Text
from tests import words

SAMPLE = "Hello, wörld!  naïve café — 日本語のテキスト 👍🏽 ok\n\tx = 1"


@cache
def byte_level() -> PreTrainedTokenizerBase:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        words.TEXT, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, special_tokens=words.SPECIALS)
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", unk_token="<unk>", pad_token="<pad>")


@cache
def word_starts() -> PreTrainedTokenizerBase:
    """As LLaMA's: words begin with a mark that is a space except at the start of a text; other characters as bytes."""
    pieces = [*words.SPECIALS, *(f"<0x{i:02X}>" for i in range(256)), "▁", *"abcdefghijklmnoprstuvwxyz,.!=1"]
    core = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=True, unk_token="<unk>")
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", unk_token="<unk>", pad_token="<pad>")


TOKENIZERS = [byte_level, word_starts, words.characters]


def ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("make", TOKENIZERS)
def test_the_parts_make_the_whole(make):
    tokenizer, rng = make(), random.Random(0)
    for cut in [*range(0, 60, 3), None]:
        tokens = ids(tokenizer, SAMPLE)[:cut]
        for _ in range(3):
            tokens.insert(rng.randrange(len(tokens) + 1), tokenizer.pad_token_id)  # special tokens show nothing
        text = Text(tokenizer, ())
        parts = [text.add(token) for token in tokens]
        assert "\ufffd" not in "".join(parts)
        whole, rest = text.finish()
        assert "".join(parts) + rest == whole
        decoded = tokenizer.decode(tokens, skip_special_tokens=True)
        # A text that ends inside a character is the one place where they may differ: in how that is shown.
        assert whole == decoded or (whole.startswith(decoded.rstrip("\ufffd")) and decoded.endswith("\ufffd"))


def test_most_of_a_text_is_handed_out_at_once():
    tokenizer = byte_level()
    text, late = Text(tokenizer, ("\nclass", "x = 2")), []
    tokens = ids(tokenizer, SAMPLE)
    shown = ""
    for n, token in enumerate(tokens, 1):
        shown += text.add(token)
        late.append(len(tokenizer.decode(tokens[:n]).rstrip("\ufffd")) - len(shown))
    assert max(late) == len("x = ")  # it may have become "x = 2"
    assert sorted(late)[len(late) // 2] == 0


@pytest.mark.parametrize("make", TOKENIZERS)
def test_a_stop_text_is_found_where_it_is_complete(make):
    tokenizer = make()
    tokens = ids(tokenizer, "one two three")
    for start in range(13):
        for end in range(start + 1, 14):
            stop = "one two three"[start:end]
            text, n = Text(tokenizer, ("zzz", stop)), 0
            shown = ""
            while not text.stopped:
                shown += text.add(tokens[n])
                n += 1
            whole, rest = text.finish()
            assert whole == shown + rest == "one two three".split(stop)[0]
            assert stop in tokenizer.decode(tokens[:n]) and stop not in tokenizer.decode(tokens[: n - 1])


def test_the_first_of_several_stop_texts_cuts():
    tokenizer = byte_level()
    text = Text(tokenizer, ("three", "t", "two"))
    for token in ids(tokenizer, "one two"):
        text.add(token)
    assert text.stopped and text.finish() == ("one ", "")
