//! Names that travel: DataFusion writes a column's table into its messages without quotes, and reads back another name
//! where it is not lower-case letters and digits. Such tables go by a name of ours.

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScanBuilder};

use super::relations::name;
use crate::error::Result;
use crate::plans::{Named, Relation};

/// A plan whose tables have names that travel, and the relations that these names stand for.
pub fn safe(plan: LogicalPlan) -> Result<(LogicalPlan, Vec<Relation>)> {
    let (mut renamed, mut relations) = (Vec::<(TableReference, TableReference)>::new(), Vec::new());
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && !is_plain(&scan.table_name)
            && !renamed.iter().any(|(old, _)| *old == scan.table_name)
        {
            let new = name();
            if source_as_provider(&scan.source)?.is::<Named>() {
                let query = format!("SELECT * FROM {}", scan.table_name.to_quoted_string());
                relations.push(Relation { name: new.clone(), plan: bytes::Bytes::new(), query });
            }
            renamed.push((scan.table_name.clone(), TableReference::bare(new)));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if renamed.is_empty() {
        return Ok((plan, relations));
    }
    let new = |old: &TableReference| renamed.iter().find(|(other, _)| other == old).map(|(_, new)| new.clone());
    let plan = plan.transform_up_with_subqueries(|node| rename(node, &new))?.data;
    Ok((plan, relations))
}

fn is_plain(table: &TableReference) -> bool {
    let plain = |part: &str| {
        let letter = |c: char| c == '_' || c.is_ascii_lowercase();
        part.starts_with(letter) && part.chars().all(|c| letter(c) || c.is_ascii_digit())
    };
    [table.catalog(), table.schema(), Some(table.table())].into_iter().flatten().all(plain)
}

fn rename(
    node: LogicalPlan,
    new: &impl Fn(&TableReference) -> Option<TableReference>,
) -> DataFusionResult<Transformed<LogicalPlan>> {
    let column = |expr: Expr| {
        expr.transform_up(|expr| match expr {
            Expr::Column(mut column) => match column.relation.as_ref().and_then(new) {
                Some(relation) => {
                    column.relation = Some(relation);
                    Ok(Transformed::yes(Expr::Column(column)))
                }
                None => Ok(Transformed::no(Expr::Column(column))),
            },
            other => Ok(Transformed::no(other)),
        })
    };
    if let LogicalPlan::TableScan(scan) = &node {
        let Some(table) = new(&scan.table_name) else { return Ok(Transformed::no(node)) };
        let filters = scan.filters.iter().cloned().map(|filter| Ok(column(filter)?.data));
        let scan = TableScanBuilder::new(table, Arc::clone(&scan.source))
            .with_projection(scan.projection.clone())
            .with_filters(filters.collect::<DataFusionResult<Vec<_>>>()?)
            .with_fetch(scan.fetch);
        return Ok(Transformed::yes(LogicalPlan::TableScan(scan.build()?)));
    }
    if node.inputs().is_empty() {
        return Ok(Transformed::no(node));
    }
    // Columns that are computed keep their names, which the nodes above use.
    let names = NamePreserver::new(&node);
    let renamed = node.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(column(expr)?.update_data(|expr| name.restore(expr)))
    })?;
    renamed.map_data(LogicalPlan::recompute_schema)
}
