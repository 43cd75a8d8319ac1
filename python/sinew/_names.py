"""Names of columns as they were written.

SQL, and so DataFusion, takes a name without quotes for lower case: ``Age`` is ``age``. Frames of pandas and polars have
capitals in their columns' names, and nobody writes quotes there. So a name that no column has, while one has it in
capitals, means that one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import datafusion

#: Texts and quoted names, which stay as they are, and words.
_WORDS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[A-Za-z_][A-Za-z0-9_]*""")
#: Names that DataFrames of ours have as tables.
_OWN = re.compile(r"\b(?:dataframe_[0-9a-f]{32}|__dataframe_\d+)\.")
#: What of a verb's arguments is no name of a column that is there, and no expression.
_NEW = {
    "alias": (0, "alias"),
    "fill_nan": (0, "value"),
    "fill_null": (0, "value"),
    "with_column": (0, "name"),
    "with_column_renamed": (1, "new_name"),
}


class Names:
    """The columns that a name in lower case stands for."""

    def __init__(self, columns: Iterable[str]) -> None:
        known = [name for name in columns if isinstance(name, str)]
        folded = [name.lower() for name in known]
        self.capitals = {
            low: name for low, name in zip(folded, known) if low != name and low not in known and folded.count(low) == 1
        }

    def text(self, text: str) -> str:
        """A name or an expression in SQL, with quotes around the names of columns that have capitals."""
        if not self.capitals:
            return text
        known = set(self.capitals.values())
        return _WORDS.sub(lambda word: f'"{word[0]}"' if word[0] in known else word[0], text)

    def arguments(self, verb: str, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a verb; texts in them are names and expressions."""
        at, name = _NEW.get(verb, (-1, ""))
        return (
            [arg if i == at else self._value(arg) for i, arg in enumerate(args)],
            {key: value if key == name else self._value(value) for key, value in options.items()},
        )

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._value, value))
        return value

    def expression(self, value: Any, context: datafusion.SessionContext) -> Any:
        """The same for expressions, whose names are in lower case by now."""
        if isinstance(value, (list, tuple)):
            return type(value)(self.expression(element, context) for element in value)
        if isinstance(value, datafusion.expr.SortExpr):
            inner = self.expression(value.expr(), context)
            return inner.sort(ascending=value.ascending(), nulls_first=value.nulls_first())
        if not isinstance(value, datafusion.Expr):
            return value
        message = value.to_bytes()
        for low, name in self.capitals.items():
            # A column without a table, in DataFusion's protobuf; both names have as many bytes.
            old, new = low.encode(), name.encode()
            if len(old) == len(new) < 126:
                head = bytes([0x0A, len(old) + 2, 0x0A, len(old)])
                message = message.replace(head + old, head + new)
        return datafusion.Expr.from_bytes(message, context)


def plain(text: str) -> str:
    """What DataFusion says, in one line, with the names that the user knows."""
    text = _OWN.sub("", text.removeprefix("DataFusion error: "))
    for start in ("Schema error: ", "Error during planning: "):
        text = text.removeprefix(start)
    text = re.sub(r"\s*Column names are case sensitive\. You can use double quotes[^\n]*", "", text)
    return re.sub(r"\s*\n\s*", " ", text).strip()
