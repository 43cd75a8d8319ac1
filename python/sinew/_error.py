"""Errors: what the server says, with its code."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import adbc_driver_manager
import pyarrow
from pyarrow import flight

_TEXT = re.compile(r"(SINEW-\d{4}): (.*?)(?:\. (?:gRPC client debug context|Client context|Detail)\b|$)", re.DOTALL)


class Error(Exception):
    """An error of the server. ``code`` is stable, such as ``SINEW-3002``; the text says what to do."""

    def __init__(self, text: str, code: str | None = None) -> None:
        super().__init__(text)
        self.code = code


class SinewWarning(UserWarning):
    """What a training warns of: that it has not converged, columns that are constant, rows that repeat."""


@contextlib.contextmanager
def told(url: str, connecting: bool = False) -> Iterator[None]:
    """Errors of the transport as errors of the server at ``url``, or of the way there."""
    try:
        yield
    except (pyarrow.ArrowException, adbc_driver_manager.Error, OSError) as error:
        found = _TEXT.search(str(error))
        if found is None:
            raise _on_the_way(url, connecting, error) from error
        raise Error(f"{found[1]}: {found[2]}", found[1]) from None


def _on_the_way(url: str, connecting: bool, error: Exception) -> Error:
    """An error that is none of the server's."""
    text = str(error)
    # gRPC says it once for each layer.
    said = re.search(r"with message: (.*?)(?:\. (?:gRPC client debug context|Client context|Detail)\b|$)", text, re.DOTALL)
    reason = (said[1] if said else text).removeprefix("failed to connect to all addresses; last error: ").strip()
    if connecting:
        hint = "start a server there with 'sinew serve', or check the address"
        if "tls" in url.split(":", 1)[0]:
            hint += ", and that tls_ca= names who signed its certificate"
        return Error(f"SINEW-3301: cannot reach {url}: {reason}; {hint}", "SINEW-3301")
    if isinstance(error, (flight.FlightUnavailableError, flight.FlightCancelledError, flight.FlightTimedOutError, OSError)):
        hint = "the statement is cancelled where it had not ended, so look what is there (SHOW MODELS, SHOW TABLES)"
        hint += " before it is run again"
        return Error(f"SINEW-3302: the connection to {url} broke: {reason}; {hint}", "SINEW-3302")
    return Error(text)
