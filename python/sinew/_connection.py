"""A connection: statements, tables, rows and models of a server."""

from __future__ import annotations

import collections
import contextlib
import ipaddress
import itertools
import re
import sys
import time
import uuid
import warnings
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias
from urllib.parse import urlsplit

import adbc_driver_flightsql.dbapi
import datafusion
import pyarrow
from pyarrow import flight

from . import _wire
from ._error import Error, SinewWarning, told
from ._frame import DataFrame
from ._names import Names
from ._rows import Rows
from ._values import literal

if TYPE_CHECKING:
    import pandas
    import polars
    from adbc_driver_manager import dbapi

    #: What rows can come from: a DataFrame of the server, the name of a table, a query, or rows that are here.
    Data: TypeAlias = (
        DataFrame
        | str
        | dict[str, list[Any]]
        | pyarrow.Table
        | pyarrow.RecordBatch
        | pandas.DataFrame
        | polars.DataFrame
        | Rows
    )

#: The major version of DataFusion, which the server must have too.
DATAFUSION = int(datafusion.__version__.split(".")[0])


@dataclass(frozen=True)
class Trained:
    """A model that was trained."""

    model: str
    version: int
    run: str
    #: A row for each iteration.
    iterations: pyarrow.Table
    #: On the rows that were held out; empty where there were none.
    metrics: dict[str, float]
    #: What it warns of; each was also given to ``warnings.warn`` as a :class:`SinewWarning`.
    warnings: tuple[str, ...] = ()


class _Headers(flight.ClientMiddlewareFactory):
    """Sends who we are, and keeps the session that the server gives."""

    def __init__(self) -> None:
        self.authorization: str | None = None
        self.cookie: str | None = None

    def start_call(self, info: object) -> _Call:
        return _Call(self)


class _Call(flight.ClientMiddleware):
    def __init__(self, headers: _Headers) -> None:
        self.headers = headers

    def sending_headers(self) -> dict[str, str]:
        known = {"cookie": self.headers.cookie, "authorization": self.headers.authorization}
        return {name: value for name, value in known.items() if value}

    def received_headers(self, headers: dict[str, Sequence[str]]) -> None:
        for name, values in headers.items():
            if name.lower() == "set-cookie" and values:
                self.headers.cookie = str(values[0]).split(";")[0]


def quoted(name: str) -> str:
    """A name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def _is_here(host: str) -> bool:
    """Whether what is sent to a host stays on this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Held:
    """A temporary table of the server, until nothing refers to this."""


def _model(reference: str) -> str:
    name, at, version = reference.partition("@")
    return quoted(name) + at + version


