//! Statements of the language, and their SQL.

use std::fmt;

use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast::Expr as SqlExpr;
use sinew_ml::params::ParamValue;
use sinew_ml::split::SplitSpec;

use crate::error::{Position, SqlError};
use crate::name::{ModelRef, quote};

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// `TRAIN MODEL` and `CREATE MODEL`.
    Train(Box<TrainStatement>),
    /// `EXPLAIN [ANALYZE]` of one of them.
    ExplainTrain {
        /// Whether the training runs.
        analyze: bool,
        /// The training.
        train: Box<TrainStatement>,
    },
    /// `RETRAIN MODEL name [RESUME]`: the statement that trained the model, once more.
    Retrain {
        /// The model.
        name: String,
        /// Whether its interrupted training goes on, rather than a new one.
        resume: bool,
    },
    /// `SHOW MODELS [LIKE pattern]`.
    ShowModels {
        /// A pattern with `%` and `_`.
        like: Option<String>,
    },
    /// `SHOW VERSIONS OF MODEL name`.
    ShowVersions {
        /// The model.
        name: String,
    },
    /// `SHOW MODEL FAMILIES`.
    ShowModelFamilies,
    /// `SHOW DEVICES`.
    ShowDevices,
    /// `SHOW TRAINING`.
    ShowTraining,
    /// `CANCEL TRAINING 'run'`.
    CancelTraining {
        /// The name of the run.
        run: String,
    },
    /// `DESCRIBE MODEL reference`.
    DescribeModel(ModelRef),
    /// `SHOW CREATE MODEL reference`.
    ShowCreateModel(ModelRef),
    /// `DROP MODEL [IF EXISTS] name [VERSION n]`.
    DropModel {
        /// Whether a model that is not there is no error.
        if_exists: bool,
        /// The model.
        name: String,
        /// One version; `None` means the whole model.
        version: Option<u64>,
    },
    /// Everything that DataFusion plans.
    Query(Box<QueryStatement>),
    /// A statement of the language that this version refuses.
    NotYet(NotYet),
}

/// Something that parses and is refused: what it is, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotYet {
    /// The statement, clause or function.
    pub what: String,
    /// What to do instead.
    pub hint: String,
}

impl NotYet {
    pub(crate) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}

impl From<NotYet> for SqlError {
    fn from(refused: NotYet) -> Self {
        SqlError::NotYet { what: refused.what, hint: refused.hint }
    }
}

/// A statement of DataFusion's, with the models its functions refer to.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryStatement {
    /// The statement; `MODEL m` in it has become a string literal, `TABLE t` a subquery.
    pub statement: DFStatement,
    /// Whether its columns are described (`SUMMARIZE`) rather than its rows returned.
    pub summarized: bool,
    /// All models it refers to, each once, in order.
    pub models: Vec<ModelRef>,
    /// The statement as written.
    pub text: String,
    /// Where it starts in the script.
    pub position: Position,
}

/// A training.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainStatement {
    /// The model's name.
    pub name: String,
    /// Which of the two spellings.
    pub spelling: Spelling,
    /// The family as written, in lower case.
    pub family: Option<String>,
    /// The label columns; empty when none is given.
    pub labels: Vec<String>,
    /// The row weight.
    pub weight: Option<Weight>,
    /// How rows are held out; `None` when the statement does not say.
    pub split: Option<SplitSpec>,
    /// The family's options as written, names in lower case.
    pub options: Vec<(String, ParamValue)>,
    /// Whether an interrupted run of the same statement goes on, where there is one.
    pub resume: bool,
    /// Whether the statement returns at once, and the training goes on by itself.
    pub background: bool,
    /// What is trained on.
    pub query: QuerySource,
    /// The statement as written.
    pub text: String,
    /// Where it starts in the script.
    pub position: Position,
}

/// The two spellings of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `TRAIN MODEL`: adds a version.
    Train,
    /// `CREATE MODEL`: an error if the name exists.
    Create {
        /// A new version is trained and the old ones are archived.
        or_replace: bool,
        /// Nothing happens if the name exists.
        if_not_exists: bool,
    },
}

/// The expression after `WEIGHT BY`.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// As written.
    pub sql: String,
    /// Parsed.
    pub expr: SqlExpr,
}

