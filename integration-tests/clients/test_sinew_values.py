"""The package of `python/`: what it does before anything is sent."""

import copy
import decimal
import pickle

import numpy
import pyarrow
import pytest
import sinew
from sinew._values import literal


@pytest.mark.parametrize(
    ("value", "sql"),
    [
        (True, "true"),
        (3, "3"),
        (-0.5, "-0.5"),
        ("it's", "'it''s'"),
        ([8, 4], "[8, 4]"),
        ((0.1, "a"), "[0.1, 'a']"),
        (numpy.float64(0.1), "0.1"),
        (numpy.float32(0.5), "0.5"),
        (numpy.longdouble(0.25), "0.25"),
        (numpy.int64(10), "10"),
        (numpy.bool_(True), "true"),
        (numpy.str_("it's"), "'it''s'"),
        (numpy.array([8, 4]), "[8, 4]"),
        ([numpy.int32(8), numpy.float64(0.5)], "[8, 0.5]"),
        (pyarrow.scalar(7), "7"),
        (decimal.Decimal("0.25"), "0.25"),
    ],
)
def test_values_are_what_they_stand_for(value, sql):
    assert literal("tol", value) == sql


@pytest.mark.parametrize("value", [None, float("nan"), numpy.nan, numpy.float32("inf"), [1.0, float("-inf")], {"a": 1}, object()])
def test_values_that_are_none_are_refused_by_name(value):
    with pytest.raises((ValueError, TypeError), match=r"^tol .*give|^tol .*leave tol out"):
        literal("tol", value)


@pytest.mark.parametrize("login", [{"token": "hush"}, {"user": "ann", "password": "hush"}])
@pytest.mark.parametrize(
    "url",
    ["grpc://192.0.2.1:1", "grpc+tcp://192.0.2.1", "192.0.2.1", "grpc://[2001:db8::1]", "grpc://localhost.invalid",
     "flightsql://192.0.2.1?transport=tcp"],
)  # fmt: skip
def test_secrets_do_not_leave_the_machine_in_the_open(url, login):
    with pytest.raises(sinew.Error, match=r"SINEW-3707.*allow_plaintext") as refused:
        sinew.connect(url, **login)
    assert refused.value.code == "SINEW-3707" and "hush" not in str(refused.value)


def test_secrets_may_stay_here_or_be_allowed_out():
    # Nobody listens there: it is the connection that fails, and not the rule.
    for url, more in [
        ("grpc://127.0.0.1:1", {}),
        ("grpc://localhost:1", {}),
        ("grpc://[::1]:1", {}),
        ("grpcs://localhost.invalid:1", {}),
        ("grpc://localhost.invalid:1", {"allow_plaintext": True}),
    ]:
        with pytest.raises(sinew.Error) as failed:
            sinew.connect(url, token="hush", **more)
        assert failed.value.code != "SINEW-3707", url


def test_rows_are_copied():
    rows = sinew.Rows(pyarrow.table({"a": [1, 2]}))
    for other in (copy.copy(rows), copy.deepcopy(rows), pickle.loads(pickle.dumps(rows))):
        assert isinstance(other, sinew.Rows) and other.to_pydict() == {"a": [1, 2]}
    assert rows.num_rows == 2 and not hasattr(rows, "no_such_thing")
