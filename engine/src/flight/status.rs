//! Errors as gRPC statuses, and back: the text and its code arrive as they left.

use arrow_flight::error::FlightError;
use tonic::{Code, Status};

use crate::error::SinewError;

/// The most bytes of a text in a status once it is escaped; headers of HTTP/2 are limited to 16 KiB by some clients.
const LONGEST: usize = 6_000;

/// The status a client gets.
pub fn to_status(error: &SinewError) -> Status {
    Status::new(code(error), shortened(&error.to_string()))
}

fn shortened(text: &str) -> String {
    // Everything but printable ASCII is written as `%XX`.
    let width = |c: char| if c.is_ascii_graphic() || c == ' ' { 1 } else { 3 * c.len_utf8() };
    let mut used = 0;
    let cut = text.char_indices().find(|(_, c)| {
        used += width(*c);
        used > LONGEST
    });
    match cut {
        None => text.to_string(),
        Some((at, _)) => format!("{} ...", &text[..at]),
    }
}

fn code(error: &SinewError) -> Code {
    match error {
        SinewError::Syntax { .. } | SinewError::Config { .. } | SinewError::BadName { .. } => Code::InvalidArgument,
        SinewError::Request { .. } => Code::InvalidArgument,
        SinewError::Plan { reason, .. } if reason.contains("not found") => Code::NotFound,
        SinewError::Plan { .. } => Code::InvalidArgument,
        SinewError::UnknownModel { .. } | SinewError::UnknownVersion { .. } => Code::NotFound,
        SinewError::UnknownHandle { .. } | SinewError::UnknownTable { .. } => Code::NotFound,
        SinewError::UnknownTraining { .. } => Code::NotFound,
        SinewError::SessionEnded => Code::FailedPrecondition,
        SinewError::ModelExists { .. } | SinewError::TableExists { .. } => Code::AlreadyExists,
        SinewError::Memory { .. } | SinewError::TooMany { .. } => Code::ResourceExhausted,
        SinewError::NotAvailable { .. } => Code::Unimplemented,
        SinewError::Cancelled => Code::Cancelled,
        SinewError::Contention { .. } => Code::Aborted,
        SinewError::Unreachable { .. } | SinewError::Disconnected { .. } => Code::Unavailable,
        SinewError::ShuttingDown | SinewError::Stopped { .. } => Code::Unavailable,
        SinewError::Login { .. } => Code::Unauthenticated,
        SinewError::LoginLater { .. } => Code::ResourceExhausted,
        SinewError::Role { .. } | SinewError::Outside { .. } => Code::PermissionDenied,
        SinewError::Internal(_) => Code::Internal,
        // Errors of the language are the statement's; those of training say more by their code.
        SinewError::Sql(_) => coded(&error.to_string()),
        SinewError::Ml(_) | SinewError::Coded { .. } => coded(&error.to_string()),
        SinewError::Remote { status, .. } => status.code(),
        _ => Code::FailedPrecondition,
    }
}

/// The status that belongs to a text that begins with its code.
fn coded(text: &str) -> Code {
    match text.get(..10) {
        Some("SINEW-1009" | "SINEW-2013" | "SINEW-3005") => Code::Unimplemented,
        Some("SINEW-1010" | "SINEW-3102" | "SINEW-3103") => Code::NotFound,
        Some("SINEW-2012" | "SINEW-3004") => Code::ResourceExhausted,
        Some("SINEW-3006") => Code::Cancelled,
        Some("SINEW-3704") => Code::PermissionDenied,
        Some("SINEW-2099" | "SINEW-3199") => Code::Internal,
        Some("SINEW-2007" | "SINEW-2008" | "SINEW-2009" | "SINEW-2011") => Code::FailedPrecondition,
        _ => Code::InvalidArgument,
    }
}

/// The error a client shows for a status of the server at `url`.
pub fn from_status(url: &str, status: Status) -> SinewError {
    if status.message().starts_with("SINEW-") {
        return SinewError::Remote { text: status.message().to_string(), status: Box::new(status) };
    }
    // What our server says begins with a code, so this comes from between it and here.
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded => {
            SinewError::Disconnected { url: url.into(), reason: hinted(root_cause(&status)) }
        }
        code => {
            let answer = format!("{code:?}: {}", status.message());
            SinewError::Answered { url: url.into(), answer, status: Box::new(status) }
        }
    }
}

/// The error a client shows for what ended a stream of the server at `url`.
pub fn from_flight(url: &str, error: FlightError) -> SinewError {
    match error {
        FlightError::Tonic(status) => from_status(url, *status),
        other => SinewError::Internal(format!("reading the answer of {url}: {other}")),
    }
}

/// A reason that says what to try, where one side speaks TLS and the other does not.
pub fn hinted(reason: String) -> String {
    if reason.contains("frame with invalid size") {
        return format!("{reason} (a server with a certificate is at grpcs://)");
    }
    if reason.contains("InvalidContentType") {
        return format!("{reason} (a server without a certificate is at grpc://)");
    }
    reason
}

/// The last error of a chain, in its own words.
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    match deepest.downcast_ref::<Status>() {
        Some(status) if status.message().is_empty() => format!("{:?}", status.code()),
        Some(status) => status.message().to_string(),
        None => deepest.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_crosses_the_wire_as_it_is() {
        let error = SinewError::ModelExists { name: "m".into() };
        let status = to_status(&error);
        assert_eq!(status.code(), Code::AlreadyExists);
        let back = from_status("grpc://h", status);
        assert_eq!((back.to_string(), back.code().as_deref()), (error.to_string(), Some("SINEW-3104")));
        assert_eq!(to_status(&back).code(), Code::AlreadyExists);
    }

    #[test]
    fn long_texts_fit_into_a_header() {
        for text in ["x".repeat(100_000), "é\n".repeat(50_000)] {
            let status = to_status(&SinewError::Internal(text));
            assert!(status.message().len() <= LONGEST + 10 && status.message().ends_with("..."));
        }
    }
}
