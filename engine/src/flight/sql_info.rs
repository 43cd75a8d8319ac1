//! What the server is and can do, by the codes of Flight SQL: all of them, because drivers fail on one that is
//! missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetSqlInfo, SqlInfo as I, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity,
    SqlSupportedGroupBy, SqlSupportedResultSetConcurrency, SqlSupportedResultSetType, SqlSupportedSubqueries,
    SqlSupportedTransaction, SqlSupportedUnions, SqlTransactionIsolationLevel, SupportedSqlGrammar,
};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

/// Words that SQL does not know and this language does.
const KEYWORDS: &[&str] = &[
    "DESCRIBE",
    "EVALUATE",
    "EXPLAIN",
    "FAMILIES",
    "MODEL",
    "MODELS",
    "OPTIONS",
    "PREDICT",
    "SHOW",
    "SPLIT",
    "STORED",
    "TRAIN",
    "TRANSFORM",
    "VERSIONS",
];
const NUMERIC: &[&str] = &[
    "abs",
    "acos",
    "asin",
    "atan",
    "atan2",
    "cbrt",
    "ceil",
    "cos",
    "cot",
    "degrees",
    "exp",
    "factorial",
    "floor",
    "gcd",
    "lcm",
    "ln",
    "log",
    "log10",
    "log2",
    "pi",
    "power",
    "radians",
    "random",
    "round",
    "signum",
    "sin",
    "sqrt",
    "tan",
    "trunc",
];
const STRING: &[&str] = &[
    "ascii",
    "btrim",
    "char_length",
    "chr",
    "concat",
    "concat_ws",
    "contains",
    "ends_with",
    "initcap",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "octet_length",
    "position",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "translate",
    "trim",
    "upper",
];
const DATETIME: &[&str] = &[
    "current_date",
    "current_time",
    "date_bin",
    "date_part",
    "date_trunc",
    "extract",
    "from_unixtime",
    "make_date",
    "now",
    "to_date",
    "to_timestamp",
    "to_unixtime",
];

/// The types that values have.
enum Value {
    Text(&'static str),
    Bool(bool),
    BigInt(i64),
    Bitmask(i32),
    Words(&'static [&'static str]),
    /// Conversions of CONVERT, which is not there.
    NoConversions,
}

/// The sum of `1 << code`.
fn bits(codes: &[i32]) -> Value {
    Value::Bitmask(codes.iter().fold(0, |bits, code| bits | 1 << code))
}

