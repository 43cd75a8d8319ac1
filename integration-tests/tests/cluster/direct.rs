//! Clients that fetch large results from the executors that hold them.

use std::time::Duration;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{
    CancelFlightInfoRequest, CancelStatus, FlightClient, FlightDescriptor, FlightEndpoint, FlightInfo,
    RenewFlightEndpointRequest, Ticket,
};
use datafusion::arrow::array::RecordBatch;
use futures::TryStreamExt;
use sinew::flight::Grant;
use sinew_integration_tests::cluster::Cluster;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::support::Rows;

/// A cluster of so many executors that serve clients.
fn cluster(executors: usize) -> Cluster {
    let mut cluster = Cluster::start(0);
    for _ in 0..executors {
        cluster.add_executor_with(&["--results", "127.0.0.1:0"]);
    }
    cluster.wait_for(executors);
    cluster
}

async fn channel(address: &str) -> Channel {
    Endpoint::from_shared(address.replace("grpc+tcp://", "http://")).unwrap().connect().await.unwrap()
}

async fn get(client: &mut FlightServiceClient<Channel>, ticket: &Ticket) -> Result<Vec<RecordBatch>, Status> {
    let sent = client.do_get(ticket.clone()).await?.into_inner();
    let rows = FlightRecordBatchStream::new_from_flight_data(sent.map_err(FlightError::from));
    rows.try_collect().await.map_err(Status::from)
}

