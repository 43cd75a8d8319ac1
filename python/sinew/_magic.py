"""``%load_ext sinew``, and then ``%%sql`` in a notebook."""

from __future__ import annotations

from typing import Any

from ._connection import Connection
from ._rows import Rows

#: The connection that was made last.
current: Connection | None = None


def sql(line: str, cell: str | None = None) -> Rows | None:
    """``%%sql [name]`` runs the cell, and puts the rows into a variable of that name; ``%sql SELECT 1`` runs the line."""
    if current is None:
        raise RuntimeError("there is no connection; call sinew.connect(url) first")
    rows = current.sql(cell if cell is not None else line)
    if cell is not None and line.strip():
        from IPython import get_ipython  # type: ignore[attr-defined]

        get_ipython().user_ns[line.strip()] = rows  # type: ignore[no-untyped-call]
        return None
    return rows


def load_ipython_extension(ipython: Any) -> None:
    """Registers the magic."""
    ipython.register_magic_function(sql, magic_kind="line_cell", magic_name="sql")
