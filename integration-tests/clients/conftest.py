"""SINEW_URL is a server with an empty warehouse, SINEW_ROOT the repository as that server sees it."""

import os
import sys

import adbc_driver_flightsql.dbapi as flightsql
import pytest

ROOT = os.environ["SINEW_ROOT"]
# These need another Python, or another server.
collect_ignore = ["old", "login"]
sys.path.insert(0, os.path.join(ROOT, "python"))


@pytest.fixture(scope="session")
def url():
    return os.environ["SINEW_URL"]


@pytest.fixture(scope="session")
def uri(url):
    return url.replace("grpc://", "grpc+tcp://")


@pytest.fixture(scope="session")
def data():
    """The folder of the examples' data."""
    return os.path.join(ROOT, "examples", "data")


@pytest.fixture
def connection(uri):
    with flightsql.connect(uri, autocommit=True) as connection:
        yield connection


@pytest.fixture
def cursor(connection):
    with connection.cursor() as cursor:
        yield cursor
