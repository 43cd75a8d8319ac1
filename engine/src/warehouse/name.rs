//! Names of models and tables as one segment of a path, reversibly.
//!
//! ASCII letters, digits, `_`, `-` and inner dots stand for themselves; every other byte of the UTF-8
//! text is `=XX`. The escape is not `%`, because object stores and `file:` addresses decode that once
//! more on their way to a folder.

use crate::error::{Result, SinewError};

/// The longest segment that every file system takes.
pub const MAX_SEGMENT: usize = 255;

/// The path segment of a name.
///
/// # Errors
/// When the name is empty, holds a NUL character, or is longer than 255 bytes once encoded.
pub fn encode(name: &str) -> Result<String> {
    let bad = |reason: &str| {
        let shown: String = name.chars().take(40).flat_map(char::escape_default).collect();
        Err(SinewError::BadName { name: shown, reason: reason.into() })
    };
    if name.is_empty() {
        return bad("a name needs at least one character");
    }
    if name.contains('\0') {
        return bad("a name cannot hold a NUL character");
    }
    let mut segment = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        let inner_dot = byte == b'.' && at > 0 && at + 1 < name.len();
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' || inner_dot {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("={byte:02X}"));
        }
    }
    if segment.len() > MAX_SEGMENT {
        return bad("a name may take 255 bytes, where a character outside A-Z a-z 0-9 _ - counts three for each byte");
    }
    Ok(segment)
}

/// The name of a path segment; `None` when [`encode`] did not write it.
pub fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'=' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (encode(&name).ok()? == segment).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_names_stay_readable() -> Result<()> {
        assert_eq!(encode("churn_2")?, "churn_2");
        assert_eq!(encode("Churn")?, "Churn");
        assert_eq!(encode("ds.churn")?, "ds.churn");
        assert_eq!(encode("..")?, "=2E=2E");
        assert_eq!(encode("../../x")?, "=2E.=2F..=2Fx");
        assert_eq!(encode("%2e%2e")?, "=252e=252e");
        Ok(())
    }

    #[test]
    fn impossible_names_are_refused() {
        for name in ["", "a\0b", &"x".repeat(256), &"é".repeat(43)] {
            assert!(matches!(encode(name), Err(SinewError::BadName { .. })), "{name:?}");
        }
        assert!(encode(&"x".repeat(255)).is_ok());
    }

    proptest! {
        #[test]
        fn every_name_stays_below_its_folder_and_comes_back(name in "\\PC{1,60}|[./\\\\%=~ ]{1,9}") {
            if let Ok(segment) = encode(&name) {
                prop_assert!(segment.len() <= MAX_SEGMENT);
                prop_assert!(segment != "." && segment != ".." && !segment.contains(['/', '\\', '%']));
                prop_assert!(!segment.starts_with('.') && !segment.ends_with('.'));
                prop_assert_eq!(decode(&segment), Some(name));
                let root = object_store::path::Path::from("w");
                let path = root.clone().join("models").join(segment.as_str());
                prop_assert!(path.prefix_matches(&root));
                prop_assert_eq!(path.parts().count(), 3);
            }
        }
    }
}
