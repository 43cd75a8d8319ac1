//! Random numbers, digests, base64, and comparisons that take the same time whatever they find.

use argon2::password_hash::Encoding;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use crate::error::{Result, SinewError};

/// A SHA-256 digest.
pub type Fingerprint = [u8; 32];

/// So many random bytes of the system.
///
/// # Errors
/// When the system gives none.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let failed = |_| SinewError::Io {
        what: "asking the system for random numbers".into(),
        source: std::io::Error::other("it gives none"),
    };
    SystemRandom::new().fill(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The digest of some parts, which cannot be cut in another way for the same digest.
pub fn digest(parts: &[&[u8]]) -> Fingerprint {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// The plain SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> Fingerprint {
    Sha256::digest(bytes).into()
}

/// Whether two digests are the same, in the same time for all of them.
pub fn same(one: &Fingerprint, other: &Fingerprint) -> bool {
    let differs = one.iter().zip(other).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    std::hint::black_box(differs) == 0
}

/// Hexadecimal digits in lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of 64 hexadecimal digits.
pub fn from_hex(text: &str) -> Option<Fingerprint> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// The bytes of a base64 text, with padding or without.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = vec![0; text.len()];
    Encoding::B64.decode(text, &mut bytes).ok().map(<[u8]>::to_vec)
}

/// The text of bytes in base64, without padding.
pub fn to_base64(bytes: &[u8]) -> String {
    let mut text = vec![0; Encoding::B64.encoded_len(bytes)];
    Encoding::B64.encode(bytes, &mut text).map(str::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_and_without_padding() {
        for (text, bytes) in [("YTpi", "a:b"), ("YWI6Yw==", "ab:c"), ("YWI6Yw", "ab:c"), ("", "")] {
            assert_eq!(from_base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        for wrong in ["a", "YW I6Yw", "YWI6Yw=x", "é", "YWI6Y*"] {
            assert_eq!(from_base64(wrong), None, "{wrong}");
        }
        assert_eq!(from_base64(&to_base64(&[0, 255, 254])), Some(vec![0, 255, 254]));
    }

    #[test]
    fn digests_are_compared_and_written() {
        let (a, b) = (digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert!(same(&a, &a) && !same(&a, &b));
        assert_eq!(from_hex(&hex(&a)), Some(a));
        assert_eq!(from_hex("0g"), None);
    }
}
