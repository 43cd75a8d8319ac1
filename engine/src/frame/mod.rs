//! DataFrames: DataFusion's own, over the tables of a session, and what models do with one.
//!
//! The same program runs in this process and on a server: a connected session has a catalog that asks the server
//! for columns, and a planner that sends the whole plan there.
//!
//! ```no_run
//! use datafusion::prelude::{col, lit};
//! use sinew::{Learn, Session};
//!
//! # async fn example() -> sinew::Result<()> {
//! let session = Session::connect("grpc://127.0.0.1:50051").await?;
//! let taxis = session.table("taxis").await?.filter(col("distance").gt(lit(0.5)))?;
//! let trained = taxis.clone().train("tip").using("linear_regression").predict("tip").option("reg_param", 0.1).await?;
//! println!("version {} after {} iterations", trained.version, trained.iterations.len());
//! taxis.predict("tip").await?.show_limit(5).await?;
//! # Ok(())
//! # }
//! ```

mod catalog;
mod exec;
mod learn;
mod names;
mod relations;
mod train;

pub(crate) use exec::insert;

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
pub use sinew_ml::params::ParamValue;
pub use sinew_ml::split::SplitSpec as Split;

pub use learn::{Learn, Metrics};
pub use train::{Iteration, Train, Trained, Training};

use crate::error::Result;
use crate::flight::Remote;
use crate::session::{CATALOG, Home, Piece, Prepared, SCHEMA, Session};

/// The context of a connected session.
pub(crate) fn context(remote: &Arc<Remote>, home: Arc<Home>) -> SessionContext {
    let config = SessionConfig::new().with_default_catalog_and_schema(CATALOG, SCHEMA).with_extension(home);
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_catalog_list(Arc::new(catalog::There(Arc::clone(remote))))
        .with_query_planner(Arc::new(exec::SendPlans(Arc::clone(remote))));
    SessionContext::new_with_state(state.build())
}

impl Session {
    /// A table as a DataFrame; nothing is read before its rows are asked for.
    ///
    /// # Errors
    /// When there is no such table, or it cannot be read.
    pub async fn table(&self, name: impl Into<TableReference>) -> Result<DataFrame> {
        let name = name.into();
        if self.remote().is_none() {
            self.tables().refresh(self.context(), std::slice::from_ref(&name)).await?;
        }
        let missing = format!("table '{name}' not found");
        self.context().table(name).await.map_err(|e| match e.strip_backtrace().contains("No table named") {
            true => DataFusionError::Plan(missing).into(),
            false => e.into(),
        })
    }

    /// Parquet, CSV or JSON files as a DataFrame: a file, a folder or a pattern, of the machine that runs the
    /// statements or in an object store; the ending says the kind.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn read(&self, path: &str) -> Result<DataFrame> {
        self.table(TableReference::full(CATALOG, SCHEMA, path)).await
    }

    /// A query as a DataFrame; functions of models can be used in it.
    ///
    /// # Errors
    /// When it cannot be planned, or is no query.
    pub async fn query(&self, sql: &str) -> Result<DataFrame> {
        match self.remote() {
            Some(_) => relations::there(self, None, sql).await,
            None => planned(self, self, sql).await,
        }
    }
}

/// A query over the tables of `seen`, as a DataFrame of `session`.
async fn planned(session: &Session, seen: &Session, sql: &str) -> Result<DataFrame> {
    match seen.prepare(&piece(sql)).await? {
        Prepared::Query(plan) => Ok(DataFrame::new(session.context().state(), plan)),
        _ => Err(crate::SinewError::Request {
            what: "a DataFrame is made of a query, and this is another statement".into(),
            hint: "run it with Session::sql".into(),
        }),
    }
}

/// A text as the one statement of a script.
fn piece(sql: &str) -> Piece {
    Piece { number: 1, line: 1, column: 1, text: sql.into(), terminated: false }
}
