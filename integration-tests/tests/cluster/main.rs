//! The cluster under faults: real processes that are killed, stopped, cut off and filled up. Whatever happens,
//! a statement ends with the right answer, to the last byte for models, or with an error that says why.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod books;
mod cancel;
mod copies;
mod direct;
mod disk;
mod large;
mod loss;
mod members;
mod objects;
mod partition;
mod roots;
mod sameness;
mod signals;
mod support;
mod together;