class Connection:
    """A session on a server. Use :func:`sinew.connect` to make one; a ``with`` block closes it."""

    def __init__(
        self,
        url: str,
        user: str | None,
        password: str | None,
        token: str | None,
        tls_ca: str | None,
        allow_plaintext: bool,
    ) -> None:
        parts = urlsplit(url if "://" in url else "grpc://" + url)
        tls = parts.scheme in ("grpcs", "grpc+tls", "https") or tls_ca is not None
        tls = tls or (parts.scheme == "flightsql" and "transport=tcp" not in parts.query)
        scheme = "grpc+tls" if tls else "grpc+tcp"
        name = parts.hostname or "127.0.0.1"
        host = f"[{name}]" if ":" in name else name
        self.url = f"{scheme}://{host}:{parts.port or 50051}"
        says_who = user is not None or token is not None
        if says_who and not tls and not _is_here(name) and not allow_plaintext:
            text = f"{self.url} is not encrypted and another machine, so no password or token is sent there"
            raise Error(f"SINEW-3707: {text}; use grpcs://, or allow it with allow_plaintext=True", "SINEW-3707")
        self._headers, self._ca = _Headers(), None
        if tls_ca is not None:
            with open(tls_ca, "rb") as file:
                self._ca = file.read()
        self._client = flight.FlightClient(self.url, middleware=[self._headers], tls_root_certs=self._ca)
        self._adbc: dbapi.Connection | None = None
        # A context that knows names and columns; its plans never run here.
        config = datafusion.SessionConfig().with_default_catalog_and_schema("sinew", "public")
        self._context = datafusion.SessionContext(config)
        self._names = (f"__dataframe_{i}" for i in itertools.count(1))
        # Temporary tables that nothing refers to any more.
        self._unused: collections.deque[str] = collections.deque()
        with told(self.url, connecting=True):
            if user is not None:
                _, bearer = self._client.authenticate_basic_token(user, password or "")
                self._headers.authorization = bearer.decode()
            elif token is not None:
                self._headers.authorization = f"Bearer {token}"
            self._reader(_wire.statement("SELECT 1")).read_all()

    # Statements.

    def sql(self, text: str, parameters: Sequence[object] | None = None) -> Rows:
        """Runs a statement, and returns its rows; ``?`` or ``$1`` in it stand for parameters."""
        if parameters is None:
            table = self._table(_wire.statement(text))
        else:
            with told(self.url), self.adbc.cursor() as cursor:
                cursor.execute(text, list(parameters))
                table = cursor.fetch_arrow_table()
        trained = _published(table)
        if trained is not None:
            _warn(self._described(*trained)[1])
        return Rows(table)

    def query(self, text: str) -> DataFrame:
        """A query as a lazy DataFrame; functions of models can be used in it."""
        return self._defined(text, {})

    def table(self, name: str) -> DataFrame:
        """A table of the server, or files named by a path there, as a lazy DataFrame."""
        query = f"SELECT * FROM {quoted(name)}"
        # Other names do not travel in DataFusion's plans: columns are written without quotes.
        if not re.fullmatch("[a-z_][a-z0-9_]*", name):
            return self._defined(query, {})
        return self._known(name, self._schema(_wire.statement(query)), {})

    def ingest(self, name: str, data: Data, mode: str = "create", temporary: bool = False) -> int:
        """Stores rows as a table, and returns their number.

        ``mode`` is ``create``, ``append``, ``replace`` or ``create_append``; a temporary table ends with the session.
        """
        if mode not in _wire.MODES:
            raise ValueError(f"mode = {mode!r} is not one of {', '.join(_wire.MODES)}")
        table = _arrow(data)
        descriptor = flight.FlightDescriptor.for_command(_wire.ingest(name, mode, temporary))
        with told(self.url):
            writer, answer = self._client.do_put(descriptor, table.schema)
            with writer:
                for batch in table.to_batches(max_chunksize=65_536):
                    writer.write_batch(batch)
                writer.done_writing()
                answer.read()
        return table.num_rows

    def frame(self, data: Data) -> DataFrame:
        """Rows that are here as a lazy DataFrame: they are sent to the server as a temporary table.

        The server drops it when this DataFrame, and those made of it, are gone.
        """
        name, held = f"dataframe_{uuid.uuid4().hex}", _Held()
        # Dropped with the next statement: a finalizer may run while another one is under way.
        weakref.finalize(held, self._unused.append, name).atexit = False
        self._drop_unused()
        self.ingest(name, data, temporary=True)
        return self._known(name, self._schema(_wire.statement(f"SELECT * FROM {name}")), {}, frozenset([held]))

    # Models.

    def train(
        self,
        data: Data,
        *,
        model: str,
        family: str,
        predict: str | None = None,
        weight_by: str | None = None,
        split: str | float | None = None,
        progress: bool | None = None,
        **options: object,
    ) -> Trained:
        """Trains a model: ``TRAIN MODEL model USING family PREDICT predict OPTIONS (..)`` over the data.

        ``split`` is the fraction of rows to hold out, or what follows SPLIT in SQL. ``progress`` shows a line that
        changes while the training runs; by default on a terminal and in a notebook. Interrupting it cancels it.
        """
        statement = f"TRAIN MODEL {quoted(model)} USING {quoted(family)}"
        if predict is not None:
            statement += f" PREDICT {quoted(predict)}"
        names = Names(_columns(data))
        if weight_by is not None:
            statement += f" WEIGHT BY {names.text(weight_by)}"
        if split is not None:
            statement += f" SPLIT {names.text(split) if isinstance(split, str) else 'RANDOM ' + literal('split', split)}"
        if options:
            statement += f" OPTIONS ({', '.join(f'{quoted(k)} = {literal(k, v)}' for k, v in options.items())})"
        name, relations, held = self._source(data)
        line = _Progress(model, sys.stderr if _watched(progress) else None)
        batches = []
        with told(self.url), line:
            rows = self._reader(self._plans(f"{statement} FROM {name}", relations))
            try:
                for chunk in rows:
                    batches.append(chunk.data)
                    line.show(chunk.data)
            except BaseException:
                rows.cancel()
                raise
            iterations = pyarrow.Table.from_batches(batches, rows.schema)
        del held
        version = iterations["version"].drop_null()[-1].as_py()
        metrics, warned = self._described(model, version)
        _warn(warned)
        return Trained(model, version, iterations["run"][-1].as_py(), iterations, metrics, warned)

    def predict(self, data: Data, model: str, threshold: float | None = None) -> DataFrame:
        """The rows with the model's prediction, as a lazy DataFrame; ``model`` may name a version, as in ``churn@3``."""
        setting = "" if threshold is None else f", STRUCT({literal('threshold', threshold)} AS threshold)"
        name, relations, held = self._source(data)
        query = f"SELECT * FROM ML.PREDICT(MODEL {_model(model)}, TABLE {name}{setting})"
        return self._defined(query, {f"{name}/{i}": r for i, r in enumerate(relations)}, held)

    def evaluate(self, data: Data, model: str) -> dict[str, float]:
        """How well the model does on the rows."""
        name, relations, held = self._source(data)
        query = f"SELECT * FROM ML.EVALUATE(MODEL {_model(model)}, TABLE {name})"
        found = self._table(self._plans(query, relations)).to_pylist()[0]
        del held
        self._drop_unused()
        return {metric: value for metric, value in found.items() if value is not None}

    def models(self) -> Rows:
        """The models of the server, a row each."""
        return self.sql("SHOW MODELS")

    # Other libraries.

    @property
    def adbc(self) -> dbapi.Connection:
        """This session as a DB-API connection, for pandas, polars and others that take one."""
        if self._adbc is None:
            prefix = "adbc.flight.sql.rpc.call_header."
            options = {prefix + "cookie": self._headers.cookie or ""}
            if self._headers.authorization:
                options["adbc.flight.sql.authorization_header"] = self._headers.authorization
            if self._ca:
                options["adbc.flight.sql.client_option.tls_root_certs"] = self._ca.decode()
            self._adbc = adbc_driver_flightsql.dbapi.connect(self.url, db_kwargs=options, autocommit=True)
        return self._adbc

    def close(self) -> None:
        """Ends the session; its temporary tables and running statements end with it."""
        if self._adbc is not None:
            self._adbc.close()
        with contextlib.suppress(pyarrow.ArrowException, OSError):
            list(self._client.do_action(flight.Action("CloseSession", b"")))
        self._client.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<sinew.Connection to {self.url}>"

    # What they stand on.

    def _name(self) -> str:
        return next(self._names)

    def _plans(self, statement: str, relations: list[bytes]) -> bytes:
        return _wire.plans(DATAFUSION, statement, relations)

    def _reader(self, command: bytes) -> flight.FlightStreamReader:
        self._drop_unused()
        return self._client.do_get(flight.Ticket(command))

    def _drop_unused(self) -> None:
        while self._unused:
            # It goes with the session at the latest.
            with contextlib.suppress(IndexError, pyarrow.ArrowException, OSError):
                name = self._unused.popleft()
                self._context.deregister_table(quoted(name))
                self._client.do_get(flight.Ticket(_wire.statement(f"DROP TABLE IF EXISTS {name}"))).read_all()

    def _described(self, model: str, version: int) -> tuple[dict[str, float], tuple[str, ...]]:
        """The metrics of a version, and what its training warned of."""
        described = self._table(_wire.statement(f"DESCRIBE MODEL {quoted(model)}@{version}")).to_pylist()
        known = [(row["property"], row["value"]) for row in described if row["value"] is not None]
        metrics = {name[7:]: float(value) for name, value in known if name.startswith("metric ")}
        return metrics, tuple(value for name, value in known if name == "warning")

    def _stream(self, command: bytes) -> pyarrow.RecordBatchReader:
        with told(self.url):
            reader = self._reader(command)

        def batches() -> Any:
            with told(self.url):
                for chunk in reader:
                    yield chunk.data

        return pyarrow.RecordBatchReader.from_batches(reader.schema, batches())

    def _table(self, command: bytes) -> pyarrow.Table:
        with told(self.url):
            return self._reader(command).read_all()

    def _schema(self, command: bytes) -> pyarrow.Schema:
        with told(self.url):
            return self._client.get_schema(flight.FlightDescriptor.for_command(command)).schema

    def _known(
        self, name: str, schema: pyarrow.Schema, relations: dict[str, bytes], held: frozenset[object] = frozenset()
    ) -> DataFrame:
        self._context.deregister_table(quoted(name))
        self._context.register_listing_table(quoted(name), "sinew://table/", schema=schema, file_extension=".sinew")
        return DataFrame(self, self._context.table(quoted(name)), relations, held)

    def _defined(self, query: str, relations: dict[str, bytes], held: frozenset[object] = frozenset()) -> DataFrame:
        name = self._name()
        relations = {**relations, name: _wire.relation(name, query=query)}
        return self._known(name, self._schema(self._plans("", list(relations.values()))), relations, held)

    def _source(self, data: Data) -> tuple[str, list[bytes], frozenset[object]]:
        """A name for the data in a statement, the relations it needs, and what must be held until it has run."""
        if isinstance(data, str):
            if not re.match(r"\s*(SELECT|WITH|VALUES|FROM|\()\s", data, re.IGNORECASE):
                return quoted(data), [], frozenset()
            name = self._name()
            return name, [_wire.relation(name, query=data)], frozenset()
        if isinstance(data, datafusion.DataFrame) and not isinstance(data, DataFrame):
            data = DataFrame(self, data, {})
        if not isinstance(data, DataFrame):
            data = self.frame(data)
        name = self._name()
        return name, data._named(name), data._held


