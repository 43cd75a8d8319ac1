"""pyarrow.flight without any driver: plans of DataFusion, and a statement as its own ticket."""

import datafusion
import pyarrow
import pytest
from datafusion import col, lit
from pyarrow import flight
from sinew import _wire

MAJOR = int(datafusion.__version__.split(".")[0])


@pytest.fixture
def client(url):
    with flight.FlightClient(url) as client:
        client.do_get(
            flight.Ticket(_wire.statement("CREATE OR REPLACE TABLE flown AS SELECT value AS n FROM range(0, 9)"))
        ).read_all()
        yield client


@pytest.fixture
def plan():
    context = datafusion.SessionContext()
    context.register_listing_table(
        "flown", "sinew://table/", schema=pyarrow.schema([("n", pyarrow.int64())]), file_extension=".x"
    )
    return context.table("flown").filter(col("n") > lit(5)).logical_plan().to_bytes()


def test_a_plan_is_described_and_fetched(client, plan):
    command = _wire.plans(MAJOR, "", [_wire.relation("frame", plan=plan)])
    info = client.get_flight_info(flight.FlightDescriptor.for_command(command))
    assert info.schema.names == ["n"]
    for _ in range(2):
        assert client.do_get(info.endpoints[0].ticket).read_all()["n"].to_pylist() == [6, 7, 8]
    assert client.do_get(flight.Ticket(command)).read_all().num_rows == 3


def test_statements_name_plans(client, plan):
    relations = [_wire.relation("frame", plan=plan), _wire.relation("twice", query="SELECT 2 * n AS m FROM frame")]
    command = _wire.plans(MAJOR, "SELECT sum(m) AS s FROM twice", relations)
    assert client.do_get(flight.Ticket(command)).read_all()["s"].to_pylist() == [42]
    train = _wire.plans(
        MAJOR, "TRAIN MODEL flown USING linear_regression PREDICT m AS SELECT n AS x, 2 * n AS m FROM frame", relations
    )
    assert client.do_get(flight.Ticket(train)).read_all()["version"].to_pylist()[-1] == 1
    with pytest.raises(pyarrow.ArrowException, match="not found"):
        client.do_get(flight.Ticket(_wire.statement("SELECT * FROM frame"))).read_all()


@pytest.mark.parametrize("nodes", [20, 40, 44, 60, 5000])
def test_a_deep_plan_does_no_harm(client, nodes):
    context = datafusion.SessionContext()
    context.register_listing_table(
        "flown", "sinew://table/", schema=pyarrow.schema([("n", pyarrow.int64())]), file_extension=".x"
    )
    frame = context.table("flown")
    for _ in range(min(nodes, 60)):
        frame = frame.filter(col("n") > lit(5))
    plan = frame.logical_plan().to_bytes()
    for _ in range(nodes - 60):
        # A filter around it: LogicalPlanNode.selection (5) { input = 1 }.
        plan = _wire.data(5, _wire.data(1, plan))
    try:
        command = _wire.plans(MAJOR, "", [_wire.relation("frame", plan=plan)])
        assert client.do_get(flight.Ticket(command)).read_all().num_rows == 3
        assert nodes < 60
    except pyarrow.ArrowException as error:
        assert "nested too deeply" in str(error) and nodes > 40
    assert client.do_get(flight.Ticket(_wire.statement("SELECT 1 AS one"))).read_all().num_rows == 1


def test_what_cannot_be_run_is_told(client, plan):
    for command, code in [
        (_wire.plans(MAJOR - 1, "", [_wire.relation("frame", plan=plan)]), "SINEW-3321.*pip install"),
        (_wire.plans(MAJOR, "", [_wire.relation("frame", plan=b"\x01\x02")]), "SINEW-3304"),
        (_wire.plans(MAJOR, "", []), "SINEW-3304"),
        (_wire.plans(MAJOR, "", [_wire.relation("a", query="DROP MODEL x")]), "SINEW-3304"),
    ]:
        with pytest.raises(pyarrow.ArrowException, match=code):
            client.do_get(flight.Ticket(command)).read_all()
