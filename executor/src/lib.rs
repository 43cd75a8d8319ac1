//! The cluster's executor: runs plans and training steps next to the data. It comes with the cluster;
//! this crate holds its place in the line of imports.
