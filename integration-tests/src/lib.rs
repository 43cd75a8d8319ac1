//! Tests that cross crates or processes; see `tests/`.
