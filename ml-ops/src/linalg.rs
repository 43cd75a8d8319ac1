//! Dense linear algebra on the driver: small, serial, and the same on every machine.

/// A symmetric matrix, stored in full, row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Symmetric {
    /// Rows (and columns).
    pub size: usize,
    /// `[size, size]`.
    pub values: Vec<f64>,
}
