"""A user's rows become dialogs and pairs; each that does not is told by file, line and reason."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama3lib.posttrain import RowAccount, read_dialogs, read_pairs
from llama3lib.tokenizer import Message, ToolCall

REAL = Path(__file__).parents[3] / "shared" / "data"
GOOD = {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}


def user(text):
    return {"role": "user", "content": text}


def says(text, **more):
    return {"role": "assistant", "content": text, **more}


@pytest.fixture
def file(tmp_path):
    """file(row, ..., name=) -> path; rows that are texts are written as they are."""

    def write(*rows, name="rows.jsonl"):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def spoken(messages):
    return [(message.role, message.content) for message in messages]


ASKED = [("user", "2+2?"), ("assistant", "4")]


@pytest.mark.parametrize(
    "row, learned_from",
    [
        (GOOD, 0),
        ({"prompt": "2+2?", "completion": "4"}, 1),
        ({"prompt": [user("2+2?")], "completion": [says("4")]}, 1),
        ({"instruction": "2+2?", "output": "4"}, 0),
        ({"instruction": "2+2?", "input": "  ", "output": "4"}, 0),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "2+2?"}]},
                    says("4"),
                ]
            },
            0,
        ),
    ],
)
def test_every_form_is_the_same_dialog(file, row, learned_from):
    (dialog,) = read_dialogs(file(row))
    assert spoken(dialog.messages) == ASKED
    assert dialog.learned_from == learned_from


def test_an_alpaca_input_stands_below_its_instruction(file):
    (dialog,) = read_dialogs(file({"instruction": "Add.", "input": "2 2", "output": "4"}))
    assert dialog.messages[0].content == "Add.\n\n2 2"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
        {"prompt": [user("2+2?")], "chosen": [says("4")], "rejected": [says("5")]},
        {"chosen": [user("2+2?"), says("4")], "rejected": [user("2+2?"), says("5")]},
        {
            "prompt": "2+2?",
            "chosen": [user("2+2?"), says("4")],
            "rejected": [user("2+2?"), says("5")],
        },
        {"instruction": "2+2?", "input": "", "output": "x", "chosen": "4", "rejected": "5"},
    ],
)
def test_every_form_is_the_same_pair(file, row):
    (pair,) = read_pairs(file(row))
    assert spoken(pair.prompt) == ASKED[:1]
    assert [spoken(answer) for answer in pair.responses] == [
        [("assistant", "4")],
        [("assistant", "5")],
    ]
    assert [spoken(d.messages) for d in pair.dialogs] == [ASKED, [ASKED[0], ("assistant", "5")]]
    assert {d.learned_from for d in pair.dialogs} == {1}


def test_answers_that_begin_alike_keep_their_first_turn(file):
    row = {
        "chosen": [user("a"), says("b"), user("c"), says("d")],
        "rejected": [user("a"), says("b"), user("c"), says("e")],
    }
    (pair,) = read_pairs(file(row))
    assert spoken(pair.prompt) == [("user", "a"), ("assistant", "b"), ("user", "c")]


def test_an_edited_answer_ranks_first(file):
    row = {"prompt": "2+2?", "chosen": "4.", "rejected": "5", "edited": "4", "margin": 2}
    (pair,) = read_pairs(file(row))
    assert [answer[0].content for answer in pair.responses] == ["4", "4.", "5"]
    assert pair.margin == 2.0


def test_a_tool_dialog_is_read_with_its_calls(file):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    turns = [user("go"), {"role": "assistant", "tool_calls": [call]}]
    turns += [{"role": "tool", "content": "", "tool_call_id": "c1"}, says("done")]
    (dialog,) = read_dialogs(file({"messages": turns, "tools": [{"type": "function"}]}))
    assert dialog.messages[1].tool_calls == (ToolCall(name="f", arguments={"a": 1}, id="c1"),)
    assert dialog.messages[2] == Message(role="ipython", tool_call_id="c1")
    assert dialog.tools == ({"type": "function"},)


def many(row, good=60):
    """A bad row in the third line among so many good ones."""
    return [*[GOOD] * 2, row, *[GOOD] * (good - 2)]


BAD = {
    "missing key": {"prompt": "only"},
    "empty answer": {"messages": [user("a"), says("  ")]},
    "empty message": {"messages": [user(""), says("a")]},
    "unknown role": {"messages": [{"role": "human", "content": "a"}, says("b")]},
    "two system turns": {
        "messages": [{"role": "system", "content": "a"}] * 2 + [user("a"), says("b")]
    },
    "wrong order": {"messages": [user("a"), user("b"), says("c")]},
    "no answer": {"messages": [user("a"), says("b"), user("c")]},
    "not a finite number": '{"prompt": "a", "completion": "b", "reward": NaN}',
    "not text": {"prompt": "a", "completion": 4},
    "no JSON": '{"prompt": "a", "compl',
    "no object": "[1, 2]",
    "key twice": '{"prompt": "a", "prompt": "b", "completion": "c"}',
    "no messages": {"messages": []},
    "no message": {"messages": ["a"]},
    "bad tool call": {"messages": [user("a"), says("", tool_calls=[{"function": {}}])]},
    "bad id": {**GOOD, "id": [1]},
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_row_is_told_by_file_line_and_reason(file, reason):
    account = RowAccount()
    found = read_dialogs(file(*many(BAD[reason])), account)
    assert len(found) == 60 and account.rows == 61
    (bad,) = account.bad
    assert (bad.file, bad.line, bad.reason) == ("rows.jsonl", 3, reason)
    assert str(bad) in "\n".join(account.lines())


def test_the_same_is_told_of_an_array(file, tmp_path):
    rows = [GOOD, BAD["empty answer"], GOOD]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    account = RowAccount()
    assert len(read_dialogs(path, account, most_bad=0.5)) == 2
    lines = path.read_text(encoding="utf-8").splitlines()
    assert account.bad[0].reason == "empty answer"
    begins = account.bad[0].line - 1
    assert lines[begins].strip() == "{" and '"a"' in "".join(lines[begins : begins + 6])


@pytest.mark.parametrize(
    "text", ['[{"prompt": "a", "completion": "b"}', "[1 2]", '[{"prompt": "a"']
)
def test_an_array_that_breaks_off_is_refused(file, text):
    path = file(text, name="rows.json")
    with pytest.raises(ValueError, match="damaged file|none of"):
        read_dialogs(path, most_bad=0.99)


def test_ids_must_be_unique(file):
    account = RowAccount()
    rows = [{**GOOD, "id": n} for n in range(40)] + [{**GOOD, "id": 7}]
    found = read_dialogs(file(*rows), account)
    assert [dialog.id for dialog in found] == [str(n) for n in range(40)]
    assert (account.bad[0].line, account.bad[0].reason) == (41, "duplicate id")
    assert "rows.jsonl:8" in account.bad[0].detail


def test_a_byte_order_mark_is_no_loss(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\n")
    assert len(read_dialogs(path)) == 1
    path.write_bytes(json.dumps(GOOD).encode("utf-16"))
    with pytest.raises(ValueError, match="UTF-16"):
        read_dialogs(path)


def test_a_truncated_gz_is_refused_whatever_share_it_is(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    rows = [{"prompt": f"question {n * 7919 % 997}", "completion": str(n)} for n in range(4000)]
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    path.write_bytes(whole)
    assert len(read_dialogs(path)) == 4000
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ValueError, match=r"rows\.jsonl\.gz:\d+: damaged file.*most_bad=1 takes"):
        read_dialogs(path)
    account = RowAccount()
    kept = read_dialogs(path, account, most_bad=1)
    assert 0 < len(kept) < 4000
    assert account.bad[0].line == len(kept) + 1


def test_more_than_one_in_twenty_is_refused(file):
    rows = many(BAD["empty answer"], good=18)
    with pytest.raises(
        ValueError, match=r"1 of 19 rows cannot be used, 5\.3%.*rows\.jsonl:3: empty"
    ):
        read_dialogs(file(*rows))
    assert len(read_dialogs(file(*rows), most_bad=0.06)) == 18


def test_nothing_to_read_is_refused(file, tmp_path):
    with pytest.raises(ValueError, match="empty"):
        read_dialogs(file("", name="none.jsonl"))
    with pytest.raises(ValueError, match="does not exist"):
        read_dialogs(tmp_path / "nowhere.jsonl")
    with pytest.raises(ValueError, match="a name in"):
        read_dialogs(file("x", name="rows.csv"))


def test_a_pair_without_a_preference_is_told(file):
    rows = [
        {"prompt": "a", "chosen": "b", "rejected": c} for c in ("b", *"cdefghijklmnopqrstuvwxyz")
    ]
    account = RowAccount()
    assert len(read_pairs(file(*rows), account)) == 24
    assert account.reasons == {"no preference": 1}


def test_keys_that_nobody_reads_are_told(file):
    account = RowAccount()
    read_dialogs(file({**GOOD, "source": "x", "score": 1}, GOOD), account)
    assert account.unused == {"source": 1, "score": 1}
    assert any("source (1 rows)" in line for line in account.lines())


def test_the_held_out_share_goes_by_the_question(file):
    rows = [{"prompt": f"q{n}", "completion": c} for n in range(500) for c in "ab"]
    dialogs = read_dialogs(file(*rows))
    out = [dialog.held_out(0.1) for dialog in dialogs]
    assert out[::2] == out[1::2]
    assert 60 <= sum(out) <= 140
    assert not any(d.held_out(0) for d in dialogs) and all(d.held_out(1) for d in dialogs)


@pytest.mark.skipif(not REAL.is_dir(), reason="the public data sets are not here")
def test_real_sets_are_read_to_the_last_row():
    account = RowAccount()
    assert len(read_dialogs(REAL / "instructions.json", account)) == account.rows == 1100
    account = RowAccount()
    assert len(read_pairs(REAL / "preferences.json", account)) == 1094
    assert account.reasons == {"no preference": 6}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "prompt", "chosen", "rejected", "role", "content", "id", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ANYTHING, max_size=6), st.sampled_from([".json", ".jsonl"]), st.booleans())
def test_whatever_stands_in_a_file_every_row_is_accounted_for(
    tmp_path_factory, rows, suffix, pairs
):
    path = tmp_path_factory.mktemp("any") / f"rows{suffix}"
    lines = [json.dumps(row) for row in [*rows, GOOD]]
    text = "[" + ",\n".join(lines) + "]" if suffix == ".json" else "\n".join(lines)
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    account, found = RowAccount(), []
    try:
        found = (read_pairs if pairs else read_dialogs)(path, account, most_bad=1)
    except ValueError as error:
        assert "none of" in str(error)
    assert account.rows == len(rows) + 1 == len(found) + len(account.bad)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([".json", ".jsonl", ".jsonl.gz", ".json.gz"]))
def test_no_bytes_break_the_reader(tmp_path_factory, raw, suffix):
    path = tmp_path_factory.mktemp("bytes") / f"rows{suffix}"
    path.write_bytes(raw)
    account = RowAccount()
    with pytest.raises(ValueError, match="none of|is empty"):
        read_dialogs(path, account, most_bad=1)
    assert len(account.bad) == account.rows
