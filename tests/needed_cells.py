"""Which cells of a notebook its exercises need, so that not every cell must run again.

The rule: an exercise is its cell and the cell that checks it. A cell needs, for each name that it
reads before binding it, the earlier cells that bind the name, back to the last one that does so
whatever happens, and those that changed what it stands for since: by assigning to a part of it
(`a.b = …`, `a[i] = …`) or by a call that stands alone (`a.append(…)`). Those cells have needs of
their own. Later cells that read what an exercise binds (imports aside) are taken too.

What the rule does not see are files, and arguments that a function changes. A notebook that
leans on them fails in the run with solutions, where its author sees it.
"""

import ast
import copy
import re
import symtable
from dataclasses import dataclass, field


@dataclass
class Names:
    """What a cell does with the names of the notebook."""

    reads: set[str] = field(default_factory=set)
    """Before the cell has bound them itself."""
    binds: set[str] = field(default_factory=set)
    """Whatever happens."""
    may_bind: set[str] = field(default_factory=set)
    """Inside `if`, `for`, `while`, `try`, `with` or `match`."""
    changes: set[str] = field(default_factory=set)
    imports: set[str] = field(default_factory=set)
    """Those of the bindings that are imports."""


def names_of(source: str) -> Names:
    """Reads, bindings and changes of a cell."""
    found = Names()
    _walk(ast.parse(source).body, found, found.binds, set())
    return found


def _walk(statements: list[ast.stmt], found: Names, binds: set[str], known: set[str]) -> None:
    """Add what these statements do; `known` are the names that this cell has bound before."""
    for statement in statements:
        blocks = [] if isinstance(statement, ast.FunctionDef | ast.ClassDef) else _blocks(statement)
        read, bound = _read_and_bound(_without(statement) if blocks else statement)
        found.reads |= read - known
        if isinstance(statement, ast.Import | ast.ImportFrom):
            found.imports |= bound
        if blocks:
            found.may_bind |= bound
            for block in blocks:
                _walk(block, found, found.may_bind, known | bound)
        else:
            found.changes |= _changed(statement)
            binds |= bound
            known |= bound


def _blocks(statement: ast.AST) -> list[list[ast.stmt]]:
    """The bodies of an `if`, `for`, `while`, `try`, `with` or `match`."""
    lists = [value for _, value in ast.iter_fields(statement) if isinstance(value, list) and value]
    parts = [p for v in lists for p in v if isinstance(p, ast.excepthandler | ast.match_case)]
    return [v for v in lists if isinstance(v[0], ast.stmt)] + [part.body for part in parts]


def _without(statement: ast.stmt) -> ast.stmt:
    """The statement with `pass` for its bodies."""
    bare = copy.deepcopy(statement)
    for block in _blocks(bare):
        block[:] = [ast.Pass()]
    return bare


def _read_and_bound(statement: ast.stmt) -> tuple[set[str], set[str]]:
    """Names that are looked up in the notebook, also from inside functions, and names bound."""
    table = symtable.symtable(ast.unparse(statement), "cell", "exec")
    read = {s.get_name() for s in table.get_symbols() if s.is_referenced()}
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
        read.add(statement.target.id)
    bound = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    inner = list(table.get_children())
    while inner:
        scope = inner.pop()
        inner += scope.get_children()
        read |= {s.get_name() for s in scope.get_symbols() if s.is_global()}
    return read, bound


def _changed(statement: ast.stmt) -> set[str]:
    """Names whose value a simple statement changes without binding them."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        parts = [statement.value.func]  # the receiver of a method
    else:
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        parts = [part for part in targets if part is not None]
    changed = set()
    for part in parts:
        if isinstance(part, ast.Attribute | ast.Subscript):
            changed |= {node.id for node in ast.walk(part.value) if isinstance(node, ast.Name)}
    return changed


def needed_cells(notebook: object) -> list[int]:
    """Numbers of the code cells that a run of the exercises takes, in order."""
    code, names = _code(notebook)
    exercises = [i for i, cell in code.items() if _is_exercise(cell)]
    checks = [i for i, cell in code.items() if re.search(r'^check\(\s*"', cell.source, re.M)]
    return _with_needs(exercises + checks + _readers(exercises, names), names)


def cells_for(notebook: object, text: str) -> list[int]:
    """Numbers of the code cells that hold a text, and of those they need, in order."""
    code, names = _code(notebook)
    return _with_needs([i for i, cell in code.items() if text in cell.source], names)


def _code(notebook: object) -> tuple[dict[int, object], dict[int, Names]]:
    code = {i: cell for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"}
    return code, {i: names_of(cell.source) for i, cell in code.items()}


def _with_needs(waiting: list[int], names: dict[int, Names]) -> list[int]:
    chosen: set[int] = set()
    while waiting:
        number = waiting.pop()
        if number not in chosen:
            chosen.add(number)
            for name in names[number].reads:
                waiting += _makers(name, number, names)
    return sorted(chosen)


def _is_exercise(cell: object) -> bool:
    return any(tag.startswith("exercise:") for tag in cell.metadata.get("tags", ()))


def _readers(exercises: list[int], names: dict[int, Names]) -> list[int]:
    """Cells that read what an exercise binds; that it imports a module changes nothing for them."""
    bound = {i: names[i].binds - names[i].imports for i in exercises}
    return [
        i
        for i, what in names.items()
        for name in what.reads
        if any(name in bound.get(maker, ()) for maker in _makers(name, i, names))
    ]


def _makers(name: str, before: int, names: dict[int, Names]) -> list[int]:
    """The earlier cells that have to do with what a name stands for."""
    makers = []
    for number in sorted((i for i in names if i < before), reverse=True):
        what = names[number]
        if name in what.binds | what.may_bind | what.changes:
            makers.append(number)
        if name in what.binds:
            break
    return makers