fn count(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

async fn info(client: &mut FlightSqlServiceClient<Channel>, sql: &str) -> FlightInfo {
    client.execute(sql.into(), None).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_result_comes_from_the_executors_and_through_the_gateway() {
    let rows = Rows::new(100_000, 4).await;
    let cluster = cluster(2);
    let mut gateway = FlightSqlServiceClient::new(channel(&cluster.url().replace("grpc://", "http://")).await);
    let asked = info(&mut gateway, &format!("SELECT * FROM {}", rows.files("rows"))).await;
    assert_eq!(asked.total_records, rows.count as i64);
    let schema = asked.clone().try_decode_schema().unwrap();
    assert!(asked.endpoint.len() > 1, "{} parts", asked.endpoint.len());
    let (mut direct, mut relayed) = (0, 0);
    for endpoint in &asked.endpoint {
        let [at, here] = &endpoint.location[..] else { panic!("{:?}", endpoint.location) };
        assert!(at.uri.starts_with("grpc+tcp://127.0.0.1:") && here.uri.starts_with("arrow-flight-reuse-connection"));
        let ticket = endpoint.ticket.as_ref().unwrap();
        let mut executor = FlightServiceClient::new(channel(&at.uri).await);
        // Twice: a result stays until it expires.
        for _ in 0..2 {
            let batches = get(&mut executor, ticket).await.unwrap();
            assert!(batches.iter().all(|batch| *batch.schema() == schema));
            direct += count(&batches);
        }
        relayed += count(&get(gateway.inner_mut(), ticket).await.unwrap());
    }
    assert_eq!((direct, relayed), (2 * rows.count, rows.count));

    let small = info(&mut gateway, &rows.counting()).await;
    assert!(small.endpoint.len() == 1 && small.endpoint[0].location.is_empty());
    assert_eq!(count(&get(gateway.inner_mut(), small.endpoint[0].ticket.as_ref().unwrap()).await.unwrap()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_gives_out_what_was_granted_and_nothing_else() {
    let rows = Rows::new(100_000, 4).await;
    let cluster = cluster(2);
    let mut gateway = FlightSqlServiceClient::new(channel(&cluster.url().replace("grpc://", "http://")).await);
    let asked = info(&mut gateway, &format!("SELECT * FROM {}", rows.files("rows"))).await;
    let tickets: Vec<(String, Ticket)> =
        asked.endpoint.iter().map(|e| (e.location[0].uri.clone(), e.ticket.clone().unwrap())).collect();
    let (address, ticket) = tickets[0].clone();
    let (_, foreign) = tickets.iter().find(|(at, _)| *at != address).expect("both executors hold rows").clone();
    let mut executor = FlightServiceClient::new(channel(&address).await);
    let bytes = ticket.ticket.to_vec();
    let mut forged = bytes.clone();
    *forged.last_mut().unwrap() ^= 1;
    for wrong in [Vec::new(), b"query".to_vec(), bytes[..bytes.len() / 2].to_vec(), forged, foreign.ticket.to_vec()] {
        let status = get(&mut executor, &Ticket::new(wrong)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status}");
        assert!(status.message().starts_with("SINEW-3305"), "{status}");
    }
    let other = executor.get_flight_info(FlightDescriptor::new_cmd("SELECT 1")).await.unwrap_err();
    assert_eq!(other.code(), Code::InvalidArgument, "{other}");
    // The ticket belongs to a session of the gateway; another session does not have that result.
    let mut stranger = FlightServiceClient::new(channel(&cluster.url().replace("grpc://", "http://")).await);
    assert_eq!(get(&mut stranger, &ticket).await.unwrap_err().code(), Code::NotFound);
    assert!(count(&get(&mut executor, &ticket).await.unwrap()) > 0, "the next request works");
}

/// The code of a refusal.
fn code<T>(result: Result<T, FlightError>) -> Code {
    match result {
        Err(FlightError::Tonic(status)) => status.code(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("no error"),
    }
}

async fn renewed(client: &mut FlightClient, endpoint: &FlightEndpoint) -> Result<FlightEndpoint, FlightError> {
    client.renew_flight_endpoint(RenewFlightEndpointRequest::new(endpoint.clone())).await
}

async fn cancelled(client: &mut FlightClient, info: &FlightInfo) -> Result<CancelStatus, FlightError> {
    Ok(client.cancel_flight_info(CancelFlightInfoRequest::new(info.clone())).await?.status())
}

fn grant(endpoint: &FlightEndpoint) -> Grant {
    Grant::unchecked(&endpoint.ticket.as_ref().unwrap().ticket).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_on_executors_is_kept_for_longer_and_cancelled() {
    let rows = Rows::new(100_000, 4).await;
    let cluster = cluster(2);
    let url = cluster.url().replace("grpc://", "http://");
    // One connection is one session, whichever client speaks on it.
    let ours = channel(&url).await;
    let (mut gateway, mut same) = (FlightSqlServiceClient::new(ours.clone()), FlightClient::new(ours));
    let mut stranger = FlightClient::new(channel(&url).await);
    let asked = info(&mut gateway, &format!("SELECT * FROM {}", rows.files("rows"))).await;
    // A grant counts whole seconds.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let mut fetched = 0;
    for endpoint in &asked.endpoint {
        let longer = renewed(&mut same, endpoint).await.unwrap();
        let (old, new) = (grant(endpoint), grant(&longer));
        assert!(new.until > old.until, "{new:?}");
        assert_eq!(Grant { until: old.until, ..new }, old);
        assert_eq!(longer.location, endpoint.location);
        let seconds = |endpoint: &FlightEndpoint| endpoint.expiration_time.as_ref().unwrap().seconds;
        assert!(seconds(&longer) > seconds(endpoint));
        let mut executor = FlightServiceClient::new(channel(&longer.location[0].uri).await);
        fetched += count(&get(&mut executor, longer.ticket.as_ref().unwrap()).await.unwrap());
    }
    assert_eq!(fetched, rows.count);

    // Another session neither keeps nor cancels it.
    assert_eq!(code(renewed(&mut stranger, &asked.endpoint[0]).await), Code::NotFound);
    assert_eq!(code(cancelled(&mut stranger, &asked).await), Code::NotFound);
    let ticket = asked.endpoint[0].ticket.clone().unwrap();
    assert!(count(&get(gateway.inner_mut(), &ticket).await.unwrap()) > 0);

    assert_eq!(cancelled(&mut same, &asked).await.unwrap(), CancelStatus::Cancelled);
    assert_eq!(code(cancelled(&mut same, &asked).await), Code::NotFound);
    assert_eq!(code(renewed(&mut same, &asked.endpoint[0]).await), Code::NotFound);
    assert_eq!(get(gateway.inner_mut(), &ticket).await.unwrap_err().code(), Code::NotFound);
}
