//! What one session of a server may have, so that others keep theirs.

use crate::config::SessionOptions;

/// The options `flight_*` of a session.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sessions of the server.
    pub sessions: usize,
    /// Sessions of one user who has logged in.
    pub user_sessions: usize,
    /// Statements at the same time.
    pub statements: usize,
    /// Prepared statements.
    pub prepared: usize,
    /// Results and runs that are kept.
    pub results: usize,
    /// Bytes that its statements may hold.
    pub memory: usize,
    /// Bytes of a message.
    pub message: usize,
    /// Bytes of the text of a statement.
    pub text: usize,
}

impl Limits {
    /// The limits that options say, or their defaults.
    pub fn of(options: &SessionOptions) -> Self {
        Self {
            sessions: options.limit("flight_sessions"),
            user_sessions: options.limit("flight_user_sessions"),
            statements: options.limit("flight_statements"),
            prepared: options.limit("flight_prepared"),
            results: options.limit("flight_results"),
            memory: options.limit("flight_memory"),
            message: options.limit("flight_message"),
            text: options.limit("flight_text"),
        }
    }
}