/// The value of a code.
fn value(code: I) -> Value {
    use Value::{BigInt, Bitmask, Bool, NoConversions, Text, Words};
    let forward = SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32;
    let read_only = SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32;
    match code {
        I::FlightSqlServerName => Text("Sinew"),
        I::FlightSqlServerVersion => Text(env!("CARGO_PKG_VERSION")),
        I::FlightSqlServerArrowVersion => Text(datafusion::arrow::ARROW_VERSION),
        I::FlightSqlServerReadOnly => Bool(false),
        I::FlightSqlServerSubstrait => Bool(cfg!(feature = "substrait")),
        I::FlightSqlServerSql | I::FlightSqlServerCancel | I::FlightSqlServerBulkIngestion => Bool(true),
        I::FlightSqlServerSubstraitMinVersion | I::FlightSqlServerSubstraitMaxVersion => Text(""),
        I::FlightSqlServerTransaction => BigInt(SqlSupportedTransaction::None as i64),
        I::FlightSqlServerIngestTransactionsSupported => Bool(false),
        // Statements may take as long as they take.
        I::FlightSqlServerStatementTimeout | I::FlightSqlServerTransactionTimeout => BigInt(0),
        I::SqlDdlCatalog | I::SqlDdlSchema => Bool(false),
        I::SqlDdlTable | I::SqlAllTablesAreSelectable => Bool(true),
        I::SqlIdentifierCase => BigInt(SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i64),
        I::SqlQuotedIdentifierCase => BigInt(SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i64),
        I::SqlIdentifierQuoteChar => Text("\""),
        I::SqlNullOrdering => BigInt(SqlNullOrdering::SqlNullsSortedHigh as i64),
        I::SqlKeywords => Words(KEYWORDS),
        I::SqlNumericFunctions => Words(NUMERIC),
        I::SqlStringFunctions => Words(STRING),
        I::SqlSystemFunctions => Words(&["arrow_cast", "arrow_typeof", "coalesce", "nullif", "nvl", "version"]),
        I::SqlDatetimeFunctions => Words(DATETIME),
        I::SqlSearchStringEscape => Text("\\"),
        I::SqlExtraNameCharacters => Text(""),
        I::SqlSupportsColumnAliasing | I::SqlNullPlusNullIsNull => Bool(true),
        I::SqlSupportsConvert => NoConversions,
        I::SqlSupportsTableCorrelationNames => Bool(true),
        I::SqlSupportsDifferentTableCorrelationNames => Bool(false),
        I::SqlSupportsExpressionsInOrderBy | I::SqlSupportsOrderByUnrelated => Bool(true),
        I::SqlSupportedGroupBy => {
            bits(&[SqlSupportedGroupBy::SqlGroupByUnrelated as i32, SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32])
        }
        I::SqlSupportsLikeEscapeClause | I::SqlSupportsNonNullableColumns => Bool(true),
        I::SqlSupportedGrammar => {
            bits(&[SupportedSqlGrammar::SqlMinimumGrammar as i32, SupportedSqlGrammar::SqlCoreGrammar as i32])
        }
        // Entry level.
        I::SqlAnsi92SupportedLevel => bits(&[0]),
        I::SqlSupportsIntegrityEnhancementFacility => Bool(false),
        I::SqlOuterJoinsSupportLevel => bits(&[
            SqlOuterJoinsSupportLevel::SqlLimitedOuterJoins as i32,
            SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32,
        ]),
        I::SqlSchemaTerm => Text("schema"),
        I::SqlProcedureTerm => Text("procedure"),
        I::SqlCatalogTerm => Text("catalog"),
        I::SqlCatalogAtStart => Bool(true),
        I::SqlSchemasSupportedActions | I::SqlCatalogsSupportedActions | I::SqlSupportedPositionedCommands => {
            Bitmask(0)
        }
        I::SqlSelectForUpdateSupported | I::SqlStoredProceduresSupported => Bool(false),
        I::SqlSupportedSubqueries => bits(&[
            SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
            SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
            SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
        ]),
        I::SqlCorrelatedSubqueriesSupported => Bool(true),
        I::SqlSupportedUnions => bits(&[SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32]),
        // 0 is no limit, or one that is not known.
        I::SqlMaxBinaryLiteralLength
        | I::SqlMaxCharLiteralLength
        | I::SqlMaxColumnNameLength
        | I::SqlMaxColumnsInGroupBy
        | I::SqlMaxColumnsInIndex
        | I::SqlMaxColumnsInOrderBy
        | I::SqlMaxColumnsInSelect
        | I::SqlMaxColumnsInTable
        | I::SqlMaxConnections
        | I::SqlMaxCursorNameLength
        | I::SqlMaxIndexLength
        | I::SqlDbSchemaNameLength
        | I::SqlMaxProcedureNameLength
        | I::SqlMaxCatalogNameLength
        | I::SqlMaxRowSize
        | I::SqlMaxStatementLength
        | I::SqlMaxStatements
        | I::SqlMaxTableNameLength
        | I::SqlMaxTablesInSelect
        | I::SqlMaxUsernameLength => BigInt(0),
        I::SqlMaxRowSizeIncludesBlobs => Bool(true),
        I::SqlDefaultTransactionIsolation => BigInt(SqlTransactionIsolationLevel::SqlTransactionNone as i64),
        I::SqlTransactionsSupported => Bool(false),
        I::SqlSupportedTransactionsIsolationLevels => bits(&[SqlTransactionIsolationLevel::SqlTransactionNone as i32]),
        I::SqlDataDefinitionCausesTransactionCommit | I::SqlDataDefinitionsInTransactionsIgnored => Bool(false),
        I::SqlSupportedResultSetTypes => bits(&[forward]),
        I::SqlSupportedConcurrenciesForResultSetForwardOnly => bits(&[read_only]),
        I::SqlSupportedConcurrenciesForResultSetUnspecified
        | I::SqlSupportedConcurrenciesForResultSetScrollSensitive
        | I::SqlSupportedConcurrenciesForResultSetScrollInsensitive => Bitmask(0),
        I::SqlBatchUpdatesSupported => Bool(true),
        I::SqlSavepointsSupported | I::SqlNamedParametersSupported | I::SqlLocatorsUpdateCopy => Bool(false),
        I::SqlStoredFunctionsUsingCallSyntaxSupported => Bool(false),
    }
}

fn all() -> Result<SqlInfoData, FlightError> {
    let mut builder = SqlInfoDataBuilder::new();
    // Codes are below 1000, with gaps.
    for code in (0..1000).filter_map(|code| I::try_from(code).ok()) {
        match value(code) {
            Value::Text(value) => builder.append(code, value),
            Value::Bool(value) => builder.append(code, value),
            Value::BigInt(value) => builder.append(code, value),
            Value::Bitmask(value) => builder.append(code, value),
            Value::Words(value) => builder.append(code, value),
            Value::NoConversions => builder.append(code, BTreeMap::<i32, Vec<i32>>::new()),
        }
    }
    builder.build()
}

/// The columns of the answer.
pub fn schema() -> SchemaRef {
    Arc::new(SqlInfoDataBuilder::schema().clone())
}

/// The values of the codes that are asked for; all where none is.
///
/// # Errors
/// Never, if Arrow keeps its word.
pub fn rows(command: CommandGetSqlInfo) -> Result<RecordBatch, FlightError> {
    all()?.record_batch(command.info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_value() -> Result<(), FlightError> {
        let rows = rows(CommandGetSqlInfo { info: Vec::new() })?;
        assert_eq!(rows.num_rows(), 91);
        assert_eq!(rows.schema(), schema());
        Ok(())
    }
}
