#![allow(clippy::unwrap_used, clippy::panic)]
use super::super::testing::{label, model, number, text};
use super::*;

fn sample() -> Model {
    model("run-1", vec![number("x", 0.1), text("c", &["a", "\u{e9}"], true)], Some(label("y", "Utf8", &["no", "yes"])))
}

#[test]
fn a_model_comes_back_as_it_was_and_its_bytes_are_stable() {
    let model = sample();
    let (manifest, weights) = model.to_files().unwrap();
    let back = Model::from_files(&manifest, &weights).unwrap();
    assert_eq!(back, model);
    assert!(back.weights["intercept"].data[0].is_sign_negative());
    assert_eq!(back.to_files().unwrap(), (manifest, weights));
    assert_eq!(Model::from_bytes(&model.to_bytes().unwrap()).unwrap(), model);
    let other = Model { weights: Weights::new(), ..sample() };
    assert_ne!(model.checksum().unwrap(), other.checksum().unwrap());
}

#[test]
fn the_manifest_is_json_that_others_can_read() {
    let (manifest, weights) = sample().to_files().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(json["family"], "test");
    assert_eq!(json["weights_sha256"], hex(&Sha256::digest(&weights)));
    assert_eq!(json["seed"], u64::MAX);
}

fn refused(manifest: &[u8], weights: &[u8], file: &str) {
    match Model::from_files(manifest, weights) {
        Err(MlError::Damaged { reason }) => assert!(reason.starts_with(file), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let (manifest, weights) = sample().to_files().unwrap();
    for at in 0..manifest.len() {
        for mask in [1, 0x20, 0x80, 0xff] {
            let mut file = manifest.clone();
            file[at] ^= mask;
            refused(&file, &weights, MANIFEST);
        }
        refused(&manifest[..at], &weights, MANIFEST);
    }
    for at in 0..weights.len() {
        for mask in [1, 0x20, 0x80, 0xff] {
            let mut file = weights.clone();
            file[at] ^= mask;
            refused(&manifest, &file, WEIGHTS);
        }
        refused(&manifest, &weights[..at], WEIGHTS);
    }
    refused(&manifest, &[&weights[..], b" "].concat(), WEIGHTS);
    refused(&[&manifest[..], b" "].concat(), &weights, MANIFEST);
    let bytes = sample().to_bytes().unwrap();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        assert!(matches!(Model::from_bytes(&flipped), Err(MlError::Damaged { .. })), "{at}");
        assert!(matches!(Model::from_bytes(&bytes[..at]), Err(MlError::Damaged { .. })), "{at}");
    }
}

/// Seals a manifest again, as someone who edits it on purpose would.
fn resealed(manifest: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(manifest.to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    let mut file = text.replacen(from, to, 1).into_bytes();
    file[SEAL.len()..SEAL.len() + DIGITS].fill(b'0');
    let sum = hex(&Sha256::digest(&file));
    file[SEAL.len()..SEAL.len() + DIGITS].copy_from_slice(sum.as_bytes());
    file
}

#[test]
fn a_later_format_names_both_versions() {
    let (manifest, weights) = sample().to_files().unwrap();
    let later = resealed(&manifest, "\"format\": 1", "\"format\": 7");
    let error = Model::from_files(&later, &weights).unwrap_err().to_string();
    assert!(error.contains("format 7") && error.contains("formats up to 1"), "{error}");
    refused(&resealed(&manifest, "\"stop_reason\"", "\"stop_reasom\""), &weights, MANIFEST);
}

#[test]
fn numbers_that_are_not_finite_are_not_written() {
    let mut model = sample();
    model.weights.insert("w".into(), Tensor { shape: vec![1], data: vec![f64::NAN] });
    assert!(matches!(model.to_files(), Err(MlError::Numeric { .. })));
    let mut model = sample();
    model.weights.insert("w".into(), Tensor { shape: vec![2], data: vec![1.0] });
    assert!(matches!(model.to_files(), Err(MlError::Numeric { .. })));
    for bad in [f64::NAN, f64::INFINITY] {
        let mut model = sample();
        model.manifest.iterations[0].loss = bad;
        assert!(matches!(model.to_files(), Err(MlError::Numeric { .. })));
        let mut model = sample();
        model.manifest.metrics[1].1 = Some(bad);
        assert!(matches!(model.to_files(), Err(MlError::Numeric { .. })));
    }
}

#[test]
fn tensors_of_other_types_are_refused() {
    let (manifest, _) = sample().to_files().unwrap();
    for (dtype, bytes) in [(Dtype::F32, [0_u8; 8]), (Dtype::F64, f64::INFINITY.to_le_bytes())] {
        let shape = vec![8 / (dtype.bitsize() / 8)];
        let view = TensorView::new(dtype, shape, &bytes).unwrap();
        let weights = safetensors::serialize([("w", view)], None).unwrap();
        let old = &String::from_utf8(manifest.clone()).unwrap()[SEAL.len() + DIGITS..][24..88].to_string();
        let sealed = resealed(&manifest, old, &hex(&Sha256::digest(&weights)));
        refused(&sealed, &weights, "weights.safetensors: tensor 'w'");
    }
}
