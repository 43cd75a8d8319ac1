"""Errors: what the server says, with its code."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import adbc_driver_manager
import pyarrow

_TEXT = re.compile(r"(SINEW-\d{4}): (.*?)(?:\. (?:gRPC client debug context|Client context|Detail)\b|$)", re.DOTALL)


class Error(Exception):
    """An error of the server. ``code`` is stable, such as ``SINEW-3002``; the text says what to do."""

    def __init__(self, text: str, code: str | None = None) -> None:
        super().__init__(text)
        self.code = code


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Errors of the transport as errors of the server."""
    try:
        yield
    except (pyarrow.ArrowException, adbc_driver_manager.Error, OSError) as error:
        found = _TEXT.search(str(error))
        if found is None:
            raise Error(str(error)) from error
        raise Error(f"{found[1]}: {found[2]}", found[1]) from None
