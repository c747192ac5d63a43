"""Byte-level vocabularies of others: cuts, added tokens, where a text begins and ends; calls."""

import json
import random
import unicodedata

import pytest
from foreign_tools import CUTS, SPECIAL, write_folder
from transformers import AutoTokenizer

from llama3lib.checkpoint import load_tokenizer, write_tokenizer
from llama3lib.tokenizer import ChatFormat, ToolCall
from llama3lib.tokenizer.tool_calls import parse_tool_calls

PIECES = [
    "hello",
    " the",
    "12",
    "1٣",
    "½",
    "  ",
    "\r\n",
    "\n",
    "don't",
    "é",
    "日本",
    "🙂",
    "!?",
    "{",
    "\t",
]


def texts(count):
    made = random.Random(5)
    names = [*SPECIAL, "<|turn|>", "<|turn|> ", "<think>", "<|im_", "end|>"]
    for _ in range(count):
        text = "".join(made.choice(made.choice((PIECES, names))) for _ in range(made.randrange(12)))
        text += "".join(chr(made.randrange(0x20, 0x3000)) for _ in range(made.randrange(4)))
        yield "".join(c for c in text if unicodedata.category(c) != "Cn")  # tables differ in those


@pytest.mark.parametrize("cuts", CUTS)
def test_ids_are_theirs_and_stay_so_when_written_again(tmp_path, cuts):
    write_folder(tmp_path / "m", cuts=cuts, begins=cuts == "many")
    ours = load_tokenizer(tmp_path / "m")
    assert ours.rules.begins_with_bos == (cuts == "many")
    (tmp_path / "again").mkdir()
    write_tokenizer(ours, tmp_path / "again")
    theirs = [AutoTokenizer.from_pretrained(tmp_path / name) for name in ("m", "again")]
    again = load_tokenizer(tmp_path / "again")
    assert again.digest == ours.digest and again.rules.names == ours.rules.names
    for text in texts(700):
        read = ours.encode(text, bos=True, allow_special=True)
        plain = ours.encode(text)
        assert read == again.encode(text, bos=True, allow_special=True)
        for one in theirs:
            assert one(text)["input_ids"] == read, text
            options = {"add_special_tokens": False, "split_special_tokens": True}
            assert one(text, **options)["input_ids"] == plain, text
        assert not any(map(ours.is_special, plain)) and ours.decode(plain) == text


def test_a_byte_that_a_vocabulary_lacks_is_named(tmp_path):
    write_folder(tmp_path)
    path = tmp_path / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    del data["model"]["vocab"]["ó"]  # the letter of byte 0xF3: private signs and flags begin so
    path.write_text(json.dumps(data), encoding="utf-8")
    ours = load_tokenizer(tmp_path)
    assert ours.decode(ours.encode("hello 🙂")) == "hello 🙂"
    with pytest.raises(ValueError, match=r"U\+E0067\), whose byte 0xf3"):
        ours.encode("a flag: 🏴\U000e0067")


def test_every_file_may_name_an_end(tmp_path):
    write_folder(tmp_path, eos_token="</s>")
    (tmp_path / "config.json").write_text('{"eos_token_id": 7, "vocab_size": 900}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [9, 7]}')
    ours = load_tokenizer(tmp_path)
    assert ours.stop_ids == {7, 9, ours.special_tokens["</s>"]} and ours.eos_id not in (7, 9)
    assert ours.token_bytes(899) == b""  # a row of the model that no token has
    for bad in ('{"eos_token_id": "x"}', '{"eos_token_id": [true]}', "{", "[]"):
        (tmp_path / "generation_config.json").write_text(bad)
        with pytest.raises(ValueError, match="generation_config.json"):
            load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["model"].update(byte_fallback=True), "byte_fallback"),
        (lambda d: d.update(normalizer={"type": "NFC"}), "normalizer 'NFC'"),
        (lambda d: d["added_tokens"][0].update(single_word=True), "single_word=true of '<pad>'"),
        (lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(type="Whitespace"), "Whitespace"),
        (
            lambda d: d["pre_tokenizer"]["pretokenizers"].__setitem__(
                0, {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"}
            ),
            "not a regular expression",
        ),
        (lambda d: d.update(post_processor={"type": "BertProcessing"}), "BertProcessing"),
    ],
)
def test_what_is_no_byte_level_vocabulary_is_refused_by_name(tmp_path, change, words):
    write_folder(tmp_path)
    path = tmp_path / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        load_tokenizer(tmp_path)


F = {"a": 1}


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('{"name": "f", "parameters": {"a": 1}}', [F]),
        ('{"name": "f", "arguments": {"a": 1}}', [F]),
        ('{"name": "f", "parameters": "{\\"a\\": 1}"}', [F]),
        ('{"name": "f", "parameters": {}}', [{}]),
        ('{"name": "f", "parameters": null}', [{}]),
        ('{"name": "f", "parameters": ""}', [{}]),
        ('{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}', [F]),
        ("<function=f></function>", [{}]),
        ("<function=f>{}", [{}]),
        ("[f()]", [{}]),
        ("[f(a=1), f()]", [F, {}]),
        ('{"name": "Ada", "age": 7}', []),
        ('{"name": "f", "parameters": [1]}', []),
        ('{"type": "person", "name": "f", "parameters": {}}', []),
        ('{"name": "", "parameters": {}}', []),
        ("[f(1)]", []),
        ("[f(), 2]", []),
    ],
)
def test_calls_of_every_format_with_and_without_arguments(text, calls):
    wanted = tuple(ToolCall(name="f", arguments=one) for one in calls)
    assert parse_tool_calls(text) == wanted
    words = load_tokenizer("tiny-base")
    read = ChatFormat(words).decode_assistant(words.encode(text))
    assert read.tool_calls == wanted and read.content == ("" if calls else text)
