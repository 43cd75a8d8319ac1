//! The cluster's scheduler: hosts sessions over many executors. It comes with the cluster; this crate
//! holds its place in the line of imports.