/// What a training reads.
#[derive(Clone, Debug, PartialEq)]
pub struct QuerySource {
    /// The query as SQL; `SELECT * FROM t` where only a table is given.
    pub sql: String,
    /// The table as written after `FROM`, if there was no query.
    pub table: Option<String>,
    /// The query, parsed.
    pub statement: DFStatement,
    /// All models it refers to, each once, in order.
    pub models: Vec<ModelRef>,
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Train(train) => write!(f, "{train}"),
            Self::ExplainTrain { analyze, train } => {
                write!(f, "EXPLAIN {}{train}", if *analyze { "ANALYZE " } else { "" })
            }
            Self::Retrain { name, resume } => {
                write!(f, "RETRAIN MODEL {}{}", quote(name), if *resume { " RESUME" } else { "" })
            }
            Self::ShowModels { like: None } => f.write_str("SHOW MODELS"),
            Self::ShowModels { like: Some(like) } => write!(f, "SHOW MODELS LIKE {}", text(like)),
            Self::ShowVersions { name } => write!(f, "SHOW VERSIONS OF MODEL {}", quote(name)),
            Self::ShowModelFamilies => f.write_str("SHOW MODEL FAMILIES"),
            Self::ShowDevices => f.write_str("SHOW DEVICES"),
            Self::ShowTraining => f.write_str("SHOW TRAINING"),
            Self::CancelTraining { run } => write!(f, "CANCEL TRAINING {}", text(run)),
            Self::DescribeModel(model) => write!(f, "DESCRIBE MODEL {}", model.to_sql()),
            Self::ShowCreateModel(model) => write!(f, "SHOW CREATE MODEL {}", model.to_sql()),
            Self::DropModel { if_exists, name, version } => {
                write!(f, "DROP MODEL {}{}", if *if_exists { "IF EXISTS " } else { "" }, quote(name))?;
                version.map_or(Ok(()), |version| write!(f, " VERSION {version}"))
            }
            Self::Query(query) => f.write_str(&query.text),
            Self::NotYet(refused) => f.write_str(&refused.what),
        }
    }
}

impl fmt::Display for TrainStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.spelling {
            Spelling::Train => write!(f, "TRAIN MODEL {}", quote(&self.name))?,
            Spelling::Create { or_replace, if_not_exists } => write!(
                f,
                "CREATE {}MODEL {}{}",
                if or_replace { "OR REPLACE " } else { "" },
                if if_not_exists { "IF NOT EXISTS " } else { "" },
                quote(&self.name)
            )?,
        }
        if let Some(family) = &self.family {
            write!(f, " USING {}", quote(family))?;
        }
        if !self.labels.is_empty() {
            write!(f, " PREDICT {}", self.labels.iter().map(|l| quote(l)).collect::<Vec<_>>().join(", "))?;
        }
        if let Some(weight) = &self.weight {
            write!(f, " WEIGHT BY {}", weight.sql)?;
        }
        if let Some(split) = &self.split {
            write!(f, " {}", split_clause(split))?;
        }
        if !self.options.is_empty() {
            let options: Vec<_> =
                self.options.iter().map(|(name, value)| format!("{} = {}", quote(name), literal(value))).collect();
            write!(f, " OPTIONS ({})", options.join(", "))?;
        }
        if self.resume {
            f.write_str(" RESUME")?;
        }
        match &self.query.table {
            Some(table) => write!(f, " FROM {table}"),
            None => write!(f, " AS {}", self.query.sql),
        }
    }
}

/// A split as the clause that says it.
pub fn split_clause(split: &SplitSpec) -> String {
    match split {
        SplitSpec::Auto => "SPLIT AUTO".into(),
        SplitSpec::None => "SPLIT NONE".into(),
        SplitSpec::Random { fraction, seed: None } => format!("SPLIT RANDOM {fraction:?}"),
        SplitSpec::Random { fraction, seed: Some(seed) } => format!("SPLIT RANDOM {fraction:?} SEED {seed}"),
        SplitSpec::By { column } => format!("SPLIT BY {}", quote(column)),
    }
}

/// An option's value as SQL that reads as the same value.
pub fn literal(value: &ParamValue) -> String {
    match value {
        ParamValue::Float(v) => format!("{v:?}"),
        ParamValue::Text(v) => text(v),
        other => other.to_string(),
    }
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}
