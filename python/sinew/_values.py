"""Values of options as SQL."""

from __future__ import annotations

import decimal
import math
import numbers
from typing import Any


def _plain(value: Any) -> Any:
    """A value of numpy, pyarrow, torch or others as the one of Python that it stands for."""
    if type(value).__module__ != "builtins":
        for way in ("tolist", "to_list", "as_py", "item"):
            if hasattr(value, way):
                return getattr(value, way)()
    return value


def literal(name: str, value: Any) -> str:
    """The value of the option ``name`` as SQL."""
    value = _plain(value)
    if isinstance(value, str):
        return "'" + str.__str__(value).replace("'", "''") + "'"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, (numbers.Real, decimal.Decimal)):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"{name} = {value} is not finite; give a number, or leave {name} out for its default")
        return repr(number)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(literal(name, element) for element in value)}]"
    if value is None:
        raise ValueError(f"{name} = None is no value; leave {name} out for its default")
    kind = type(value).__name__
    raise TypeError(f"{name} is a {kind}; give a number, a text, True or False, or a list of these")
