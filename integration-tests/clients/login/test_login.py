"""Logging in, with the package and with ADBC.

SINEW_URL is a server that asks who comes: ``reader`` and ``trainer``, whose passwords are below, and SINEW_ROBOT, a token
of the role ``read``. Where the server has TLS, SINEW_CA is the certificate to trust.
"""

import os
import sys

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pytest

sys.path.insert(0, os.path.join(os.environ["SINEW_ROOT"], "python"))
import sinew

URL, ROBOT, CA = os.environ["SINEW_URL"], os.environ["SINEW_ROBOT"], os.environ.get("SINEW_CA")
PASSWORDS = {"reader": "reads, and no more", "trainer": "träins:models"}
POINTS = "SELECT value AS x, 2 * value AS y FROM range(0, 50)"


def connect(user=None, password=None, token=None):
    return sinew.connect(URL, user=user, password=password or PASSWORDS.get(user), token=token, tls_ca=CA)


def adbc(**options):
    """An ADBC connection; the names of options are ADBC's."""
    if CA:
        with open(CA) as file:
            options["adbc.flight.sql.client_option.tls_root_certs"] = file.read()
    uri = URL.replace("grpcs://", "grpc+tls://").replace("grpc://", "grpc+tcp://")
    return flightsql.connect(uri, db_kwargs=options, autocommit=True)


def named(user):
    return {"username": user, "password": PASSWORDS[user]}


def bearer(token):
    return {"adbc.flight.sql.authorization_header": f"Bearer {token}"}


def test_a_user_trains_and_another_predicts():
    with connect("trainer") as c:
        trained = c.train(POINTS, model="by_login", family="linear_regression", predict="y", split="NONE", progress=False)
        assert trained.version >= 1
        # The DB-API connection of the package is the same session, and asks for no second login.
        with c.adbc.cursor() as cursor:
            cursor.execute("SELECT ? + 1 AS n", (41,))
            assert cursor.fetchall() == [(42,)]
    with connect("reader") as c:
        scored = c.predict("SELECT 21 AS x", "by_login")
        assert round(scored.to_pylist()[0]["predicted_y"], 6) == 42
        # Rows that are here become a table of the session first.
        with pytest.raises(sinew.Error, match="'write'"):
            c.predict({"x": [21]}, "by_login")


def test_a_role_that_is_missing_is_named():
    with connect("reader") as c:
        with pytest.raises(sinew.Error, match="SINEW-3703") as refused:
            c.train(POINTS, model="refused", family="linear_regression", predict="y")
        assert refused.value.code == "SINEW-3703"
        assert "'train'" in str(refused.value) and "'reader'" in str(refused.value)
        assert c.sql("SELECT 1 AS n").to_pylist() == [{"n": 1}], "the session goes on"
    with connect("trainer") as c, pytest.raises(sinew.Error, match="'write'"):
        c.ingest("refused", {"a": [1]})


def test_a_token_is_a_login():
    with connect(token=ROBOT) as c:
        assert c.sql("SELECT 1 AS n").to_pylist() == [{"n": 1}]
        with c.adbc.cursor() as cursor:
            cursor.execute("SELECT 1 AS n")
            assert cursor.fetchall() == [(1,)]
        with pytest.raises(sinew.Error, match="robot"):
            c.sql("DROP MODEL by_login")


def test_a_login_that_is_wrong_says_so():
    texts = []
    for wrong in [{"user": "reader", "password": "guess"}, {"user": "nobody", "password": "guess"}]:
        with pytest.raises(sinew.Error) as refused:
            connect(**wrong)
        assert refused.value.code == "SINEW-3701" and "guess" not in str(refused.value)
        texts.append(str(refused.value))
    assert texts[0] == texts[1], "the text does not tell whether there is such a user"
    for wrong in [{}, {"token": ROBOT[:-1] + ("0" if ROBOT[-1] != "0" else "1")}]:
        with pytest.raises(sinew.Error) as refused:
            connect(**wrong)
        assert refused.value.code == "SINEW-3701"


def test_adbc_logs_in():
    for options in [named("reader"), bearer(ROBOT)]:
        with adbc(**options) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 AS n")
            assert cursor.fetchall() == [(1,)]
            with pytest.raises(adbc_driver_manager.Error, match="SINEW-3703"):
                cursor.execute(f"TRAIN MODEL refused USING linear_regression PREDICT y AS {POINTS}")
    with adbc(**named("trainer")) as connection, connection.cursor() as cursor:
        cursor.execute(f"TRAIN MODEL by_adbc USING linear_regression PREDICT y AS {POINTS}")
        cursor.execute("SHOW TRAINING")
        assert cursor.fetchall() == []


def test_adbc_says_what_is_wrong_with_a_login():
    for options in [{"username": "trainer", "password": "guess"}, bearer("sinew_" + 64 * "0"), {}]:
        with pytest.raises(adbc_driver_manager.Error, match="SINEW-3701"):
            with adbc(**options) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT 1")


@pytest.mark.skipif(CA is None, reason="this server has no TLS")
def test_a_certificate_that_nobody_trusts_is_refused():
    with pytest.raises(sinew.Error) as refused:
        sinew.connect(URL, user="reader", password=PASSWORDS["reader"])
    assert refused.value.code == "SINEW-3301" and "certificate" in str(refused.value)
