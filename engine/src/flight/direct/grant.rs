//! Leave to read one part of one result: signed by the gateway (Ed25519), read by executors.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use prost::Message;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::error::{Result, SinewError};

/// How a signed grant begins; no message of Flight SQL does.
const MAGIC: &[u8] = b"\xffSNW1";
/// Bytes of a signature.
const SIGNATURE: usize = 64;

/// Leave to read one part of one result.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Grant {
    /// The executor that holds it, by the name it gave itself.
    #[prost(string, tag = "1")]
    pub executor: String,
    /// What the executor reads, in its own terms.
    #[prost(bytes = "vec", tag = "2")]
    pub what: Vec<u8>,
    /// Seconds since 1970 until when.
    #[prost(uint64, tag = "3")]
    pub until: u64,
    /// The result, as the gateway's session knows it.
    #[prost(string, tag = "4")]
    pub result: String,
    /// The number of the part.
    #[prost(uint32, tag = "5")]
    pub part: u32,
}

impl Grant {
    /// The end of a time that begins now.
    pub fn ends_after(time: Duration) -> u64 {
        (SystemTime::now() + time).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// The grant in a ticket, unchecked; `None` where the ticket is none of these.
    pub fn unchecked(ticket: &[u8]) -> Option<Self> {
        let signed = ticket.strip_prefix(MAGIC)?;
        Self::decode(signed.get(SIGNATURE..)?).ok()
    }
}

/// Signs grants.
#[derive(Debug)]
pub struct Signer(Ed25519KeyPair);

impl Signer {
    /// A new key, which dies with the process.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn new() -> Result<Self> {
        let failed = |_| SinewError::Internal("no key could be made for tickets".into());
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(failed)?;
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref());
        pair.map(Self).map_err(|_| SinewError::Internal("a key for tickets cannot be read".into()))
    }

    /// The public key in hexadecimal digits, for [`Verifier::new`].
    pub fn public(&self) -> String {
        self.0.public_key().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A ticket.
    pub fn sign(&self, grant: &Grant) -> Vec<u8> {
        let bytes = grant.encode_to_vec();
        [MAGIC, self.0.sign(&bytes).as_ref(), &bytes].concat()
    }
}

/// Checks grants for one executor.
#[derive(Clone, Debug)]
pub struct Verifier {
    key: Arc<RwLock<Vec<u8>>>,
    executor: String,
}

impl Verifier {
    /// Accepts what was signed by the owner of a public key, for this executor.
    ///
    /// # Errors
    /// When the key is not 64 hexadecimal digits.
    pub fn new(public: &str, executor: &str) -> Result<Self> {
        Ok(Self { key: Arc::new(RwLock::new(Self::key(public)?)), executor: executor.into() })
    }

    /// Accepts what another key's owner signs from now on; copies do as well.
    ///
    /// # Errors
    /// When the key is not 64 hexadecimal digits.
    pub fn renew(&self, public: &str) -> Result<()> {
        *self.key.write() = Self::key(public)?;
        Ok(())
    }

    fn key(public: &str) -> Result<Vec<u8>> {
        let digit = |at: usize| public.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let key: Option<Vec<u8>> = (0..public.len()).step_by(2).map(digit).collect();
        let odd = || SinewError::Internal(format!("'{public}' is no key of a scheduler"));
        key.filter(|key| key.len() == 32).ok_or_else(odd)
    }

    /// The grant in a ticket.
    ///
    /// # Errors
    /// When it is forged, for another executor, or has expired.
    pub fn open(&self, ticket: &[u8]) -> Result<Grant> {
        let refused = |why: &str| SinewError::UnknownHandle {
            what: format!("the ticket ({why})"),
            hint: "run the statement again".into(),
        };
        let signed = ticket.strip_prefix(MAGIC).filter(|signed| signed.len() > SIGNATURE);
        let (signature, bytes) = signed.ok_or_else(|| refused("not one of an executor"))?.split_at(SIGNATURE);
        let key = UnparsedPublicKey::new(&ED25519, self.key.read().clone());
        key.verify(bytes, signature).map_err(|_| refused("not signed by this cluster"))?;
        let grant = Grant::decode(bytes).map_err(|_| refused("not readable"))?;
        if grant.executor != self.executor {
            return Err(refused("for another executor"));
        }
        if grant.until < Grant::ends_after(Duration::ZERO) {
            return Err(refused("expired"));
        }
        Ok(grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(until: u64) -> Grant {
        Grant { executor: "e1".into(), what: vec![1, 2, 3], until, result: "r".into(), part: 4 }
    }

    #[test]
    fn what_is_signed_opens_where_it_is_meant_to() -> Result<()> {
        let signer = Signer::new()?;
        let here = Verifier::new(&signer.public(), "e1")?;
        let mine = grant(Grant::ends_after(Duration::from_secs(60)));
        let ticket = signer.sign(&mine);
        assert_eq!(here.open(&ticket)?, mine);
        assert_eq!(Grant::unchecked(&ticket), Some(mine.clone()));
        let says = |verifier: &Verifier, ticket: &[u8]| match verifier.open(ticket) {
            Ok(grant) => format!("{grant:?}"),
            Err(error) => error.to_string(),
        };
        assert!(says(&Verifier::new(&signer.public(), "e2")?, &ticket).contains("another executor"));
        assert!(says(&Verifier::new(&Signer::new()?.public(), "e1")?, &ticket).contains("not signed"));
        assert!(says(&here, &signer.sign(&grant(1_000))).contains("expired"));
        for at in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[at] ^= 1;
            assert!(says(&here, &forged).contains("SINEW-3305"), "byte {at}");
        }
        for length in 0..ticket.len() {
            assert!(here.open(&ticket[..length]).is_err(), "{length} bytes");
        }
        assert!(Verifier::new("zz", "e1").is_err() && Verifier::new("", "e1").is_err());
        Ok(())
    }
}
