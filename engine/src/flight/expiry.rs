//! Until when a result can be fetched, as clients are told.

use std::time::{SystemTime, UNIX_EPOCH};

use arrow_flight::FlightEndpoint;

use super::statements::KEPT;

/// Says in an endpoint that its result can be fetched for as long as results are kept.
pub fn set(endpoint: &mut FlightEndpoint) {
    let until = (SystemTime::now() + KEPT).duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = endpoint.expiration_time.get_or_insert_with(Default::default);
    (time.seconds, time.nanos) = (until.as_secs() as i64, 0);
}
