"""The Jinja template of exported folders writes what `ChatFormat` writes."""

import pytest
from transformers import AutoTokenizer

from llama3lib.checkpoint import load_tokenizer, write_tokenizer
from llama3lib.tokenizer import ChatFormat, ChatTemplate, Message, ToolCall, chat_format_of
from llama3lib.tokenizer.chat_template import _as_dict
from llama3lib.tokenizer.llama3_template import with_chat_template

CALL = ToolCall(name="look_up", arguments={"word": "fjord", "n": [1, 2]})
DIALOGS = {
    "one turn": [Message(role="user", content=" 2+2? \n"), Message(role="assistant", content="4")],
    "system": [Message(role="system", content="Be kind."), Message(role="user", content="é 中")],
    "call": [
        Message(role="user", content="go"),
        Message(role="assistant", tool_calls=[CALL]),
        Message(role="tool", content='{"found": true}'),
        Message(role="assistant", content="yes"),
    ],
    "code": [
        Message(role="user", content="go"),
        Message(
            role="assistant",
            tool_calls=[ToolCall(name="code_interpreter", arguments={"code": "1 + 1"})],
        ),
    ],
    "search": [
        Message(role="user", content="go"),
        Message(
            role="assistant",
            tool_calls=[ToolCall(name="brave_search", arguments={"query": 'a "b"'})],
        ),
    ],
}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Our tokenizer with the template, and the one transformers reads from its folder."""
    folder = tmp_path_factory.mktemp("tokenizer")
    ours = with_chat_template(load_tokenizer("tiny-base"))
    write_tokenizer(ours, folder)
    return ours, AutoTokenizer.from_pretrained(folder), folder


@pytest.mark.parametrize("name", DIALOGS)
@pytest.mark.parametrize("prompt", [False, True])
def test_transformers_writes_the_same_ids(both, name, prompt):
    ours, theirs, _ = both
    messages = DIALOGS[name]
    want = ChatFormat(ours).encode_dialog(messages, add_generation_prompt=prompt).ids
    given = [_as_dict(message) for message in messages]
    for one in given:
        for call in one.get("tool_calls", ()):
            call["function"]["arguments"] = dict(call["function"]["arguments"])
    text = theirs.apply_chat_template(given, tokenize=False, add_generation_prompt=prompt)
    assert theirs(text, add_special_tokens=False)["input_ids"] == want


@pytest.mark.parametrize("name", DIALOGS)
def test_the_loss_mask_is_the_same_by_the_template(both, name):
    ours, messages = both[0], DIALOGS[name]
    assert ChatTemplate(ours).encode_dialog(messages) == ChatFormat(ours).encode_dialog(messages)


def test_a_folder_with_it_needs_no_jinja(both):
    again = load_tokenizer(both[2])
    assert again.rules.chat_templates == both[0].rules.chat_templates
    assert isinstance(chat_format_of(again), ChatFormat)


def test_a_template_of_its_own_is_kept():
    tokenizer = load_tokenizer("tiny-base")
    tokenizer.rules.chat_templates["default"] = "mine"
    assert with_chat_template(tokenizer).rules.chat_templates == {"default": "mine"}
