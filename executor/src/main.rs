//! The `sinew-executor` command.

fn main() {}
