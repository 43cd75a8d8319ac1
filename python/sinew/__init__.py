"""SQL, DataFrames and models on a Sinew server.

>>> import sinew
>>> c = sinew.connect("grpc://127.0.0.1:50051")        # doctest: +SKIP
>>> c.train("taxis", model="tip", family="linear_regression", predict="tip")   # doctest: +SKIP
"""

from __future__ import annotations

from . import _magic
from ._connection import Connection, Trained
from ._error import Error, SinewWarning
from ._frame import DataFrame
from ._magic import load_ipython_extension
from ._rows import Rows

__all__ = ["Connection", "DataFrame", "Error", "Rows", "SinewWarning", "Trained", "connect", "load_ipython_extension"]
__version__ = "0.1.0"


def connect(
    url: str = "grpc://127.0.0.1:50051",
    *,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    tls_ca: str | None = None,
    allow_plaintext: bool = False,
) -> Connection:
    """A session on the server at ``url``: ``grpc://host:port``, or ``grpcs://`` with TLS.

    ``user`` and ``password``, or a ``token``, say who connects; ``tls_ca`` is a file with the certificates to trust. They
    are sent to another machine over TLS only, unless ``allow_plaintext`` says that the network is safe.
    """
    connection = Connection(url, user, password, token, tls_ca, allow_plaintext)
    _magic.current = connection
    return connection
