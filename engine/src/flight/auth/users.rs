//! The file of users, a line for each: `name:role,role:hash`, with `#` before comments.

use std::collections::HashMap;
use std::path::Path;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHashString, PasswordHasher, PasswordVerifier, SaltString};

use super::roles::Roles;
use super::secret::random;
use crate::error::{Result, SinewError};

/// The longest name, in bytes.
const LONGEST_NAME: usize = 64;
/// The longest password, in bytes.
pub const LONGEST_PASSWORD: usize = 1024;

/// A user.
#[derive(Clone, Debug)]
pub struct User {
    /// What the user may do.
    pub roles: Roles,
    hash: PasswordHashString,
}

/// All users, by name.
#[derive(Clone, Debug, Default)]
pub struct Users(HashMap<String, User>);

impl Users {
    /// The users of a file.
    ///
    /// # Errors
    /// When it cannot be read, or a line is none; the text names the line.
    pub fn read(path: &Path) -> Result<Self> {
        let mut users = HashMap::new();
        for (place, line) in lines(path)? {
            let refuse = |reason: &str| SinewError::Accounts { place: place.clone(), reason: reason.into() };
            let form = "write name:role,role:hash, as 'sinew user add NAME --roles read' makes it";
            let mut parts = line.splitn(3, ':').map(str::trim);
            let (Some(name), Some(roles), Some(hash)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(refuse(form));
            };
            check_name(name).map_err(|reason| refuse(&reason))?;
            let roles = Roles::parse(roles).map_err(|reason| refuse(&reason))?;
            let hash =
                PasswordHashString::new(hash).ok().filter(|hash| hash.algorithm().as_str().starts_with("argon2"));
            let hash = hash.ok_or_else(|| refuse(&format!("the hash is none of Argon2; {form}")))?;
            if users.insert(name.to_string(), User { roles, hash }).is_some() {
                return Err(refuse(&format!("user '{name}' stands here twice; keep one line")));
            }
        }
        Ok(Self(users))
    }

    /// A user.
    pub fn get(&self, name: &str) -> Option<&User> {
        self.0.get(name)
    }

    /// What to verify a password against: the user's hash, or for a name that there is not the hash of another,
    /// which takes the same time and is no match. `None` where there are no users at all.
    pub fn hash_for(&self, name: &str) -> Option<(PasswordHashString, bool)> {
        match self.0.get(name) {
            Some(user) => Some((user.hash.clone(), true)),
            None => self.0.values().next().map(|user| (user.hash.clone(), false)),
        }
    }
}

/// The lines of a file that are no comments, each with its place.
pub fn lines(path: &Path) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| SinewError::Io { what: format!("reading '{}'", path.display()), source })?;
    let lines =
        (1..).zip(text.lines()).map(|(number, line)| (format!("line {number} of {}", path.display()), line.trim()));
    let said = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    Ok(said.map(|(place, line)| (place, line.to_string())).collect())
}

/// Whether a user can have a name.
///
/// # Errors
/// The text says what a name is.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    match !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(plain) {
        true => Ok(()),
        false => Err(format!("a user's name has letters, digits and . _ - @, at most {LONGEST_NAME} of them")),
    }
}

/// Whether a password belongs to a hash. It takes some 20 ms and 19 MiB, and blocks.
pub fn verify(hash: &PasswordHashString, password: &[u8]) -> bool {
    Argon2::default().verify_password(password, &hash.password_hash()).is_ok()
}

/// A line of the file of users.
///
/// # Errors
/// When the name or the password cannot be one.
pub fn line(name: &str, roles: Roles, password: &str) -> Result<String> {
    let refuse = |reason: String| SinewError::Accounts { place: format!("user '{name}'"), reason };
    check_name(name).map_err(refuse)?;
    if password.is_empty() || password.len() > LONGEST_PASSWORD {
        return Err(refuse(format!("a password has 1 to {LONGEST_PASSWORD} bytes")));
    }
    let salt = SaltString::encode_b64(&random::<16>()?).map_err(|e| refuse(e.to_string()))?;
    let hash: PasswordHash<'_> =
        Argon2::default().hash_password(password.as_bytes(), &salt).map_err(|e| refuse(e.to_string()))?;
    Ok(format!("{name}:{roles}:{hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_made_lets_its_user_in() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let place = tempfile::tempdir()?;
        let path = place.path().join("users");
        let line = line("ann@x.org", Roles::parse("read,train")?, "pass:word")?;
        std::fs::write(&path, format!("# people\n\n{line}\n"))?;
        let users = Users::read(&path)?;
        let (hash, known) = users.hash_for("ann@x.org").ok_or("no hash")?;
        assert!(known && verify(&hash, b"pass:word") && !verify(&hash, b"pass"));
        let (other, known) = users.hash_for("nobody").ok_or("no hash")?;
        assert!(!known && other.as_str() == hash.as_str(), "the same work for a name that there is not");
        for (text, word) in [
            ("ann:read\n", "name:role"),
            ("a b:read:x", "letters"),
            ("ann:root:x", "no role"),
            ("ann:read:$2b$10$abc", "Argon2"),
            (&format!("{line}\n{line}"), "twice"),
        ] {
            std::fs::write(&path, text)?;
            let error = Users::read(&path).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.starts_with("SINEW-3705: line ") && error.contains(word), "{text}: {error}");
            assert!(!error.contains("$argon2"), "{error}");
        }
        Ok(())
    }
}
