//! What a user may do: roles, and the role that a statement needs.

use std::fmt;

use datafusion::logical_expr::{LogicalPlan, Statement as PlanStatement};
use datafusion::sql::sqlparser::tokenizer::Token;
use sinew_sql::Statement;

use crate::session::{Prepared, Session, tokens};

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Queries and predictions. Every user may do that.
    Read,
    /// Definitions, INSERT, COPY and rows that a client sends.
    Write,
    /// TRAIN MODEL, RETRAIN MODEL and DROP MODEL.
    Train,
    /// Everything, and settings that others feel.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Train, Self::Admin];

    /// As files and messages write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Train => "train",
            Self::Admin => "admin",
        }
    }
}

/// The roles of a user; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// All roles.
    pub const ALL: Self = Self(1 << Role::Admin as u8);

    /// The roles of a list with commas.
    ///
    /// # Errors
    /// When there is none, or one of them is not one; the text says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut roles = 0;
        for name in text.split(',').map(str::trim) {
            let role = Role::ALL.into_iter().find(|role| role.name().eq_ignore_ascii_case(name));
            let known = || format!("'{name}' is no role; write some of read, write, train, admin with commas between");
            roles |= 1 << role.ok_or_else(known)? as u8;
        }
        Ok(Self(roles))
    }

    /// Whether a statement that needs `role` may run.
    pub fn allow(self, role: Role) -> bool {
        role == Role::Read || self.0 & (1 << role as u8 | 1 << Role::Admin as u8) != 0
    }
}

