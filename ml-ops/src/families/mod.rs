//! The families, one file each, and the table that everything else reads.

use crate::family::Family;

/// All families. The parser, the options, the manual and the tests read this table.
pub static FAMILIES: &[&dyn Family] = &[];
