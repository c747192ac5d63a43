"""Ids and loss mask stay together: through roles, tools, context, cutting and padding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llama3lib.posttrain.collate import (
    CutAccount,
    collate,
    cut_dialog,
    encode_dialog,
    encode_dialogs,
)
from llama3lib.posttrain.dialogs import Dialog
from llama3lib.tokenizer import (
    ChatFormat,
    ChatTemplate,
    EncodedDialog,
    Message,
    Tokenizer,
    ToolCall,
)

ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end_of_text|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.fixture(scope="module")
def chat():
    return ChatFormat(Tokenizer.of_bytes())


def dialog(*turns, **more):
    messages = tuple(Message(role=role, content=text) for role, text in turns)
    return Dialog(id="d", messages=messages, **more)


def learned(chat, made):
    return chat.tokenizer.decode(i for i, on in zip(made.ids, made.loss_mask, strict=True) if on)


TWO = (("user", "a?"), ("assistant", "b"), ("user", "c?"), ("assistant", "d"))


def test_what_is_learned_is_what_the_assistant_says(chat):
    assert learned(chat, encode_dialog(dialog(*TWO), chat)) == "b<|eot_id|>d<|eot_id|>"


def test_context_is_read_and_not_learned(chat):
    made = encode_dialog(dialog(*TWO, learned_from=3), chat)
    assert learned(chat, made) == "d<|eot_id|>"
    assert made.ids == encode_dialog(dialog(*TWO), chat).ids


def test_a_call_is_learned_and_its_answer_is_not(chat):
    call = ToolCall(name="f", arguments={"a": 1})
    messages = (
        Message(role="user", content="go"),
        Message(role="assistant", tool_calls=(call,), stop_reason="end_of_message"),
        Message(role="tool", content="41"),
        Message(role="assistant", content="42"),
    )
    text = learned(chat, encode_dialog(Dialog(id="t", messages=messages), chat))
    assert text.endswith('"parameters": {"a": 1}}<|eom_id|>42<|eot_id|>')
    assert "41" not in text


def test_a_template_says_the_same_of_context():
    template = ChatTemplate(Tokenizer.of_bytes(), {"default": ZEPHYR})
    made = encode_dialog(dialog(*TWO, learned_from=3), template)
    assert learned(template, made).strip() == "d<|end_of_text|>"


def test_the_mask_is_cut_where_the_ids_are(chat):
    whole = encode_dialog(dialog(*TWO), chat)
    for length in range(2, len(whole.ids) + 3):
        cut = cut_dialog(whole, length)
        assert cut.ids == whole.ids[:length] and cut.loss_mask == whole.loss_mask[:length]
    with pytest.raises(ValueError, match="max_length=1"):
        cut_dialog(whole, 1)


def test_what_is_cut_or_dropped_is_counted(chat):
    short, long = dialog(("user", "a"), ("assistant", "b")), dialog(*TWO)
    asks = Dialog(id="asks", messages=dialog(("user", "x" * 60), ("assistant", "b")).messages)
    size, account = len(encode_dialog(short, chat).ids), CutAccount()
    made = encode_dialogs([short, long, asks], chat, size, account)
    assert [len(one.ids) for one in made] == [size, size]
    lost = len(encode_dialog(long, chat).ids) - size
    assert (account.dialogs, account.cut, account.cut_tokens) == (3, 1, lost)
    assert (account.tokens, account.learned) == (2 * size, sum(sum(m.loss_mask) for m in made))
    assert list(account.dropped) == ["asks"] and "nothing to learn" in account.dropped["asks"]
    assert any("cut" in line for line in account.lines())


def test_functions_that_a_format_cannot_tell_drop_the_dialog(chat):
    account = CutAccount()
    assert encode_dialogs([dialog(*TWO, tools=({"type": "function"},))], chat, 99, account) == []
    assert "tools" in account.dropped["d"]


def test_a_batch_written_out():
    rows = collate(
        [EncodedDialog([5, 6, 7], [False, True, True]), EncodedDialog([8, 9], [False, True])], 0
    )
    assert rows.ids.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert rows.labels.tolist() == [[-100, 6, 7], [-100, 9, -100]]
    assert rows.attended.tolist() == [[True] * 3, [True, True, False]]
    assert rows.targets.tolist() == [[6, 7, -100], [9, -100, -100]]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(1, 99), st.booleans()), min_size=1), min_size=1))
def test_padding_loses_nothing(drawn):
    dialogs = [EncodedDialog([i for i, _ in row], [on for _, on in row]) for row in drawn]
    rows = collate(dialogs, pad_id=0)
    assert rows.ids[rows.attended].tolist() == [i for d in dialogs for i in d.ids]
    kept = rows.labels[rows.attended]
    assert (kept != -100).tolist() == [on for d in dialogs for on in d.loss_mask]
    assert bool((rows.labels[~rows.attended] == -100).all())
    assert torch.equal(rows.labels[rows.labels != -100], rows.ids[rows.labels != -100])


def test_a_batch_that_is_none_is_refused():
    with pytest.raises(ValueError, match="dialogs"):
        collate([], 0)
    with pytest.raises(ValueError, match="as many of both"):
        collate([EncodedDialog([1, 2], [True])], 0)