#: The columns with which the report of a training begins.
_REPORT = ["model", "version", "run", "iteration", "loss", "eval_loss", "learning_rate", "gradient_norm"]


def _published(table: pyarrow.Table) -> tuple[str, int] | None:
    """The model and version that a training has published, where the rows are its report."""
    if table.column_names[: len(_REPORT)] != _REPORT or table.num_rows == 0:
        return None
    model, version = table["model"][-1].as_py(), table["version"][-1].as_py()
    return None if model is None or version is None else (model, version)


def _warn(texts: Sequence[str]) -> None:
    for text in texts:
        # At the line that called `sql` or `train`.
        warnings.warn(text, SinewWarning, stacklevel=3)


def _columns(data: Any) -> list[str]:
    """The names of the columns of rows, where they are known here."""
    if isinstance(data, DataFrame):
        return list(data._frame.schema().names)
    if isinstance(data, dict):
        return list(data)
    names = getattr(data, "column_names", None)
    if names is None and not isinstance(data, (str, list, datafusion.DataFrame)):
        names = getattr(data, "columns", None)
    return [] if names is None else list(names)


def _arrow(data: Any) -> pyarrow.Table:
    """Rows as a pyarrow Table."""
    if isinstance(data, pyarrow.Table):
        return data
    if isinstance(data, (dict, list)):
        return pyarrow.table(data) if isinstance(data, dict) else pyarrow.Table.from_pylist(data)
    if type(data).__module__.startswith("pandas"):
        return pyarrow.Table.from_pandas(data, preserve_index=False)
    if hasattr(data, "__arrow_c_stream__"):
        return pyarrow.table(data)
    if isinstance(data, pyarrow.RecordBatch):
        return pyarrow.Table.from_batches([data])
    raise TypeError(f"{type(data).__name__} is no table; give a pyarrow, pandas or polars one, or a dictionary of columns")


def _watched(progress: bool | None) -> bool:
    return progress if progress is not None else sys.stderr.isatty() or "ipykernel" in sys.modules


class _Progress:
    """One line that changes while a training runs."""

    def __init__(self, model: str, to: TextIO | None) -> None:
        self.model, self.to, self.began, self.width = model, to, time.monotonic(), 0

    def show(self, rows: pyarrow.RecordBatch) -> None:
        if self.to is None or rows.num_rows == 0:
            return
        last = {name: rows[name][-1].as_py() for name in ("iteration", "loss", "rows")}
        text = f"{self.model}: iteration {last['iteration']}, loss {last['loss']:.6g}, {last['rows']} rows"
        text += f", {time.monotonic() - self.began:.1f} s"
        self._say(text)

    def _say(self, text: str) -> None:
        if self.to is not None:
            self.to.write("\r" + text.ljust(self.width))
            self.to.flush()
            self.width = len(text)

    def __enter__(self) -> _Progress:
        self._say(f"{self.model}: reading the rows")
        return self

    def __exit__(self, *_: object) -> None:
        if self.to is not None and self.width:
            self.to.write("\n")
