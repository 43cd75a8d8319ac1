//! The session that a DataFrame belongs to, found in its config.

use std::sync::{Arc, OnceLock, Weak};

use datafusion::prelude::SessionConfig;

use super::{Inner, Session};
use crate::error::{Result, SinewError};

/// Stands in the config of a session's context. It does not keep the session alive, which keeps it.
#[derive(Debug, Default)]
pub struct Home(OnceLock<Weak<Inner>>);

impl Home {
    /// Says which session it is.
    pub fn bind(&self, session: &Session) {
        let _ = self.0.set(Arc::downgrade(&session.inner));
    }

    /// The session of a config.
    ///
    /// # Errors
    /// When there is none, or it was dropped.
    pub fn of(config: &SessionConfig) -> Result<Session> {
        let home = config.get_extension::<Self>();
        let inner = home.and_then(|home| home.0.get().and_then(Weak::upgrade));
        inner.map(|inner| Session { inner }).ok_or_else(|| SinewError::Request {
            what: "the DataFrame has no session".into(),
            hint: "make it with Session::table, and keep the session for as long as its DataFrames".into(),
        })
    }
}
