//! `SUMMARIZE`: a row for each column of a query, by ordinary aggregates over it, in one pass.
//!
//! One aggregate finds everything, in one row. Lists over its columns, an element for each column of the query, are
//! then unnested into rows.

use std::sync::Arc;

use datafusion::arrow::compute::can_cast_types;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Column, ScalarValue, UnnestOptions};
use datafusion::functions::encoding::expr_fn::encode;
use datafusion::functions::math::expr_fn::round;
use datafusion::functions_aggregate::expr_fn::{approx_distinct, approx_percentile_cont, avg, count, max, min, stddev};
use datafusion::functions_nested::make_array::make_array;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit, try_cast, when};

use crate::error::{Result, SqlError};

/// The columns of the result.
const COLUMNS: [&str; 12] = [
    "column_name",
    "column_type",
    "min",
    "max",
    "approx_unique",
    "avg",
    "std",
    "q25",
    "q50",
    "q75",
    "count",
    "null_percentage",
];
/// The quantiles among them.
const QUANTILES: [f64; 3] = [0.25, 0.5, 0.75];

/// The plan that describes the rows of another one.
///
/// # Errors
/// When the other one returns no columns.
pub(super) fn of(plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns: Vec<(Column, FieldRef)> =
        plan.schema().iter().map(|(table, field)| (Column::from((table, field)), Arc::clone(field))).collect();
    if columns.is_empty() || matches!(plan, LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Copy(_)) {
        return Err(SqlError::Query { message: "SUMMARIZE takes a table or a query with columns".into() });
    }
    let mut found = Aggregates(vec![count(lit(1_i64)).alias("rows")]);
    let rows = || Expr::Column(Column::from_name("rows"));
    let mut lists: [Vec<Expr>; 12] = Default::default();
    for (column, field) in columns {
        let text = |text: String| lit(ScalarValue::Utf8(Some(text)));
        let own = Described::new(Expr::Column(column), field.data_type());
        let [q25, q50, q75] = QUANTILES.map(|at| own.quantile(at, &mut found));
        let cells = [
            text(field.name().clone()),
            text(field.data_type().to_string()),
            own.extreme(min, &mut found),
            own.extreme(max, &mut found),
            own.distinct(&mut found),
            own.number(avg, &mut found),
            own.number(stddev, &mut found),
            q25,
            q50,
            q75,
            rows(),
            own.nulls(rows(), &mut found)?,
        ];
        for (list, cell) in lists.iter_mut().zip(cells) {
            list.push(cell);
        }
    }
    let one_row = LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), found.0)?;
    let lists = lists.into_iter().zip(COLUMNS).map(|(list, name)| make_array(list).alias(name));
    let unnested = COLUMNS.iter().map(|name| Column::from_name(*name)).collect();
    Ok(one_row.project(lists)?.unnest_columns_with_options(unnested, UnnestOptions::default())?.build()?)
}

/// The aggregates so far.
struct Aggregates(Vec<Expr>);

impl Aggregates {
    /// Adds one; what stands for its result.
    fn add(&mut self, aggregate: Expr) -> Expr {
        let name = format!("found_{}", self.0.len());
        self.0.push(aggregate.alias(&name));
        Expr::Column(Column::from_name(name))
    }
}

/// One column of the query.
struct Described {
    column: Expr,
    /// The type of its values, whatever holds them.
    values: DataType,
}

fn nothing(data_type: &DataType) -> Expr {
    cast(lit(ScalarValue::Null), data_type.clone())
}

fn as_text(value: Expr) -> Expr {
    cast(value, DataType::Utf8)
}

impl Described {
    fn new(column: Expr, data_type: &DataType) -> Self {
        match data_type {
            DataType::Dictionary(_, values) => {
                Self { column: cast(column, values.as_ref().clone()), values: values.as_ref().clone() }
            }
            other => Self { column, values: other.clone() },
        }
    }

    fn is_binary(&self) -> bool {
        use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
        matches!(self.values, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
    }

    /// Whether values have an order that people know.
    fn has_order(&self) -> bool {
        let values = &self.values;
        let known = values.is_numeric() || values.is_temporal() || values.is_string() || self.is_binary();
        known || *values == DataType::Boolean
    }

    /// The least or the greatest value.
    fn extreme(&self, which: fn(Expr) -> Expr, found: &mut Aggregates) -> Expr {
        if !self.has_order() || !(self.is_binary() || can_cast_types(&self.values, &DataType::Utf8)) {
            return nothing(&DataType::Utf8);
        }
        let value = found.add(which(self.column.clone()));
        // Bytes need not be text.
        as_text(if self.is_binary() { encode(cast(value, DataType::Binary), lit("hex")) } else { value })
    }

    /// About how many different values there are.
    fn distinct(&self, found: &mut Aggregates) -> Expr {
        let counted = match &self.values {
            // These are not counted as they are, but their texts are as different as they are.
            DataType::Float16 | DataType::Float32 | DataType::Float64 => as_text(self.column.clone()),
            _ if self.has_order() => self.column.clone(),
            _ => return nothing(&DataType::Int64),
        };
        cast(found.add(approx_distinct(counted)), DataType::Int64)
    }

    /// A number that describes numbers.
    fn number(&self, which: fn(Expr) -> Expr, found: &mut Aggregates) -> Expr {
        if !self.values.is_numeric() {
            return nothing(&DataType::Utf8);
        }
        as_text(found.add(which(cast(self.column.clone(), DataType::Float64))))
    }

    /// The value below which about a fraction of the values lie, of numbers and times.
    fn quantile(&self, at: f64, found: &mut Aggregates) -> Expr {
        let (number, values) = (DataType::Int64, &self.values);
        let counted = values.is_temporal() && can_cast_types(values, &number) && can_cast_types(&number, values);
        if !values.is_numeric() && !counted {
            return nothing(&DataType::Utf8);
        }
        let own = if counted { cast(self.column.clone(), number.clone()) } else { self.column.clone() };
        let own = cast(own, DataType::Float64);
        let value = found.add(approx_percentile_cont(own.sort(true, false), lit(at), None));
        if values.is_floating() {
            return as_text(value);
        }
        let whole = match values {
            _ if counted => try_cast(try_cast(round(vec![value.clone()]), number), values.clone()),
            _ if values.is_integer() => try_cast(round(vec![value.clone()]), values.clone()),
            _ => try_cast(value.clone(), values.clone()),
        };
        // At the ends of the type's range a number may have no value of the type.
        datafusion::functions::core::expr_fn::coalesce(vec![as_text(whole), as_text(value)])
    }

    /// How many of a hundred values are missing.
    fn nulls(&self, rows: Expr, found: &mut Aggregates) -> Result<Expr> {
        let there = cast(found.add(count(self.column.clone())), DataType::Float64);
        let rows = cast(rows, DataType::Float64);
        let percentage = (lit(1.0) - there / rows.clone()) * lit(100.0);
        Ok(when(rows.gt(lit(0.0)), cast(percentage, DataType::Decimal128(9, 2))).end()?)
    }
}
