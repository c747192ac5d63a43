"""What a view shows in one state, beside the pieces on its paper."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Title, notes, table, and what a screen reader hears.

    Raises ValueError if there is no title, or if the rows differ in their keys.
    """

    title: str
    """The finding, in one line: what to see here."""
    notes: Sequence[str] = ()
    """The first is shown below the picture, the others are folded."""
    table: Sequence[dict[str, object]] = ()
    """The numbers of the picture, as rows with the same keys."""
    say: str | None = None
    """Read out after a move; the title if left out."""
    code: tuple[str, str, Sequence[int]] | None = None
    """Source behind the picture, folded: where it stands, its text, the lines (from 0) to mark."""
    facts: dict[str, object] = field(default_factory=dict)
    """Numbers of this state by name, for tests and pages that read the view."""

    def __post_init__(self) -> None:
        if not self.title.strip():
            raise ValueError(f"title={self.title!r} is not allowed: a scene needs one")
        if any(list(row) != list(self.table[0]) for row in self.table):
            raise ValueError("table is not allowed: all rows need the same keys")
