"""Tables in Markdown."""

from collections.abc import Collection, Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[str] = ()) -> str:
    """A table of written cells.

    Args:
        header: The columns' names.
        rows: A cell a column.
        right: Names of the columns that are set to the right.
    """
    rule = ["---:" if name in right else "---" for name in header]
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, rule, *rows))
