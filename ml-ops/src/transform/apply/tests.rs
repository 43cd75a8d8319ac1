#![allow(clippy::unwrap_used)]
use datafusion::arrow::array::*;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::*;

use super::*;
use crate::block::{Block, Column};
use crate::model::testing::{label, number, text};
use crate::transform::{FittedFeature, FittedLabel};

fn transform(features: Vec<FittedFeature>, label: Option<FittedLabel>, on_missing: OnMissing) -> FittedTransform {
    FittedTransform { features, label, on_missing }
}

fn one(feature: FittedFeature, column: ArrayRef) -> Result<ArrayRef> {
    let batch = transform(vec![feature], None, OnMissing::Impute).apply(&[column])?;
    Block::from_batch(&batch)?;
    assert_eq!(batch.column(0).null_count(), 0);
    Ok(Arc::clone(batch.column(0)))
}

fn doubles(array: &ArrayRef) -> Vec<f64> {
    cast(array, &DataType::Float64).unwrap().as_primitive::<Float64Type>().values().to_vec()
}

fn codes(array: &ArrayRef) -> Vec<u32> {
    array.as_primitive::<UInt32Type>().values().to_vec()
}

#[test]
fn floats_without_gaps_are_shared() {
    let singles: ArrayRef = Arc::new(Float32Array::from(vec![1.0, 2.0, 3.0]));
    let doubles: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0]));
    for array in [singles, doubles] {
        for array in [Arc::clone(&array), array.slice(1, 2)] {
            let out = one(number("x", 9.0), Arc::clone(&array)).unwrap();
            assert_eq!(&out, &array);
            assert_eq!(out.to_data().buffers()[0].as_ptr(), array.to_data().buffers()[0].as_ptr());
        }
    }
}

#[test]
fn every_numeric_type_has_the_same_values() {
    let source: ArrayRef = Arc::new(Int8Array::from(vec![Some(1), Some(0), Some(1), None]));
    let types = [
        (DataType::Int8, DataType::Float32),
        (DataType::Int16, DataType::Float32),
        (DataType::UInt8, DataType::Float32),
        (DataType::UInt16, DataType::Float32),
        (DataType::Float16, DataType::Float32),
        (DataType::Float32, DataType::Float32),
        (DataType::Boolean, DataType::Float32),
        (DataType::Int32, DataType::Float64),
        (DataType::Int64, DataType::Float64),
        (DataType::UInt32, DataType::Float64),
        (DataType::UInt64, DataType::Float64),
        (DataType::Float64, DataType::Float64),
        (DataType::Decimal128(10, 2), DataType::Float64),
        (DataType::Decimal256(40, 2), DataType::Float64),
        (DataType::Dictionary(DataType::Int8.into(), DataType::Int64.into()), DataType::Float64),
    ];
    for (data_type, prepared) in types {
        let array = cast(&source, &data_type).unwrap();
        let full = one(number("x", 0.1), array.slice(0, 3)).unwrap();
        assert_eq!((full.data_type(), doubles(&full)), (&prepared, vec![1.0, 0.0, 1.0]), "{data_type}");
        let gap = one(number("x", 0.1), array.slice(1, 3)).unwrap();
        assert_eq!((gap.data_type(), doubles(&gap)), (&DataType::Float64, vec![0.0, 1.0, 0.1]), "{data_type}");
    }
    let none = one(number("x", 0.1), new_null_array(&DataType::Null, 2)).unwrap();
    assert_eq!(doubles(&none), [0.1, 0.1]);
}

#[test]
fn nan_is_missing_and_infinity_is_an_error() {
    let array: ArrayRef = Arc::new(Float32Array::from(vec![Some(f32::NAN), Some(0.1), None]));
    assert_eq!(doubles(&one(number("x", 0.1), array).unwrap()), [0.1, f64::from(0.1_f32), 0.1]);
    for bad in [f64::INFINITY, f64::NEG_INFINITY] {
        for gap in [Some(1.0), None] {
            let array: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), gap, Some(bad)]));
            let error = one(number("x", 0.0), array).unwrap_err().to_string();
            assert!(error.contains("'x'") && error.contains("Infinity"), "{error}");
        }
    }
    // What lies under a NULL is no value.
    let hidden = Float64Array::new(vec![f64::INFINITY, 2.0].into(), Some(vec![false, true].into()));
    assert_eq!(doubles(&one(number("x", 0.5), Arc::new(hidden)).unwrap()), [0.5, 2.0]);
}

