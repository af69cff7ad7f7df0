"""Tables that fit: what is too wide is laid out otherwise, and nothing in it is ever cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

COLUMN_GAP = 3
INDENT = 2


def fitted(
    columns: Sequence[str], rows: Sequence[Sequence[str]], fixed: int, width: int, left: int | None = None
) -> Iterator[RenderableType]:
    """The table, in `width` columns of the terminal: whole, or in blocks that repeat its first `fixed` columns.

    Where those and one more do not fit, each row becomes a block with a line for each of its cells. The first `left`
    columns are text, the others numbers; by default those that repeat.
    """
    fixed = min(fixed, len(columns) - 1)
    left = fixed if left is None else left
    sizes = [max(cell_len(row[index]) for row in [columns, *rows]) + COLUMN_GAP for index in range(len(columns))]
    lead = sum(sizes[:fixed])
    if lead + max(sizes[fixed:], default=0) > width:
        yield from _stacked(columns, rows, fixed, width)
        return
    start = fixed
    while start < len(columns):
        stop, used = start, lead
        while stop < len(columns) and used + sizes[stop] <= width:
            used += sizes[stop]
            stop += 1
        if start > fixed:
            yield ""
        chosen = [*range(fixed), *range(start, stop)]
        yield _table(
            [columns[i] for i in chosen], [[row[i] for i in chosen] for row in rows], sum(i < left for i in chosen)
        )
        start = stop


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(columns):
        table.add_column(Text(name), justify="left" if index < left else "right", no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    return table


def _stacked(columns: Sequence[str], rows: Sequence[Sequence[str]], fixed: int, width: int) -> Iterator[RenderableType]:
    """A block for each row: its first cells as a title, then the name and the value of each other cell."""
    names = columns[fixed:]
    names_width = max(map(cell_len, names), default=0)
    values_width = max((cell_len(cell) for row in rows for cell in row[fixed:]), default=0)
    on_one_line = INDENT + names_width + COLUMN_GAP + values_width <= width
    for index, row in enumerate(rows):
        if index:
            yield ""
        title = [cell for cell in row[:fixed] if cell]
        line = ", ".join(title)
        yield from (Text(part, style="bold") for part in ([line] if cell_len(line) <= width else title))
        for name, value in zip(names, row[fixed:], strict=True):
            if on_one_line:
                gap = " " * (names_width - cell_len(name) + COLUMN_GAP + values_width - cell_len(value))
                yield Text(f"{' ' * INDENT}{name}{gap}{value}")
            else:
                yield Padding(Text(name), (0, 0, 0, INDENT), expand=False)
                yield Padding(Text(value), (0, 0, 0, 2 * INDENT), expand=False)
