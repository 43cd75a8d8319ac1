//! Headings of a query's columns: an expression with a literal in it is called what was written.
//!
//! DataFusion calls `1 + x` by its planned form, `Int64(1) + t.x`.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast::{Expr, Ident, SelectItem, SetExpr, Statement as SqlStatement, Visit, Visitor};

/// Longer expressions keep DataFusion's names.
const LONGEST: usize = 64;

/// Names the columns of the outermost SELECT that have none and hold a literal.
pub(crate) fn keep(statement: &mut DFStatement) {
    let DFStatement::Statement(statement) = statement else { return };
    let SqlStatement::Query(query) = statement.as_mut() else { return };
    let sorted = query.order_by.is_some();
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    // Sort keys of SELECT DISTINCT must stand in its list under their own names.
    if sorted && select.distinct.is_some() {
        return;
    }
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) = item
            && let Some(name) = heading(expr)
        {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', name) };
        }
    }
}

fn heading(expr: &Expr) -> Option<String> {
    let mut literals = Literals { any: false, calls: false };
    let _ = expr.visit(&mut literals);
    let name = expr.to_string();
    (literals.any && !literals.calls && name.len() <= LONGEST).then_some(name)
}

/// Whether an expression has literals, and whether it calls functions over models or asks for rows.
struct Literals {
    any: bool,
    calls: bool,
}

impl Visitor for Literals {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Value(_) => self.any = true,
            Expr::Function(call) => {
                let name = call.name.to_string().to_lowercase();
                self.calls |= name.starts_with("predict");
            }
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => self.calls = true,
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
