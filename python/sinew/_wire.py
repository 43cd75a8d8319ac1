"""Messages of Flight SQL and of Sinew, as bytes (FlightSql.proto; docs/flight-sql.md of the server)."""

from __future__ import annotations

FLIGHT_SQL = "type.googleapis.com/arrow.flight.protocol.sql."
PLAN = "type.googleapis.com/sinew.flight.CommandPlan"


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def data(field: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw if raw else b""


def packed(type_url: str, message: bytes) -> bytes:
    """A `google.protobuf.Any`."""
    return data(1, type_url) + data(2, message)


def statement(text: str) -> bytes:
    return packed(FLIGHT_SQL + "CommandStatementQuery", data(1, text))


def relation(name: str, plan: bytes = b"", query: str = "") -> bytes:
    return data(1, name) + data(2, plan) + data(3, query)


def plans(datafusion: int, text: str, relations: list[bytes]) -> bytes:
    """A statement over relations; without a text the last of them is the result."""
    return packed(PLAN, number(1, datafusion) + data(2, text) + b"".join(data(3, r) for r in relations))


#: What to do where the table is not there, and where it is: TableNotExistOption, TableExistsOption.
MODES = {"create": (1, 1), "append": (2, 2), "replace": (1, 3), "create_append": (1, 2)}


def ingest(table: str, mode: str, temporary: bool) -> bytes:
    absent, present = MODES[mode]
    options = data(1, number(1, absent) + number(2, present))
    return packed(FLIGHT_SQL + "CommandStatementIngest", options + data(2, table) + number(5, int(temporary)))
