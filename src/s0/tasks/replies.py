r"""Where a reply's answer begins and ends: the one rule for programs, mathematics and queries.

What goes, in this order:

1. A byte order mark; line ends become "\n".
2. Thinking: all up to the last `</think>` (a chat template may have written the opening tag itself), and all from a
   `<think>` that is never closed.
3. All from the first end token on, such as `<|im_end|>` or `</s>`.
4. All around the last pair of answer tags that holds something: `<answer>4</answer>`. A tag that is never closed
   reaches to the end.
5. All but the last 100,000 characters: no task lets a model write as much, and what reads the rest has to end.

A tag or token between quotes on its line is a program's text, and stays.
"""

from __future__ import annotations

import re

_LONGEST = 100_000
_LINE_END = re.compile(r"\r\n?")
_BETWEEN_QUOTES = r"(?:(?<!\w)|(?<=\b[rRbBfFuU]))(?P<quote>[\"'])(?:(?!(?P=quote))[^\n])*(?P=quote)(?!\w)"
_THINKING_TAGS = re.compile(rf"{_BETWEEN_QUOTES}|(?P<opens><think(?:ing)?>)|(?P<closes></think(?:ing)?>)")
_END_TOKENS = """
</s> <s> <eos> <|eos|> <|im_end|> <|im_start|> <|end|> <|endoftext|> <|end_of_text|> <|eot_id|> <|eom_id|> <|eot|>
<|end_of_turn|> <end_of_turn> <|return|> <|user|> <|assistant|> <|im_sep|> <|end_of_sentence|> <｜end▁of▁sentence｜>
[/INST] [EOS]
"""
_EVERY_END_TOKEN = tuple(_END_TOKENS.split())
_END = re.compile(rf"{_BETWEEN_QUOTES}|(?P<ends>{'|'.join(map(re.escape, _EVERY_END_TOKEN))})")
_ANSWER_TAGS = re.compile(
    rf"{_BETWEEN_QUOTES}|<(?P<closing>/?)(?P<name>answer|final_answer|solution|response|sql|query)>"
    r"|^[ \t]*<(?P<line_name>code|python|output|result)>|</(?P<line_closing>code|python|output|result)>[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
"""Names that are HTML's or a program's own words as well count only where they begin or end a line."""


def conclusion(completion: str) -> str:
    """What a reply comes to, by the rule above; empty where nothing is left."""
    text = _LINE_END.sub("\n", completion.removeprefix("\ufeff"))
    return _within_answer_tags(_before_end_token(_after_thinking(text)))[-_LONGEST:]


def _after_thinking(text: str) -> str:
    if "think" not in text:  # here and below: what most replies lack is not searched for letter by letter
        return text
    start, open_since = 0, None
    for tag in _THINKING_TAGS.finditer(text):
        if tag["closes"]:
            start, open_since = tag.end(), None
        elif tag["opens"] and open_since is None:
            open_since = tag.start()
    return text[start:open_since]


def _before_end_token(text: str) -> str:
    """A token with nothing before it begins the reply."""
    if not any(token in text for token in _EVERY_END_TOKEN):
        return text
    start = 0
    for token in _END.finditer(text):
        if not token["ends"]:
            continue
        if text[start : token.start()].strip():
            return text[start : token.start()]
        start = token.end()
    return text[start:]


def _within_answer_tags(text: str) -> str:
    if ">" not in text:
        return text
    content = text
    name, start = "", 0
    for tag in _ANSWER_TAGS.finditer(text):
        closing = (tag["name"] if tag["closing"] else tag["line_closing"]) or ""
        opening = (tag["name"] if not tag["closing"] else None) or tag["line_name"] or ""
        if opening and not name:
            name, start = opening.lower(), tag.end()
        elif closing and closing.lower() == name:
            content = _unless_blank(text[start : tag.start()], content)
            name = ""
    return _unless_blank(text[start:], content) if name else content


def _unless_blank(text: str, otherwise: str) -> str:
    return text if text.strip() else otherwise
