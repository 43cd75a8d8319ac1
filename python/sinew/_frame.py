"""Lazy DataFrames: DataFusion's verbs here, the rows on the server."""

from __future__ import annotations

import contextlib
import functools
import re
from typing import TYPE_CHECKING, Any

import datafusion
import pyarrow

from . import _wire
from ._error import Error
from ._names import Names, plain
from ._rows import Rows

if TYPE_CHECKING:
    import pandas
    import polars

    from ._connection import Connection

    _Verbs = datafusion.DataFrame
else:
    _Verbs = object

#: Verbs that would read or write here what is on the server.
_HERE = {"cache", "execution_plan", "write_csv", "write_json", "write_parquet", "write_parquet_with_options", "write_table"}
#: What a DataFrame of ours is made of.
_OWN = {"_connection", "_frame", "_relations", "_held"}
#: Nodes of a plan that travels as it is; the optimizer makes one of several filters and projections.
_LEVELS = 30


class DataFrame(_Verbs):
    """A DataFrame of ``datafusion`` over tables of the server.

    All verbs of ``datafusion.DataFrame`` (``filter``, ``select``, ``aggregate``, ``join``, ``sort``, ..) build the plan here and
    return another one of these. What needs rows (``collect``, ``to_pandas``, ``show``, ..) sends the plan to the server.
    """

    def __init__(
        self,
        connection: Connection,
        frame: datafusion.DataFrame,
        relations: dict[str, bytes],
        held: frozenset[object] = frozenset(),
    ) -> None:
        # `held` are temporary tables of the server: each is there until no DataFrame holds it any more.
        self._connection, self._frame, self._relations, self._held = connection, frame, relations, held

    # The plan.

    def __getattr__(self, name: str) -> Any:
        if name in _OWN:
            # Asked for before it is there, as when a copy is made.
            raise AttributeError(name)
        if name in _HERE:
            raise AttributeError(
                f"'{name}' does not run on the server; use to_arrow(), or Connection.sql with CREATE TABLE or COPY"
            )
        found = getattr(self._frame, name)
        return self._lifted(found) if callable(found) else found

    def __getitem__(self, key: Any) -> DataFrame:
        return self._lifted(self._frame.__getitem__)(key)

    def _lifted(self, verb: Any) -> Any:
        @functools.wraps(verb)
        def call(*args: Any, **options: Any) -> Any:
            relations, held = dict(self._relations), set(self._held)
            frames = [self, *(value for value in (*args, *options.values()) if isinstance(value, DataFrame))]
            names = Names(name for frame in frames for name in frame._frame.schema().names)
            given, named = names.arguments(verb.__name__, args, options)

            def lower(value: Any) -> Any:
                if isinstance(value, DataFrame):
                    relations.update(value._relations)
                    held.update(value._held)
                    return value._frame
                return value

            given, named = list(map(lower, given)), {k: lower(v) for k, v in named.items()}
            try:
                result = verb(*given, **named)
            except Exception as error:
                if not str(error).startswith("DataFusion error"):
                    raise
                result = self._again(verb, names, given, named, error)
            if not isinstance(result, datafusion.DataFrame):
                return result
            return DataFrame(self._connection, result, relations, frozenset(held))

        return call

    def _again(self, verb: Any, names: Names, args: list[Any], options: dict[str, Any], error: Exception) -> Any:
        """The verb once more, if it asks for a column in lower case that there is in capitals."""
        missing = re.search(r"No field named (\w+)", str(error))
        if missing and missing[1] in names.capitals:
            context = self._connection._context
            with contextlib.suppress(Exception):
                args = [names.expression(arg, context) for arg in args]
                return verb(*args, **{k: names.expression(v, context) for k, v in options.items()})
        raise Error(f"SINEW-3002: {plain(str(error))}", "SINEW-3002") from None

    def _plan(self) -> bytes:
        plan = self._frame.logical_plan()
        try:
            if plan.display_indent().count("\n") < _LEVELS:
                return plan.to_bytes()
        except Exception:
            # A subquery travels as the join that the optimizer makes of it.
            pass
        return self._frame.optimized_logical_plan().to_bytes()

    def _named(self, name: str) -> list[bytes]:
        """The relations of a statement that calls this `name`."""
        return [*self._relations.values(), _wire.relation(name, plan=self._plan())]

    # The rows.

    def execute_stream(self) -> pyarrow.RecordBatchReader:
        """The rows as they come."""
        return self._connection._stream(self._connection._plans("", self._named(self._connection._name())))

    def to_arrow(self) -> pyarrow.Table:
        """All rows as a pyarrow Table."""
        return self.execute_stream().read_all()

    def to_arrow_table(self) -> pyarrow.Table:
        """All rows as a pyarrow Table, as ``datafusion`` calls it."""
        return self.to_arrow()

    def collect(self) -> list[pyarrow.RecordBatch]:
        """All rows as batches."""
        return self.to_arrow().to_batches()

    def to_pandas(self) -> pandas.DataFrame:
        """All rows as a pandas DataFrame."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> polars.DataFrame:
        """All rows as a polars DataFrame."""
        return Rows(self.to_arrow()).to_polars()

    def to_pylist(self) -> list[dict[str, Any]]:
        """All rows as dictionaries."""
        return self.to_arrow().to_pylist()

    def to_pydict(self) -> dict[str, list[Any]]:
        """All columns as lists."""
        return self.to_arrow().to_pydict()

    def count(self) -> int:
        """The number of rows."""
        counted = self.aggregate([], [datafusion.functions.count_star().alias("n")])
        return counted.to_pylist()[0]["n"]

    def show(self, num: int = 20) -> None:
        """Prints the first rows."""
        print(Rows(self.limit(num).to_arrow_table()))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"<sinew.DataFrame of {self._connection.url}>\n{self._frame.logical_plan().display_indent()}"

    def _repr_html_(self) -> str:
        return Rows(self.limit(21).to_arrow_table())._repr_html_()
