"""Bring a new edition of a chapter into a learner's copy: three ways, cell by cell, by cell id.

Base is the chapter as it was when it was copied, mine the learner's copy, new the new edition.
Whoever alone changed a cell is followed. Where both did, lines are joined if they can be; if not,
an answer or a text stays the learner's and a cell below holds the new one, while of other code the
new one runs, for the rest of the chapter needs it, and a cell below holds the learner's.
Nothing that a learner wrote is dropped.
"""

import copy
import hashlib
import re
import uuid
from collections.abc import Iterable
from difflib import SequenceMatcher

from nbformat import NotebookNode

_EXERCISE = "exercise:"

Cells = list[NotebookNode]


def cleared(cells: Iterable[NotebookNode]) -> Cells:
    """A copy of cells as if never run."""
    made = copy.deepcopy(list(cells))
    for cell in made:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    return made


def same(one: NotebookNode, other: NotebookNode) -> bool:
    """Whether two cells say the same, whatever they show."""
    return _content(one) == _content(other)


def merge(base: Cells, mine: Cells, new: Cells) -> tuple[Cells, list[str]]:
    """The learner's cells with the new edition brought in, and a line for each doubtful case."""
    mine = _with_known_ids(mine, base)
    old, own = _by_id(base), _by_id(mine)
    placed: dict[str, Cells] = {"": []}  # cells that stand together, by the chapter's own cell
    told = []
    for cell in cleared(new):
        cells, line = _one(old.get(cell.id), own.get(cell.id), cell)
        # a cell put below at an earlier try, which ended before the base was renewed, is there
        cells = [c for c in cells if c.id == cell.id or c.id not in own]
        if cells:
            placed[cell.id] = cells
        told += [f"{_name(cell)}: {line}"] if line else []
    anchor, wanted = "", _by_id(new)
    for cell in mine:
        if cell.id in placed:
            anchor = cell.id
        elif cell.id not in wanted and not (cell.id in old and same(cell, old[cell.id])):
            placed[anchor].append(cell)
            if cell.id in old:
                told.append(f"{_name(cell)}: the new edition no longer has it; yours is kept")
    if _moved(base, mine, placed):
        told.append("cells that you moved stand in the chapter's order again")
    made = [cell for cells in placed.values() for cell in cells]
    return _without_stale_outputs(made, old, wanted), told


def _without_stale_outputs(
    cells: Cells, old: dict[str, NotebookNode], new: dict[str, NotebookNode]
) -> Cells:
    """Clear the chapter's cells below its first changed code: a new question may stand there."""
    changed = {i for i, cell in new.items() if i not in old or not same(old[i], cell)}
    code = (n for n, c in enumerate(cells) if c.cell_type == "code" and c.id in changed)
    first = next(code, len(cells))
    below = [cleared([cell])[0] if cell.id in new else cell for cell in cells[first:]]
    return cells[:first] + below


def _one(
    base: NotebookNode | None, mine: NotebookNode | None, new: NotebookNode
) -> tuple[Cells, str]:
    """What stands in the place of one cell of the new edition, and what is to be told of it."""
    if mine is None:
        if base is None:
            return [new], ""
        if same(base, new) and _tags(base) == _tags(new):
            return [], ""  # the learner deleted it
        return [new], "you had deleted it; it is back, for it has changed"
    labels = _labels(base, mine, new)
    if same(mine, new) or (base is not None and same(base, new)):
        return [_but(mine, metadata=labels)], ""
    if base is not None and same(base, mine):
        return [_but(new, metadata=labels)], ""
    joined = _joined(base, mine, new)
    if joined is not None:
        made = _but(mine, metadata=labels, source=joined)
        return cleared([made]), "your changes and those of the new edition are joined"
    if new.cell_type == "code" and not _exercises(new):
        below = _below(mine, "**Your version** of the cell above, which the new edition changed:")
        made = _but(new, metadata=labels)
        return [made, below], "you and the new edition changed it; yours is in the cell below it"
    below = _below(new, "**The new edition says here** (your own version stands above):")
    made = _but(mine, metadata=labels)
    return [made, below], "you and the new edition changed it; yours stays, the new one is below it"