#[test]
fn categories_of_every_encoding_have_the_same_codes() {
    let source: ArrayRef =
        Arc::new(StringArray::from(vec![Some("b"), Some("new"), None, Some("a"), Some(""), Some("b")]));
    let dictionary = |key: DataType| DataType::Dictionary(key.into(), DataType::Utf8.into());
    let types = [
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        dictionary(DataType::Int8),
        dictionary(DataType::UInt32),
        DataType::Dictionary(DataType::Int32.into(), DataType::Utf8View.into()),
    ];
    for data_type in types {
        let array = cast(&source, &data_type).unwrap();
        for (null, code) in [(true, 3), (false, u32::MAX)] {
            let feature = || text("c", &["", "a", "b"], null);
            let all = codes(&one(feature(), Arc::clone(&array)).unwrap());
            assert_eq!(all, [2, u32::MAX, code, 1, 0, 2], "{data_type}");
            // One row of a dictionary of many values, and a slice in the middle.
            assert_eq!(codes(&one(feature(), array.slice(3, 1)).unwrap()), [1], "{data_type}");
            assert_eq!(codes(&one(feature(), array.slice(1, 3)).unwrap()), [u32::MAX, code, 1], "{data_type}");
            assert!(codes(&one(feature(), array.slice(0, 0)).unwrap()).is_empty());
        }
    }
    let null_values =
        DictionaryArray::new(Int8Array::from(vec![0, 1]), Arc::new(StringArray::from(vec![None, Some("a")])));
    assert_eq!(codes(&one(text("c", &["a"], true), Arc::new(null_values)).unwrap()), [1, 0]);
    let all_null = new_null_array(&dictionary(DataType::Int32), 2);
    assert_eq!(codes(&one(text("c", &["a"], true), all_null).unwrap()), [1, 1]);
    assert_eq!(codes(&one(text("c", &["a"], false), new_null_array(&DataType::Null, 1)).unwrap()), [u32::MAX]);

    let boolean = FittedFeature { data_type: "Boolean".into(), ..text("b", &["false", "true"], true) };
    let array: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]));
    assert_eq!(codes(&one(boolean.clone(), array).unwrap()), [1, 2, 0]);
    assert!(one(boolean, Arc::new(StringArray::from(vec!["true"]))).is_err());
}

#[test]
fn columns_of_another_kind_are_named() {
    let error = one(number("age", 0.0), Arc::new(StringArray::from(vec!["3"]))).unwrap_err().to_string();
    for part in ["SINEW-2010", "'age'", "Float64", "Utf8", "CAST"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(one(text("plan", &["a"], false), Arc::new(Int64Array::from(vec![1]))).is_err());
    let two = transform(vec![number("x", 0.0), number("z", 0.0)], None, OnMissing::Impute);
    let error = two.apply(&[Arc::new(Int64Array::from(vec![1]))]).unwrap_err().to_string();
    assert!(error.contains("2 features (x, z)") && error.contains("1 column"), "{error}");
}

#[test]
fn names_of_columns_cannot_clash() {
    let both = transform(vec![number("__label", 0.0), number("__label", 0.0)], None, OnMissing::Impute);
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let block = Block::from_batch(&both.apply(&[Arc::clone(&column), column]).unwrap()).unwrap();
    assert_eq!(block.columns.len(), 2);
    assert!(matches!(block.columns[0], Column::F64(_)));
}

#[test]
fn rows_with_gaps_are_skipped_or_refused() {
    let features = || vec![number("x", 0.0), text("c", &["a"], true)];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from(vec![Some(1.0), None, Some(f64::NAN), Some(2.0), Some(3.0)])),
        Arc::new(StringArray::from(vec![Some("a"), Some("a"), None, None, Some("unseen")])),
    ];
    let run = |policy| Encoder::new(&transform(features(), None, policy)).unwrap().apply(&columns);
    assert!(run(OnMissing::Impute).unwrap().valid.is_none());
    let valid = run(OnMissing::Skip).unwrap().valid.unwrap();
    assert_eq!(valid.iter().collect::<Vec<_>>(), [true, false, false, false, true]);
    let error = run(OnMissing::Error).unwrap_err().to_string();
    assert!(error.contains("'x' holds 2 missing values"), "{error}");
    let full: Vec<ArrayRef> = columns.iter().map(|c| c.slice(4, 1)).collect();
    let encoder = Encoder::new(&transform(features(), None, OnMissing::Error)).unwrap();
    assert!(encoder.apply(&full).unwrap().valid.is_none());
}

