"""Results: rows that are here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow

if TYPE_CHECKING:
    import pandas
    import polars


class Rows:
    """The rows of a statement: a pyarrow Table, with ways to pandas and polars.

    Everything that a ``pyarrow.Table`` has works here too, and so does every library that reads Arrow
    (``__arrow_c_stream__``).
    """

    def __init__(self, table: pyarrow.Table) -> None:
        self._table = table

    def to_arrow(self) -> pyarrow.Table:
        """The rows as a pyarrow Table."""
        return self._table

    def to_pandas(self, **options: Any) -> pandas.DataFrame:
        """The rows as a pandas DataFrame; options are those of ``pyarrow.Table.to_pandas``."""
        return self._table.to_pandas(**options)

    def to_polars(self) -> polars.DataFrame:
        """The rows as a polars DataFrame."""
        import polars

        return polars.from_arrow(self._table)  # type: ignore[return-value]

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)

    def __getattr__(self, name: str) -> Any:
        if name == "_table":
            # Asked for before it is there, as when a copy is made.
            raise AttributeError(name)
        return getattr(self._table, name)

    def __reduce__(self) -> tuple[type[Rows], tuple[pyarrow.Table]]:
        return Rows, (self._table,)

    def __getitem__(self, key: Any) -> Any:
        return self._table[key]

    def __len__(self) -> int:
        return self._table.num_rows

    def __repr__(self) -> str:
        columns, rows = self._table.column_names, self._table.slice(0, 20).to_pylist()
        if not columns:
            return "done"
        cells = [columns] + [["" if row[c] is None else str(row[c]) for c in columns] for row in rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
        lines.insert(1, "  ".join("-" * width for width in widths))
        more = len(self) - len(rows)
        return "\n".join(lines + ([f"... and {more} more rows"] if more else []))

    def _repr_html_(self) -> str:
        from html import escape

        columns, rows = self._table.column_names, self._table.slice(0, 20).to_pylist()
        head = "".join(f"<th>{escape(c)}</th>" for c in columns)
        cells = (["" if row[c] is None else escape(str(row[c])) for c in columns] for row in rows)
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells)
        more = len(self) - len(rows)
        return f"<table><tr>{head}</tr>{body}</table>" + (f"<p>... and {more} more rows</p>" if more else "")