def _joined(base: NotebookNode | None, mine: NotebookNode, new: NotebookNode) -> str | None:
    """Both changes of a cell in one text; None if they meet in the same lines."""
    if base is None or len({base.cell_type, mine.cell_type, new.cell_type}) > 1:
        return None
    if any("attachments" in cell for cell in (base, mine, new)):
        return None
    lines = base.source.split("\n")
    edits = {edit for cell in (mine, new) for edit in _edits(lines, cell.source.split("\n"))}
    later = (len(lines) + 1, len(lines) + 1)
    for start, end, text in sorted(edits, reverse=True):  # from the end: earlier lines keep place
        inserts = start == end or later[0] == later[1]
        if end > later[0] or (end == later[0] and inserts):
            return None
        lines[start:end] = text
        later = (start, end)
    return "\n".join(lines)


def _edits(lines: list[str], other: list[str]) -> list[tuple[int, int, tuple[str, ...]]]:
    """What makes the other text of these lines: first line, line after the last, new lines."""
    found = SequenceMatcher(None, lines, other, autojunk=False).get_opcodes()
    return [(a, b, tuple(other[c:d])) for kind, a, b, c, d in found if kind != "equal"]


def _labels(base: NotebookNode | None, mine: NotebookNode, new: NotebookNode) -> NotebookNode:
    """Metadata of the cell: tags of the new edition, and what the learner added."""
    before = _tags(base) if base is not None else []
    added = [tag for tag in _tags(mine) if tag not in [*before, *_tags(new)]]
    tags = _tags(new) + [tag for tag in added if not tag.startswith(_EXERCISE)]
    made = {**mine.metadata, **new.metadata, "tags": tags}
    return NotebookNode(made if tags else {k: v for k, v in made.items() if k != "tags"})


def _below(cell: NotebookNode, title: str) -> NotebookNode:
    """A version of a cell as text that does not run, under a title."""
    text = cell.source
    if cell.cell_type == "code":
        fence = "`" * (max([2, *map(len, re.findall("`+", text))]) + 1)
        text = f"{fence}python\n{text}\n{fence}"
    digest = hashlib.sha256(cell.source.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    made = {"cell_type": "markdown", "id": f"{cell.id[:50]}-{digest}", "metadata": {}}
    made |= {"attachments": cell.attachments} if "attachments" in cell else {}
    return NotebookNode(made, source=f"{title}\n\n{text}")


def _with_known_ids(cells: Cells, base: Cells) -> Cells:
    """Cells with ids, each once. Some editors drop ids: then text or exercise says which it is."""
    cells = copy.deepcopy(cells)
    seen: set[str] = set()
    for cell in cells:
        if not cell.get("id") or cell.id in seen:
            cell.id = uuid.uuid4().hex[:8]
        seen.add(cell.id)
    known = {cell.id for cell in base}
    missing = [cell for cell in base if cell.id not in seen and cell.source.strip()]
    for cell in (cell for cell in cells if cell.id not in known):
        for old in missing:
            if same(cell, old) or (_exercises(cell) and _exercises(cell) == _exercises(old)):
                cell.id = old.id
                missing.remove(old)
                break
    return cells


def _moved(base: Cells, mine: Cells, placed: dict[str, Cells]) -> bool:
    """Whether the learner's copy has the chapter's cells in another order than it came in."""
    there = [cell.id for cell in mine if cell.id in placed]
    return [c.id for c in base if c.id in there] != [i for i in there if i in _by_id(base)]


def _name(cell: NotebookNode) -> str:
    """How a cell is spoken of: its exercise, or its first words."""
    if exercises := _exercises(cell):
        return f"exercise {exercises[0]}"
    first = next((line.strip() for line in cell.source.splitlines() if line.strip()), "(empty)")
    return f"cell “{first if len(first) <= 50 else first[:49] + '…'}”"


def _exercises(cell: NotebookNode) -> list[str]:
    return [tag.removeprefix(_EXERCISE) for tag in _tags(cell) if tag.startswith(_EXERCISE)]


def _tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _content(cell: NotebookNode) -> tuple:
    return cell.cell_type, cell.source, cell.get("attachments") or {}


def _by_id(cells: Cells) -> dict[str, NotebookNode]:
    return {cell.id: cell for cell in cells}


def _but(cell: NotebookNode, **changes: object) -> NotebookNode:
    return NotebookNode(copy.deepcopy(dict(cell)) | changes)