#[test]
fn labels_become_values_or_classes() {
    let encode = |label: FittedLabel, array: ArrayRef| -> Result<(ArrayRef, Option<Vec<bool>>)> {
        let (values, valid) = transform(vec![], Some(label), OnMissing::Impute).encode_label(&array)?;
        let valid = valid.map(|v| v.iter().collect::<Vec<_>>());
        Ok((values, valid))
    };
    let (values, valid) = encode(label("y", "Int32", &[]), Arc::new(Float32Array::from(vec![1.5, f32::NAN]))).unwrap();
    assert_eq!((doubles(&values), valid), (vec![1.5, 0.0], Some(vec![true, false])));
    assert_eq!(values.data_type(), &DataType::Float64);

    // Class labels in any type of numbers, in numeric order.
    let numbers = || label("y", "Int64", &["-1", "9", "10"]);
    let source: ArrayRef = Arc::new(Int64Array::from(vec![Some(10), Some(-1), Some(9), None, Some(3)]));
    for data_type in [DataType::Int64, DataType::Int8, DataType::Float64, DataType::Float32, DataType::Decimal128(9, 2)]
    {
        let (values, valid) = encode(numbers(), cast(&source, &data_type).unwrap()).unwrap();
        assert_eq!(codes(&values), [2, 0, 1, 0, 0]);
        assert_eq!(valid, Some(vec![true, true, true, false, false]), "{data_type}");
    }
    let (values, valid) = encode(numbers(), Arc::new(Float64Array::from(vec![9.0, 9.5]))).unwrap();
    assert_eq!((codes(&values), valid), (vec![1, 0], Some(vec![true, false])));
    let zero = label("y", "Float64", &["0", "1"]);
    let (values, valid) = encode(zero, Arc::new(Float64Array::from(vec![-0.0, 1.0]))).unwrap();
    assert_eq!((codes(&values), valid), (vec![0, 1], None));
    let fractions = label("y", "Float32", &["0.1", "0.2"]);
    let (values, valid) = encode(fractions, Arc::new(Float32Array::from(vec![0.2, 0.1]))).unwrap();
    assert_eq!((codes(&values), valid), (vec![1, 0], None));
    let large = label("y", "Int64", &["9007199254740992", "9007199254740993"]);
    let (values, valid) = encode(large, Arc::new(Int64Array::from(vec![(1_i64 << 53) + 1]))).unwrap();
    assert_eq!((codes(&values), valid), (vec![1], None));

    let texts = || label("y", "Utf8", &["no", "yes"]);
    let array: ArrayRef = Arc::new(StringArray::from(vec![Some("yes"), None, Some("maybe"), Some("no")]));
    for data_type in [DataType::Utf8View, DataType::Dictionary(DataType::Int16.into(), DataType::Utf8.into())] {
        let (values, valid) = encode(texts(), cast(&array, &data_type).unwrap()).unwrap();
        assert_eq!(codes(&values), [1, 0, 0, 0]);
        assert_eq!(valid, Some(vec![true, false, false, true]));
    }
    let (values, valid) = encode(texts(), new_null_array(&DataType::Null, 1)).unwrap();
    assert_eq!((codes(&values), valid), (vec![0], Some(vec![false])));
    let error = encode(texts(), Arc::new(Int64Array::from(vec![1]))).unwrap_err().to_string();
    assert!(error.contains("label 'y'") && error.contains("Int64"), "{error}");

    let flags = label("y", "Boolean", &["false", "true"]);
    let (values, valid) = encode(flags, Arc::new(BooleanArray::from(vec![true, false]))).unwrap();
    assert_eq!((codes(&values), valid), (vec![1, 0], None));
    assert!(transform(vec![], None, OnMissing::Impute).encode_label(&array).is_err());
}
