"""The rule by which the run with solutions leaves cells out."""

import nbformat
import pytest
from needed_cells import names_of, needed_cells


@pytest.mark.parametrize(
    ("source", "reads", "binds", "may_bind", "changes"),
    [
        ("a = b + c", "b c", "a", "", ""),
        ("a = 1\nb = a", "", "a b", "", ""),
        ("a = a + 1", "a", "a", "", ""),
        ("a += 1", "a", "a", "", ""),
        ("a, (b, *c) = d", "d", "a b c", "", ""),
        ("import a.b\nfrom c import d as e", "", "a e", "", ""),
        ("def f(x=a):\n    y = x + b\n    return y", "a b", "f", "", ""),
        ("class A(B):\n    n = 1", "B", "A", "", ""),
        ("f = lambda x: x + a", "a", "f", "", ""),
        ("a = [x + y for x in xs]", "xs y", "a", "", ""),
        ("for x in xs:\n    y = x", "xs", "", "x y", ""),
        ("if a:\n    b = 1\nelse:\n    c = b", "a b", "", "b c", ""),
        ("with f() as g:\n    h = g.x", "f", "", "g h", ""),
        ("try:\n    a = b\nexcept E as e:\n    c = e", "E b", "", "a c e", ""),
        ("while a:\n    a.pop()", "a", "", "", "a"),
        ("a.append(b)", "a b", "", "", "a"),
        ("a.b.c(d)", "a d", "", "", "a"),
        ("(a / b).write(c)", "a b c", "", "", "a b"),
        ("a[b] = c\nd.e = f", "a b c d f", "", "", "a d"),
        ("print(a)", "a print", "", "", ""),
    ],
)
def test_what_a_cell_does_with_names(source, reads, binds, may_bind, changes):
    found = names_of(source)
    assert found.reads == set(reads.split())
    assert found.binds == set(binds.split())
    assert found.may_bind == set(may_bind.split())
    assert found.changes == set(changes.split())


def book(*cells):
    """Code cells; one that begins with `exercise` is the exercise 00.1."""
    made = nbformat.v4.new_notebook()
    for source in cells:
        tags = ["exercise:00.1"] if "exercise" in source.split("\n")[0] else []
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": tags})
        made.cells += [nbformat.v4.new_markdown_cell("words"), cell]
    return made


def taken(*cells):
    """Numbers of the code cells that are taken, from 0."""
    return [(number - 1) // 2 for number in needed_cells(book(*cells))]


EXERCISE, CHECK = "# exercise\ndef f():\n    return rows", 'check("00.1", f)'


@pytest.mark.parametrize(
    ("before", "needed"),
    [
        (["from w import check", "other = 1", "rows = [1]"], [0, 2]),
        (["rows = [1]", "rows = [2]"], [1]),  # the last binding is enough
        (["rows = [1]", "rows = rows + [2]"], [0, 1]),
        (["rows = [1]", "if rows:\n    rows = [2]"], [0, 1]),
        (["rows = [1]", "rows.append(2)", "print(rows)"], [0, 1]),
        (["a = 1", "rows = []", "for n in a:\n    rows[n] = n"], [0, 1, 2]),
        (["rows.append(1)", "rows = [2]"], [1]),
    ],
)
def test_what_an_exercise_needs(before, needed):
    both = [len(before), len(before) + 1]
    assert taken(*before, EXERCISE, CHECK) == needed + both


def test_later_cells_that_read_what_an_exercise_binds_are_taken():
    later = ["print(rows)", "print(f(), more)", "f = 3", "print(f)"]
    assert taken("more = 1", "rows = [1]", EXERCISE, CHECK, *later) == [0, 1, 2, 3, 5]
    assert taken("# exercise\nimport rows", "print(rows)") == [0]


def test_checks_are_taken_wherever_they_stand():
    cells = ["a = 1", '# stuck?\ncheck("00.1", a)', "checks = 3", "text = 'check(\"00.1\"'"]
    assert taken(*cells) == [0, 1]
