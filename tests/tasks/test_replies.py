"""Where a reply's answer begins and ends, the same for programs, mathematics and queries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s0.tasks.replies import conclusion

CUT = {
    "": "",
    "4": "4",
    "\ufeff4": "4",
    "a\r\nb\rc\n": "a\nb\nc\n",
    "<think>3</think>4": "4",
    "<thinking>3</thinking>4": "4",
    "3\n</think>\n\n4": "\n\n4",
    "<think>a<think>b</think>3</think>4": "4",
    "4<think>hm": "4",
    "<think>never closed": "",
    "it's 3</think>I don't know": "I don't know",
    "4</s>": "4",
    "4<|im_end|>\n<|im_start|>user\n5": "4",
    "<|im_start|>4<|im_end|>": "4",
    "4<end_of_turn>": "4",
    "<answer>4</answer>": "4",
    "<ANSWER>\n4\n</Answer> done": "\n4\n",
    "<answer>3</answer> no: <answer>4</answer>": "4",
    "In <answer></answer> tags: 4": "In <answer></answer> tags: 4",
    "<answer>4": "4",
    "<sql>SELECT a FROM t</sql>": "SELECT a FROM t",
    "<think><answer>3</answer></think><answer>4</answer></s>": "4",
    "<code>\nx\n</code>": "\nx\n",
    "HTML has <code>x</code>": "HTML has <code>x</code>",
}
KEPT = (
    "    return re.sub(r'<think>.*?</think>', '', s)\n",
    "    return s.replace('</s>', '')\n",
    '    return f"<answer>{x}</answer>"\n',
    "    return x < y > z\n",
)


@pytest.mark.parametrize("reply", CUT)
def test_the_conclusion_of_a_reply(reply: str) -> None:
    assert conclusion(reply) == CUT[reply]


@pytest.mark.parametrize("code", KEPT)
def test_tags_that_are_a_programs_text_stay(code: str) -> None:
    assert conclusion(code) == code


@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "</s>", "'", '"', "a", " ", "\n"]), max_size=40
    ).map("".join)
)
def test_a_conclusion_is_a_part_of_the_reply(reply: str) -> None:
    assert conclusion(reply) in reply
