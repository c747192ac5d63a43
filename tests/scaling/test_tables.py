"""How point files are read: cells, rows and lines, and what is refused with its place."""

import pytest

from llama3lib.scaling import read_runs
from llama3lib.scaling.points import provenance


def table(folder, text, name="table.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("1e9,2e10,nan", "line 3: loss='nan'"),
        ("1e9,2e10,", "line 3: loss is missing"),
        ("1e9,2e10,inf", "line 3: loss='inf'"),
        ("-1,2e10,2.5", r"line 3: parameters=-1\.0"),
        ("1e9,many,2.5", "line 3: tokens='many' is not a number"),
        ("1e9,,2.5", "line 3: tokens is missing"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, named):
    path = tmp_path / "table.csv"
    path.write_text(f"parameters,tokens,loss\n1e9,2e10,2.5\n{row}\n")
    with pytest.raises(ValueError, match=named):
        read_runs(path)


def test_files_that_are_none_are_refused(tmp_path):
    for name, text in (("a.json", "{"), ("b.json", "3"), ("c.csv", ""), ("d.xls", "x")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=name):
            read_runs(tmp_path / name)
    with pytest.raises(ValueError, match="cannot be read"):
        read_runs(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            "parameters;tokens;loss\n1e8;2e9;3,1",
            "line 2: loss='3,1' is not allowed: commas are not",
        ),
        ("parameters;tokens;loss\n1,5;2e9;3", "line 2: parameters='1,5' is not allowed: commas"),
        ("parameters\ttokens\tloss\n1e8\t0,200\t3", "tokens='0,200'"),
        ('parameters,tokens,loss\n1e8,2e9,"1,500"', "loss='1,500'"),
        ('parameters,tokens,loss,nll\n1e8,2e9,3,"1,500"', "nll='1,500'"),
        ('parameters,tokens,loss,accuracy\n1e8,2e9,3,"1,000"', "accuracy='1,000'"),
        ('parameters,tokens,loss\n"1,00",2e9,3', "parameters='1,00'"),
    ],
)
def test_a_comma_is_never_dropped_in_silence(tmp_path, text, named):
    with pytest.raises(ValueError, match=named):
        read_runs(table(tmp_path, text))


def test_commas_between_thousands_are_read(tmp_path):
    path = table(tmp_path, 'parameters,tokens,loss\n"7,500,123","2,000.5",2.9\n')
    (run,) = read_runs(path)
    assert (run.parameters, run.tokens, run.loss) == (7500123, 2000.5, 2.9)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (
            "7,500,123,2e9,2.9",
            "line 3: 5 cells under 3 columns; a cell with ',' in it needs quotes",
        ),
        ("1e9,2e10,2.5,", "line 3: 4 cells under 3 columns"),
        ("1e9,2e10", "line 3: 2 cells under 3 columns$"),
        ('1e9,2e10,"2.5\n1e9,2e10,2.5', "line 3: cannot be read: unexpected end"),
        ("0,2e10,2.5", r"line 3: parameters=0\.0 is not allowed"),
    ],
)
def test_a_row_of_another_shape_is_refused(tmp_path, row, named):
    with pytest.raises(ValueError, match=named):
        read_runs(table(tmp_path, f"parameters,tokens,loss\n1e9,2e10,2.5\n{row}\n"))


@pytest.mark.parametrize(
    "above",
    ["\n", "# from a paper\n", "sep=;\n", '"sep=;"\n', "# a, b, c, d\n\n  \n", "#;\nsep=;\n"],
)
def test_lines_above_the_header_are_skipped_and_lines_counted(tmp_path, above):
    text = f'{above}parameters;tokens;loss;"note"\n1e9;2e10;2.5;"two\nlines"\n\n'
    (run,) = read_runs(table(tmp_path, text))
    assert (run.parameters, run.tokens, run.loss) == (1e9, 2e10, 2.5)
    line = text.count("\n") + 1
    with pytest.raises(ValueError, match=f"line {line}: loss='x'"):
        read_runs(table(tmp_path, f"{text}1e9;2e10;x;-\n"))


def test_the_sign_that_excel_names_is_taken(tmp_path):
    path = table(tmp_path, "sep=;\nparameters;tokens (a, b, c, d);loss\n1e9;2e10;2.5\n")
    assert read_runs(path, names={"tokens": "tokens (a, b, c, d)"})[0].tokens == 2e10
    path = table(tmp_path, "parameters\ttokens (a, b, c)\tloss\n1e9\t2e10\t2.5\n", "table.tsv")
    assert read_runs(path, names={"tokens": "tokens (a, b, c)"})[0].tokens == 2e10


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[{"parameters": 1' + "0" * 399 + ', "tokens": 1, "loss": 1}]', "row 1: parameters=1000"),
        ('[{"parameters": 1' + "0" * 9999 + ', "tokens": 1, "loss": 1}]', "digits"),
        ("[" * 200_000, "cannot be read"),
        ('[{"parameters": 1, "tokens": [1], "loss": 1}]', r"row 1: tokens=\[1\] is not a number"),
        ('[{"parameters": true, "tokens": 1, "loss": 1}]', "row 1: parameters=True"),
        ("[1]", "row 1: an object is needed"),
        ('[\n{"parameters": 1,}]', "at line 2, column"),
    ],
)
@pytest.mark.parametrize("read", [read_runs, provenance])
def test_odd_json_is_refused(tmp_path, text, named, read):
    path = table(tmp_path, text, "a.json")
    if read is provenance and "row 1" in named:
        assert provenance(path) == {}
        return
    with pytest.raises(ValueError, match=named) as told:
        read(path)
    assert "a.json" in str(told.value) and len(str(told.value)) < 400


def test_json_lines_end_at_line_ends_only(tmp_path):
    good = '{"parameters": 1e9, "tokens": 2e10, "loss": 2.5, "note": "a\u2028b\x85c"}\n'
    assert len(read_runs(table(tmp_path, good * 2, "a.jsonl"))) == 2
    for bad, named in (
        ("3", "line 4: an object"),
        ("{", "line 4, column 2"),
        ("{}", "line 4: para"),
    ):
        with pytest.raises(ValueError, match=named):
            read_runs(table(tmp_path, f"{good}\n{good}{bad}\n", "a.jsonl"))
