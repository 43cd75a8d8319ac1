//! The types of SQL, as ODBC and JDBC describe them.

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{CommandGetXdbcTypeInfo, Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use XdbcDataType as T;
use XdbcDatetimeSubcode as D;

/// Name, type, size (digits of a number, characters of a text form), and the code of a date or time.
const TYPES: [(&str, T, Option<i32>, Option<D>); 17] = [
    ("BOOLEAN", T::XdbcBit, Some(1), None),
    ("TINYINT", T::XdbcTinyint, Some(3), None),
    ("SMALLINT", T::XdbcSmallint, Some(5), None),
    ("INT", T::XdbcInteger, Some(10), None),
    ("BIGINT", T::XdbcBigint, Some(19), None),
    ("TINYINT UNSIGNED", T::XdbcTinyint, Some(3), None),
    ("SMALLINT UNSIGNED", T::XdbcSmallint, Some(5), None),
    ("INT UNSIGNED", T::XdbcInteger, Some(10), None),
    ("BIGINT UNSIGNED", T::XdbcBigint, Some(20), None),
    ("REAL", T::XdbcReal, Some(24), None),
    ("DOUBLE", T::XdbcDouble, Some(53), None),
    ("DECIMAL", T::XdbcDecimal, Some(76), None),
    ("VARCHAR", T::XdbcVarchar, None, None),
    ("BYTEA", T::XdbcVarbinary, None, None),
    ("DATE", T::XdbcDate, Some(10), Some(D::XdbcSubcodeYear)),
    ("TIME", T::XdbcTime, Some(18), Some(D::XdbcSubcodeTime)),
    ("TIMESTAMP", T::XdbcTimestamp, Some(29), Some(D::XdbcSubcodeTimestamp)),
];

fn described((name, data_type, size, subcode): (&str, T, Option<i32>, Option<D>)) -> XdbcTypeInfo {
    let number = !matches!(name, "BOOLEAN" | "VARCHAR" | "BYTEA" | "DATE" | "TIME" | "TIMESTAMP");
    let quoted = matches!(name, "VARCHAR" | "DATE" | "TIME" | "TIMESTAMP").then(|| "'".to_string());
    let exact = number && !matches!(name, "REAL" | "DOUBLE");
    let scale = match name {
        "DECIMAL" => Some(76),
        _ if exact => Some(0),
        _ => None,
    };
    XdbcTypeInfo {
        type_name: name.into(),
        data_type,
        column_size: size,
        literal_prefix: if name == "BYTEA" { Some("X'".into()) } else { quoted.clone() },
        literal_suffix: if name == "BYTEA" { Some("'".into()) } else { quoted },
        create_params: (name == "DECIMAL").then(|| vec!["precision".into(), "scale".into()]),
        nullable: Nullable::NullabilityNullable,
        case_sensitive: name == "VARCHAR",
        searchable: if name == "VARCHAR" { Searchable::Full } else { Searchable::Basic },
        unsigned_attribute: number.then(|| name.ends_with("UNSIGNED")),
        fixed_prec_scale: false,
        auto_increment: number.then_some(false),
        local_type_name: Some(name.into()),
        minimum_scale: exact.then_some(0),
        maximum_scale: scale,
        sql_data_type: if subcode.is_some() { T::XdbcDatetime } else { data_type },
        datetime_subcode: subcode,
        num_prec_radix: number.then_some(if exact { 10 } else { 2 }),
        interval_precision: None,
    }
}

fn all() -> Result<XdbcTypeInfoData, FlightError> {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    TYPES.into_iter().for_each(|row| builder.append(described(row)));
    builder.build()
}

/// The columns of the answer.
pub fn schema() -> SchemaRef {
    XdbcTypeInfoDataBuilder::new().schema()
}

/// The types, or those of one code.
///
/// # Errors
/// Never, if Arrow keeps its word.
pub fn rows(command: CommandGetXdbcTypeInfo) -> Result<RecordBatch, FlightError> {
    all()?.record_batch(command.data_type)
}
