//! The `sinew-scheduler` command.

fn main() {}
