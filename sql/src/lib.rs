//! The language: text becomes statements ([`parse`]), and statements become logical plans
//! ([`plan_query`], [`plan_train`]).

pub mod ast;
mod chain;
mod cursor;
pub mod error;
mod functions;
pub mod name;
mod options;
mod parser;
pub mod plan;
mod rewrite;
mod source;
mod train;

pub use ast::{NotYet, QuerySource, QueryStatement, Spelling, Statement, TrainStatement, Weight};
pub use error::{Position, Result, SqlError};
pub use name::{ModelRef, Version};
pub use parser::parse;
pub use plan::{Models, PlannedTrain, plan_query, plan_train};
pub use rewrite::MODEL_PREFIX;
