//! A model as two files, and as one buffer.
//!
//! ```text
//! manifest.json         {"manifest_sha256": "..",   over this file, with zeros in place of these digits
//!                        "weights_sha256": "..",    over the other file
//!                        "format": 1, ..}           the manifest
//! weights.safetensors   every tensor as F64, by name
//! buffer                "SINEWMDL", the length of manifest.json (8 bytes, little endian), both files
//! ```
//! The first checksum has a fixed place, so it covers every byte of the file and can be checked before
//! anything is parsed, whatever the format version. The same model gives the same bytes.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{FORMAT, Manifest, Model};
use crate::error::{MlError, Result};
use crate::family::{Tensor, Weights};

const MANIFEST: &str = "manifest.json";
const WEIGHTS: &str = "weights.safetensors";
const MAGIC: &[u8; 8] = b"SINEWMDL";
/// How a manifest starts; the digits of its checksum follow.
const SEAL: &str = "{\n  \"manifest_sha256\": \"";
const DIGITS: usize = 64;

impl Model {
    /// The bytes of `manifest.json` and `weights.safetensors`.
    ///
    /// # Errors
    /// When a number of the model is not finite, or a tensor's shape is not that of its data.
    pub fn to_files(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        let weights = write_weights(&self.weights)?;
        Ok((write_manifest(&self.manifest, &weights)?, weights))
    }

    /// Reads what [`Self::to_files`] wrote.
    ///
    /// # Errors
    /// [`MlError::Damaged`], naming file and check, when a byte of either is not as it was written;
    /// [`MlError::NotAvailable`] when a later version wrote it.
    pub fn from_files(manifest: &[u8], weights: &[u8]) -> Result<Self> {
        unseal(manifest)?;
        let Head { format, weights_sha256 } = parse(manifest)?;
        if format > FORMAT {
            return Err(MlError::NotAvailable {
                what: format!("model artifact format {format}"),
                hint: format!(
                    "this version reads formats up to {FORMAT}; use the engine that wrote it, or a newer one"
                ),
            });
        }
        let found = hex(&Sha256::digest(weights));
        if found != weights_sha256 {
            return Err(damaged(WEIGHTS, format!("its SHA-256 is {found}, and {MANIFEST} says {weights_sha256}")));
        }
        Ok(Self { manifest: parse(manifest)?, weights: read_weights(weights)? })
    }

    /// The model in one buffer, for plans that carry it.
    ///
    /// # Errors
    /// As for [`Self::to_files`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let (manifest, weights) = self.to_files()?;
        let length = (manifest.len() as u64).to_le_bytes();
        Ok([&MAGIC[..], &length, &manifest, &weights].concat())
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// As for [`Self::from_files`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let short = || damaged("the model in the plan", "it is cut short or is no model".into());
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(short)?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| short())?;
        let (manifest, weights) = rest.split_at_checked(length).ok_or_else(short)?;
        Self::from_files(manifest, weights)
    }

    /// The SHA-256 of the whole artifact, in hexadecimal: equal for equal models only.
    ///
    /// # Errors
    /// As for [`Self::to_files`].
    pub fn checksum(&self) -> Result<String> {
        unseal(&self.to_files()?.0)
    }
}

/// What has to be read before the rest can be.
#[derive(Deserialize)]
struct Head {
    format: u32,
    weights_sha256: String,
}

fn write_manifest(manifest: &Manifest, weights: &[u8]) -> Result<Vec<u8>> {
    let json =
        serde_json::to_vec_pretty(manifest).map_err(|e| MlError::Internal(format!("writing a manifest: {e}")))?;
    let weights_sum = hex(&Sha256::digest(weights));
    let body = json.strip_prefix(b"{").ok_or_else(|| MlError::Internal("a manifest is no JSON object".into()))?;
    let zeros = "0".repeat(DIGITS);
    let mut file = format!("{SEAL}{zeros}\",\n  \"weights_sha256\": \"{weights_sum}\",").into_bytes();
    file.extend_from_slice(body);
    file.push(b'\n');
    let sum = hex(&Sha256::digest(&file));
    file[SEAL.len()..SEAL.len() + DIGITS].copy_from_slice(sum.as_bytes());
    // JSON has no infinities: better to fail now than to publish what cannot be read again.
    if parse::<Manifest>(&file).ok().as_ref() != Some(manifest) {
        return Err(MlError::Numeric { reason: "the manifest of the model holds a number that is not finite".into() });
    }
    Ok(file)
}

/// The checksum a manifest carries, if it is right.
fn unseal(file: &[u8]) -> Result<String> {
    let wrong = |check: &str| damaged(MANIFEST, check.into());
    let rest = file.strip_prefix(SEAL.as_bytes()).ok_or_else(|| wrong("it does not start with its checksum"))?;
    let (sum, rest) = rest.split_at_checked(DIGITS).ok_or_else(|| wrong("it is cut short"))?;
    let mut hash = Sha256::new();
    hash.update(SEAL);
    hash.update([b'0'; DIGITS]);
    hash.update(rest);
    let found = hex(&hash.finalize());
    if found.as_bytes() != sum {
        return Err(wrong(&format!("its SHA-256 is {found}, and it says {}", String::from_utf8_lossy(sum))));
    }
    Ok(found)
}

fn parse<'a, T: Deserialize<'a>>(file: &'a [u8]) -> Result<T> {
    serde_json::from_slice(file).map_err(|e| damaged(MANIFEST, format!("it does not parse: {e}")))
}

fn write_weights(weights: &Weights) -> Result<Vec<u8>> {
    let internal = |name: &str, e: String| MlError::Internal(format!("writing tensor '{name}': {e}"));
    let mut buffers = Vec::with_capacity(weights.len());
    for (name, tensor) in weights {
        check(tensor).map_err(|e| MlError::Numeric { reason: format!("tensor '{name}' {e}") })?;
        buffers.push((name, &tensor.shape, tensor.data.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()));
    }
    let views = buffers.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F64, shape.to_vec(), bytes);
        Ok((name.as_str(), view.map_err(|e| internal(name, e.to_string()))?))
    });
    safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None).map_err(|e| internal("", e.to_string()))
}

fn read_weights(file: &[u8]) -> Result<Weights> {
    let tensors = SafeTensors::deserialize(file).map_err(|e| damaged(WEIGHTS, e.to_string()))?;
    let mut weights = Weights::new();
    for (name, view) in tensors.tensors() {
        if view.dtype() != Dtype::F64 {
            return Err(damaged(WEIGHTS, format!("tensor '{name}' is {:?}, not F64", view.dtype())));
        }
        let (words, _) = view.data().as_chunks::<8>();
        let tensor =
            Tensor { shape: view.shape().to_vec(), data: words.iter().map(|word| f64::from_le_bytes(*word)).collect() };
        check(&tensor).map_err(|e| damaged(WEIGHTS, format!("tensor '{name}' {e}")))?;
        weights.insert(name, tensor);
    }
    Ok(weights)
}

/// Whether a tensor has as many values as its shape says, all finite.
fn check(tensor: &Tensor) -> Result<(), String> {
    let size = tensor.shape.iter().try_fold(1_usize, |size, axis| size.checked_mul(*axis));
    if size != Some(tensor.data.len()) {
        return Err(format!("has shape {:?} and {} values", tensor.shape, tensor.data.len()));
    }
    match tensor.data.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(format!("holds {value}")),
        None => Ok(()),
    }
}

fn damaged(file: &str, check: String) -> MlError {
    MlError::Damaged { reason: format!("{file}: {check}") }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
