//! The scans of a plan that was made elsewhere: each is looked at here, and nowhere else.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, TableReference};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::listing::{ListingTable, ListingTableUrl};
use datafusion::datasource::{MemTable, provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScan};

use super::codec::Named;
use crate::error::{Result, SinewError};
use crate::session::Session;
use crate::storage::Service;

/// Scheme of an address that stands for a table of the server, for clients whose DataFusion has no other way to
/// write one into a plan.
const TABLE: &str = "sinew";

/// What a scan reads.
enum Reads {
    /// A table of this session.
    Name,
    /// Files.
    Files(Vec<ListingTableUrl>),
    /// Rows that came with the plan, or that the plan makes.
    Plan,
}

fn reads(scan: &TableScan) -> Result<Reads> {
    let provider = source_as_provider(&scan.source)?;
    if let Some(files) = provider.downcast_ref::<ListingTable>() {
        return Ok(match files.table_paths().iter().all(|path| path.scheme() == TABLE) {
            true => Reads::Name,
            false => Reads::Files(files.table_paths().clone()),
        });
    }
    if provider.is::<Named>() || provider.is::<EmptyTable>() {
        return Ok(Reads::Name);
    }
    if provider.is::<MemTable>() || provider.is::<CteWorkTable>() {
        return Ok(Reads::Plan);
    }
    Err(SinewError::NotAvailable {
        what: format!("a scan of '{}' in a plan that travels", scan.table_name),
        hint: "name a table of the server".into(),
    })
}

/// # Errors
/// When files of a plan may not be read.
fn may_read(path: &ListingTableUrl) -> Result<()> {
    match Service::of(path.scheme()) {
        Some(_) => Ok(()),
        None => Err(SinewError::NotAvailable {
            what: format!("reading {}:// addresses", path.scheme()),
            hint: "copy the files to a local folder or an object store (s3://, gs://, az://)".into(),
        }),
    }
}

/// Levels of an expression, such as terms of a sum, that a plan may have.
const MOST_LEVELS: usize = 1_000;

/// # Errors
/// When an expression is nested so deeply that threads which run statements could not walk it.
pub fn not_too_deep(plan: &LogicalPlan) -> Result<()> {
    let mut most = 0;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            let mut level = vec![expr];
            let mut levels = 0;
            while !level.is_empty() && levels <= MOST_LEVELS {
                levels += 1;
                let mut next = Vec::new();
                for expr in level {
                    expr.apply_children(|child| {
                        next.push(child);
                        Ok(TreeNodeRecursion::Continue)
                    })?;
                }
                level = next;
            }
            most = most.max(levels);
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    match most <= MOST_LEVELS {
        true => Ok(()),
        false => Err(SinewError::TooMany {
            what: format!("{MOST_LEVELS} levels of an expression in a plan"),
            hint: "compute it in parts, or sum an array".into(),
        }),
    }
}

/// The plan with this session's tables in the place of their names.
///
/// # Errors
/// When a table or a column of it is not there, or a scan is not allowed.
pub async fn settle(session: &Session, plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut names: Vec<TableReference> = Vec::new();
    let mut refused = Ok(());
    plan.apply_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = node else { return Ok(TreeNodeRecursion::Continue) };
        let looked = reads(scan).and_then(|reads| match reads {
            Reads::Name if names.contains(&scan.table_name) => Ok(()),
            Reads::Name => {
                names.push(scan.table_name.clone());
                Ok(())
            }
            Reads::Files(paths) => paths.iter().try_for_each(may_read),
            Reads::Plan => Ok(()),
        });
        refused = looked;
        Ok(if refused.is_ok() { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    refused?;
    if names.is_empty() {
        return Ok(plan);
    }
    let tables = find(session, names).await?;
    let settled = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::TableScan(scan) => match (reads(&scan)?, tables.get(&scan.table_name)) {
            (Reads::Name, Some(table)) => Ok(Transformed::yes(replaced(scan, Arc::clone(table))?)),
            _ => Ok(Transformed::no(LogicalPlan::TableScan(scan))),
        },
        // Columns may have other types there than the client believed.
        other if other.inputs().is_empty() => Ok(Transformed::no(other)),
        other => Ok(Transformed::yes(other.recompute_schema()?)),
    });
    Ok(settled?.data)
}

async fn find(
    session: &Session,
    names: Vec<TableReference>,
) -> Result<HashMap<TableReference, Arc<dyn TableProvider>>> {
    let (context, mut tables) = (session.context(), HashMap::new());
    session.tables().refresh(context, &names).await?;
    for name in names {
        let missing = || DataFusionError::Plan(format!("table '{name}' not found"));
        let schema = context.state().schema_for_ref(name.clone()).map_err(|_| missing())?;
        let table = schema.table(name.table()).await?.ok_or_else(missing)?;
        tables.insert(name, table);
    }
    Ok(tables)
}

/// The same scan of the table itself. What the client's plan pushed into the scan stands above it.
fn replaced(scan: TableScan, table: Arc<dyn TableProvider>) -> DataFusionResult<LogicalPlan> {
    let known = scan.source.schema();
    let mut plan = LogicalPlanBuilder::scan(scan.table_name.clone(), provider_as_source(table), None)?;
    let column = |name: &str| Column::new(Some(scan.table_name.clone()), name);
    let columns: Vec<&str> = match &scan.projection {
        Some(indices) => indices.iter().map(|at| known.field(*at).name().as_str()).collect(),
        None => known.fields().iter().map(|field| field.name().as_str()).collect(),
    };
    if let Some(gone) = columns.iter().find(|name| !plan.schema().has_column(&column(name))) {
        let text = format!("table '{}' has no column '{gone}' any more; look the table up again", scan.table_name);
        return Err(DataFusionError::Plan(text));
    }
    if let Some(filter) = conjunction(scan.filters.clone()) {
        plan = plan.filter(filter)?;
    }
    plan.project(columns.into_iter().map(|name| Expr::Column(column(name))))?.build()
}