/// Queries only.
impl Default for Roles {
    fn default() -> Self {
        Self(1 << Role::Read as u8)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Role::ALL.iter().filter(|role| self.0 & (1 << **role as u8) != 0).map(|role| role.name());
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

/// What a statement is, and the role it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The role.
    pub role: Role,
    /// What the statement is, for messages and the audit.
    pub kind: &'static str,
}

const fn need(role: Role, kind: &'static str) -> Need {
    Need { role, kind }
}

/// A query, and whatever else changes nothing.
pub const QUERY: Need = need(Role::Read, "a query");
/// Rows that a client sends.
pub const INGEST: Need = need(Role::Write, "storing rows");
const EXPLAIN: Need = need(Role::Read, "EXPLAIN");
const SHOW: Need = need(Role::Read, "SHOW");
const TRAIN: Need = need(Role::Train, "TRAIN MODEL");
const RETRAIN: Need = need(Role::Train, "RETRAIN MODEL");
const DROP_MODEL: Need = need(Role::Train, "DROP MODEL");
const DEFINITION: Need = need(Role::Write, "a definition");
const CHANGE: Need = need(Role::Write, "changing a table");
const COPY: Need = need(Role::Write, "COPY");

/// The role that a statement needs. Every statement of a client passes here before it starts.
///
/// # Errors
/// When EXECUTE names what was not prepared.
pub(crate) async fn needed(session: &Session, prepared: &Prepared) -> crate::error::Result<Need> {
    Ok(match prepared {
        Prepared::Nothing => QUERY,
        Prepared::Plan(plan @ LogicalPlan::Statement(PlanStatement::Execute(_)), _) => {
            // Roles may have changed since it was prepared. This puts values into the plan, and runs nothing.
            let frame = session.context().execute_logical_plan(plan.clone()).await?;
            Need { role: of_plan(frame.logical_plan()).role, kind: "EXECUTE" }
        }
        Prepared::Query(plan) | Prepared::Plan(plan, _) => of_plan(plan),
        Prepared::Ours(statement) => of_ours(statement),
        // A training with parameters.
        Prepared::Template(_) => TRAIN,
    })
}

/// What a statement is that could not be planned, by the words that it begins with.
pub(crate) fn unplanned(text: &str) -> Need {
    let tokens = tokens(text).0;
    let words = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    let mut words = words.map_while(|token| match &token.token {
        Token::Word(word) => Some(word.value.to_uppercase()),
        _ => None,
    });
    let Some(first) = words.next() else { return QUERY };
    let rest: Vec<String> = words.take(3).collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let model = matches!(rest[..], ["MODEL", ..] | ["OR", "REPLACE", "MODEL", ..]);
    match first.as_str() {
        "SELECT" | "WITH" | "VALUES" | "FROM" | "TABLE" | "SUMMARIZE" => QUERY,
        "TRAIN" => TRAIN,
        "CREATE" if model => TRAIN,
        "RETRAIN" => RETRAIN,
        "DROP" if model => DROP_MODEL,
        "CREATE" | "DROP" | "ALTER" => DEFINITION,
        "INSERT" | "DELETE" | "UPDATE" | "TRUNCATE" | "MERGE" => CHANGE,
        "COPY" => COPY,
        "EXPLAIN" => EXPLAIN,
        "SHOW" | "DESCRIBE" | "DESC" => SHOW,
        "SET" | "RESET" => need(Role::Read, "SET"),
        "PREPARE" => need(Role::Read, "PREPARE"),
        "EXECUTE" => need(Role::Read, "EXECUTE"),
        _ => need(Role::Read, "a statement"),
    }
}

fn of_ours(statement: &Statement) -> Need {
    if matches!(statement, Statement::Train(_)) {
        TRAIN
    } else if matches!(statement, Statement::Retrain { .. }) {
        RETRAIN
    } else if matches!(statement, Statement::DropModel { .. }) {
        DROP_MODEL
    } else if matches!(statement, Statement::CancelTraining { .. }) {
        // What a user sees was started by the same user, or is shown to an administrator.
        need(Role::Read, "CANCEL TRAINING")
    } else if let Statement::ExplainTrain { analyze, .. } = statement {
        if *analyze { need(Role::Train, "EXPLAIN ANALYZE TRAIN MODEL") } else { EXPLAIN }
    } else if matches!(
        statement,
        Statement::ShowModels { .. }
            | Statement::ShowVersions { .. }
            | Statement::ShowDevices
            | Statement::ShowTraining
            | Statement::ShowModelFamilies
            | Statement::DescribeModel(_)
            | Statement::ShowCreateModel(_)
            | Statement::NotYet(_)
    ) {
        SHOW
    } else {
        // What nobody has thought about here is for administrators.
        need(Role::Admin, "this statement")
    }
}

fn of_plan(plan: &LogicalPlan) -> Need {
    match plan {
        LogicalPlan::Ddl(_) => DEFINITION,
        LogicalPlan::Dml(_) => CHANGE,
        LogicalPlan::Copy(_) => COPY,
        LogicalPlan::Explain(_) => EXPLAIN,
        // It runs what it explains.
        LogicalPlan::Analyze(analyze) => Need { role: of_plan(&analyze.input).role, kind: "EXPLAIN ANALYZE" },
        LogicalPlan::Statement(statement) => match statement {
            PlanStatement::SetVariable(set) => setting(&set.variable),
            PlanStatement::ResetVariable(reset) => setting(&reset.variable),
            PlanStatement::Prepare(prepare) => Need { role: of_plan(&prepare.input).role, kind: "PREPARE" },
            _ => need(Role::Read, "a statement of the session"),
        },
        other => other.inputs().into_iter().map(of_plan).find(|need| need.role != Role::Read).unwrap_or(QUERY),
    }
}

/// The role that SET and RESET of an option need: those that others feel are for administrators.
pub fn setting(variable: &str) -> Need {
    let variable = variable.to_lowercase();
    // DataFusion makes a new environment for these: memory without our limit, spill files in any folder.
    let shared = variable.starts_with("datafusion.runtime.") || variable == "sinew.cache_limit";
    if shared { need(Role::Admin, "SET of an option of the server") } else { need(Role::Read, "SET") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_as_they_are_written() {
        for text in ["read", "read,write", "train,admin"] {
            assert_eq!(Roles::parse(text).map(|roles| roles.to_string()), Ok(text.to_string()));
        }
        assert_eq!(Roles::parse("Write, read").map(|roles| roles.to_string()), Ok("read,write".into()));
        for wrong in ["", "root", "read,", "read write"] {
            assert!(Roles::parse(wrong).is_err_and(|text| text.contains("admin")), "{wrong}");
        }
    }

    #[test]
    fn an_administrator_may_do_everything_and_others_what_they_are_given() {
        let roles = |text: &str| Roles::parse(text).unwrap_or(Roles(0));
        for role in Role::ALL {
            assert!(Roles::ALL.allow(role) && roles("admin").allow(role));
            assert_eq!(roles("read").allow(role), role == Role::Read);
            assert_eq!(roles("write").allow(role), matches!(role, Role::Read | Role::Write));
            assert_eq!(roles("train").allow(role), matches!(role, Role::Read | Role::Train));
        }
    }

    #[test]
    fn a_statement_that_cannot_be_planned_is_known_by_its_words() {
        for (text, kind) in [
            ("SELECT x", "a query"),
            ("(SELECT 1)", "a query"),
            ("-- away\nCOPY (SELECT 1) TO '/etc/x.csv'", "COPY"),
            ("create external table t stored as csv location '/etc/x'", "a definition"),
            ("CREATE OR REPLACE MODEL m", "TRAIN MODEL"),
            ("CREATE TABLE model AS SELECT 1", "a definition"),
            ("DROP TABLE t", "a definition"),
            ("insert into t values (1)", "changing a table"),
            ("SELEC 1", "a statement"),
            ("", "a query"),
        ] {
            assert_eq!(unplanned(text).kind, kind, "{text}");
        }
    }

    #[test]
    fn options_that_others_feel_are_for_administrators() {
        for shared in ["datafusion.runtime.memory_limit", "DataFusion.Runtime.temp_directory", "sinew.cache_limit"] {
            assert_eq!(setting(shared).role, Role::Admin, "{shared}");
        }
        assert_eq!(setting("datafusion.execution.batch_size").role, Role::Read);
    }
}
