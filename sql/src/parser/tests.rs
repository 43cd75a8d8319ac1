#![allow(clippy::unwrap_used, clippy::panic)]

use sinew_ml::params::ParamValue;
use sinew_ml::split::SplitSpec;

use super::*;
use crate::ast::{Spelling, TrainStatement};
use crate::name::ModelRef;
use crate::{MODEL_PREFIX, Position};

fn one(sql: &str) -> Statement {
    let mut all = parse(sql).unwrap_or_else(|e| panic!("{sql}\n{e}"));
    assert_eq!(all.len(), 1, "{sql}");
    all.remove(0)
}

fn train(sql: &str) -> TrainStatement {
    match one(sql) {
        Statement::Train(train) => *train,
        other => panic!("{sql}\n{other:?}"),
    }
}

fn error(sql: &str) -> String {
    match parse(sql) {
        Err(e) => e.to_string(),
        Ok(parsed) => panic!("{sql}\n{parsed:?}"),
    }
}

/// What does not depend on where the statement stands.
fn bare(mut train: TrainStatement) -> TrainStatement {
    train.text.clear();
    train.position = Position::default();
    train
}

#[test]
fn clauses_in_any_order_say_the_same() {
    let expected = train(
        "TRAIN MODEL churn USING logistic_regression PREDICT churned WEIGHT BY w SPLIT RANDOM 0.2 SEED 7 \
         OPTIONS(reg_param=0.01, elastic_net_param=.5, maxIter=100, Fit='x', shift=-1e-3, flag=TRUE) FROM customers",
    );
    assert_eq!(expected.name, "churn");
    assert_eq!(expected.spelling, Spelling::Train);
    assert_eq!(expected.family.as_deref(), Some("logistic_regression"));
    assert_eq!(expected.labels, ["churned"]);
    assert_eq!(expected.weight.as_ref().map(|w| w.sql.as_str()), Some("w"));
    assert_eq!(expected.split, Some(SplitSpec::Random { fraction: 0.2, seed: Some(7) }));
    let options: Vec<_> = expected.options.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
    assert_eq!(
        options,
        [
            "reg_param=Float(0.01)",
            "elastic_net_param=Float(0.5)",
            "maxiter=Int(100)",
            "fit=Text(\"x\")",
            "shift=Float(-0.001)",
            "flag=Bool(true)"
        ]
    );
    assert_eq!(expected.query.sql, "SELECT * FROM customers");
    for other in [
        "train model CHURN from customers options(reg_param=0.01, elastic_net_param=.5, maxIter=100, fit='x', \
         shift = -1e-3, flag=true) split random 0.2 seed 7 weight by w predict Churned using Logistic_Regression",
        "TRAIN MODEL churn WEIGHT BY w -- a comment\n FROM customers PREDICT \"churned\" SPLIT RANDOM 0.2 SEED 7 \
         OPTIONS(model_type='LOGISTIC_REGRESSION', reg_param=0.01, elastic_net_param=.5, maxIter=100, fit='x', \
         shift=-1e-3, flag=true);",
    ] {
        assert_eq!(bare(train(other)), bare(expected.clone()), "{other}");
    }
}

#[test]
fn queries_of_a_training() {
    for (sql, query) in [
        (
            "TRAIN MODEL m USING x AS SELECT a, b FROM t WHERE c > 1 ORDER BY d",
            "SELECT a, b FROM t WHERE c > 1 ORDER BY d",
        ),
        ("TRAIN MODEL m AS (SELECT * FROM t) USING x", "SELECT * FROM t"),
        ("TRAIN MODEL m USING x AS (SELECT * FROM t);", "SELECT * FROM t"),
        ("TRAIN MODEL m USING x AS (SELECT 1) UNION ALL (SELECT 2)", "(SELECT 1) UNION ALL (SELECT 2)"),
        ("TRAIN MODEL m USING x AS WITH c AS (SELECT 1) SELECT * FROM c", "WITH c AS (SELECT 1) SELECT * FROM c"),
        ("TRAIN MODEL m USING x FROM 'data/a b.parquet'", "SELECT * FROM 'data/a b.parquet'"),
        ("TRAIN MODEL m USING x FROM s.\"T\"", "SELECT * FROM s.\"T\""),
        ("TRAIN MODEL m USING x AS SELECT /* kept */ 'a;b' AS y FROM t", "SELECT /* kept */ 'a;b' AS y FROM t"),
    ] {
        assert_eq!(train(sql).query.sql, query, "{sql}");
    }
    let nested = train("TRAIN MODEL m USING x AS SELECT PREDICT(base@2, *) AS y, * FROM t");
    assert_eq!(nested.query.models, ["base@2".parse::<ModelRef>().unwrap()]);
}

#[test]
fn the_spelling_of_bigquery() {
    let statement = train(
        "CREATE OR REPLACE MODEL `ds.churn` OPTIONS(model_type='LOGISTIC_REG', input_label_cols=['churned'], l2_reg=0.1, \
         data_split_method='RANDOM', DATA_SPLIT_EVAL_FRACTION=0.1) AS SELECT * FROM customers",
    );
    assert_eq!(statement.name, "ds.churn");
    assert_eq!(statement.spelling, Spelling::Create { or_replace: true, if_not_exists: false });
    assert_eq!(statement.family.as_deref(), Some("logistic_reg"));
    assert_eq!(statement.labels, ["churned"]);
    assert_eq!(statement.split, Some(SplitSpec::Random { fraction: 0.1, seed: None }));
    assert_eq!(statement.options, [("l2_reg".to_string(), ParamValue::Float(0.1))]);

    for (options, split) in [
        ("data_split_method='AUTO_SPLIT'", Some(SplitSpec::Auto)),
        ("data_split_method='no_split'", Some(SplitSpec::None)),
        ("data_split_method='RANDOM'", Some(SplitSpec::Random { fraction: 0.2, seed: None })),
        ("data_split_method='CUSTOM', data_split_col='Held'", Some(SplitSpec::By { column: "Held".into() })),
        ("warm_start=false", None),
    ] {
        let sql = format!("CREATE MODEL IF NOT EXISTS ds.m OPTIONS(model_type=\"kmeans\", {options}) AS SELECT 1");
        let statement = train(&sql);
        assert_eq!(statement.split, split, "{sql}");
        assert_eq!(statement.name, "ds.m");
        assert_eq!(statement.spelling, Spelling::Create { or_replace: false, if_not_exists: true });
    }
}

#[test]
fn statements_about_models() {
    for (sql, shown) in [
        ("show models", "SHOW MODELS"),
        ("SHOW MODELS LIKE 'c%'", "SHOW MODELS LIKE 'c%'"),
        ("SHOW VERSIONS OF MODEL churn", "SHOW VERSIONS OF MODEL churn"),
        ("SHOW MODEL FAMILIES", "SHOW MODEL FAMILIES"),
        ("show devices", "SHOW DEVICES"),
        ("show training;", "SHOW TRAINING"),
        ("cancel training 'it''s'", "CANCEL TRAINING 'it''s'"),
        ("DESCRIBE MODEL churn@3", "DESCRIBE MODEL churn@3"),
        ("desc model \"Churn\"@3;", "DESCRIBE MODEL \"Churn\"@3"),
        ("SHOW CREATE MODEL churn", "SHOW CREATE MODEL churn"),
        ("SHOW CREATE MODEL ds.churn@Prod", "SHOW CREATE MODEL \"ds.churn\"@prod"),
        ("DROP MODEL churn", "DROP MODEL churn"),
        ("drop model if exists churn version 3", "DROP MODEL IF EXISTS churn VERSION 3"),
        ("DROP MODEL churn@3", "DROP MODEL churn VERSION 3"),
        ("EXPLAIN TRAIN MODEL m USING x FROM t", "EXPLAIN TRAIN MODEL m USING x FROM t"),
        ("EXPLAIN ANALYZE CREATE MODEL m AS SELECT 1", "EXPLAIN ANALYZE CREATE MODEL m AS SELECT 1"),
    ] {
        let statement = one(sql);
        assert_eq!(statement.to_string(), shown);
        assert!(!matches!(statement, Statement::Query(_) | Statement::NotYet(_)), "{sql}");
        assert_eq!(one(shown).to_string(), shown);
    }
}

#[test]
fn statements_of_datafusion_stay_its_own() {
    for sql in [
        "SELECT * FROM t",
        "SHOW TABLES",
        "SHOW CREATE TABLE t",
        "SHOW datafusion.execution.batch_size",
        "DESCRIBE model",
        "CREATE TABLE model (a INT)",
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'x'",
        "COPY t TO 'x.parquet'",
        "SET sinew.x = 1",
        "EXPLAIN ANALYZE SELECT 1",
        "EXPLAIN VERBOSE SELECT 1",
        "SELECT predict, model, train FROM t AS table_1",
        "INSERT INTO predict (a) VALUES (1)",
        "CREATE TABLE predict (a INT)",
        "SELECT [1, 2, 3], * EXCLUDE (a) FROM t",
        "PREPARE p AS SELECT $1",
        "VALUES (1)",
        "(SELECT 1)",
        "DROP TABLE model",
        "WITH ml AS (SELECT 1 AS predict) SELECT ml.predict FROM ml",
    ] {
        match one(sql) {
            Statement::Query(query) => {
                assert!(query.models.is_empty(), "{sql}");
                assert_eq!(query.text, sql);
                let plain = datafusion::sql::parser::DFParser::parse_sql(sql).unwrap().pop_back().unwrap();
                assert_eq!(query.statement, plain, "{sql}");
            }
            other => panic!("{sql}\n{other:?}"),
        }
    }
}

#[test]
fn models_become_literals_and_tables_subqueries() {
    let table = [
        (
            "SELECT * FROM ML.PREDICT(MODEL churn@prod, (SELECT * FROM new), STRUCT(0.4 AS threshold))",
            format!(
                "SELECT * FROM ML.PREDICT('{MODEL_PREFIX}churn@prod', (SELECT * FROM new), STRUCT(0.4 AS threshold))"
            ),
            vec!["churn@prod"],
        ),
        (
            "SELECT id, PREDICT(churn, *), predict_proba(Churn@3, 'yes', *) FROM new",
            format!(
                "SELECT id, PREDICT('{MODEL_PREFIX}churn', *), predict_proba('{MODEL_PREFIX}churn@3', 'yes', *) FROM new"
            ),
            vec!["churn", "churn@3"],
        ),
        (
            "SELECT * FROM ml.evaluate(model \"Ds.M\"@2, table s.holdout) e",
            format!("SELECT * FROM ml.evaluate('{MODEL_PREFIX}Ds.M@2', (SELECT * FROM s.holdout)) e"),
            vec!["Ds.M@2"],
        ),
        (
            "SELECT * FROM ML.WEIGHTS(MODEL a) JOIN ML.TRAINING_INFO(MODEL b) ON PREDICT(MODEL a, x) = 1",
            format!(
                "SELECT * FROM ML.WEIGHTS('{MODEL_PREFIX}a') JOIN ML.TRAINING_INFO('{MODEL_PREFIX}b') ON \
                 PREDICT('{MODEL_PREFIX}a', x) = 1"
            ),
            vec!["a", "b"],
        ),
    ];
    for (sql, rewritten, models) in table {
        match one(sql) {
            Statement::Query(query) => {
                let plain = datafusion::sql::parser::DFParser::parse_sql(&rewritten).unwrap().pop_back().unwrap();
                assert_eq!(query.statement, plain, "{sql}");
                assert_eq!(query.models.iter().map(ToString::to_string).collect::<Vec<_>>(), models);
                assert_eq!(query.text, sql);
            }
            other => panic!("{sql}\n{other:?}"),
        }
    }
}

#[test]
fn scripts_keep_each_statement_s_text() {
    let script = "-- first\nSELECT 'é;x' AS a;;\n TRAIN MODEL m USING x FROM t ;\nSHOW MODELS; -- end";
    let all = parse(script).unwrap();
    assert_eq!(all.len(), 3);
    match (&all[0], &all[1]) {
        (Statement::Query(query), Statement::Train(train)) => {
            assert_eq!(query.text, "SELECT 'é;x' AS a");
            assert_eq!(query.position, Position { line: 2, column: 1 });
            assert_eq!(train.text, "TRAIN MODEL m USING x FROM t");
            assert_eq!(train.position, Position { line: 3, column: 2 });
        }
        other => panic!("{other:?}"),
    }
    assert!(parse(" ; -- nothing\n").unwrap().is_empty());
    assert!(parse("").unwrap().is_empty());
}

#[test]
fn an_interrupted_training_goes_on_by_name_or_by_its_statement() {
    for (sql, resume) in [("RETRAIN MODEL churn", false), ("retrain model churn resume", true)] {
        assert_eq!(parse(sql).unwrap(), [Statement::Retrain { name: "churn".into(), resume }]);
    }
    for (sql, expected) in [
        ("TRAIN MODEL m USING x RESUME FROM t", true),
        ("TRAIN MODEL m RESUME USING x PREDICT y AS SELECT 1", true),
        ("TRAIN MODEL m USING x FROM t", false),
    ] {
        match &parse(sql).unwrap()[0] {
            Statement::Train(train) => {
                assert_eq!(train.resume, expected, "{sql}");
                assert_eq!(parse(&train.to_string()).unwrap()[0].to_string(), train.to_string());
            }
            other => panic!("{other:?}"),
        }
    }
    for (sql, text) in [
        ("TRAIN MODEL m RESUME RESUME FROM t", "SINEW-1004"),
        ("RETRAIN MODEL m RESUMED", "did you mean 'RESUME'"),
        ("RETRAIN MODEL m FROM t", "expected RESUME or the end of the statement"),
    ] {
        let error = parse(sql).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {
    for (sql, what) in [
        ("TRAIN MODEL m USING x TRANSFORM(ML.STANDARD_SCALER(a) OVER() AS a, b) FROM t", "TRANSFORM in TRAIN MODEL"),
        ("TRAIN MODEL m USING x GROUP BY a, b FROM t", "GROUP BY in TRAIN MODEL"),
        ("TRAIN MODEL m USING x SPLIT KFOLD 5 BY k FROM t", "SPLIT KFOLD"),
        ("TRAIN MODEL m USING x SPLIT SEQUENTIAL ON day 0.2 FROM t", "a sequential split"),
        ("TRAIN MODEL m USING x WARM START USING m@3 FROM t", "WARM START in TRAIN MODEL"),
        ("TRAIN MODEL m USING x WARM START AS SELECT 1", "WARM START in TRAIN MODEL"),
        ("TRAIN MODEL m USING x WEIGHT BY w NOT DEFAULT FROM t", "NOT DEFAULT in TRAIN MODEL"),
        ("TRAIN MODEL m OPTIONS(d=HPARAM_CANDIDATES([4, 6]), n=2) FROM t", "HPARAM_CANDIDATES"),
        ("TRAIN MODEL m OPTIONS(d=HPARAM_RANGE(-0.1, 1)) FROM t", "HPARAM_RANGE"),
        ("TRAIN MODEL m OPTIONS(d=STRUCT(1 AS a)) FROM t", "a STRUCT as an option's value"),
        ("TRAIN MODEL m OPTIONS(feature_cols=['a', 'b']) FROM t", "an array as the value of option feature_cols"),
        (
            "CREATE MODEL m OPTIONS(model_type='ONNX', model_path='s3://b/m.onnx')",
            "importing a model (model_type = 'ONNX')",
        ),
        ("CREATE MODEL m OPTIONS(data_split_method='SEQ', data_split_col='d') AS SELECT 1", "a sequential split"),
        ("CREATE MODEL m OPTIONS(warm_start=true) AS SELECT 1", "option warm_start = true"),
        ("EXPLAIN TRAIN MODEL m USING x GROUP BY a FROM t", "GROUP BY in TRAIN MODEL"),
        ("RETRAIN MODEL churn WARM START AS SELECT 1", "WARM START in RETRAIN MODEL"),
        ("ALTER MODEL churn SET ALIAS prod = 7", "ALTER MODEL"),
        ("ALTER MODEL churn SET DEFAULT VERSION 6", "ALTER MODEL"),
        ("ALTER MODEL churn RENAME TO c2", "ALTER MODEL"),
        ("EXPORT MODEL churn@prod OPTIONS(uri='file:///m.onnx', format='onnx')", "EXPORT MODEL"),
        ("SELECT * FROM ML.CONFUSION_MATRIX(MODEL m, TABLE t)", "ML.CONFUSION_MATRIX"),
        ("SELECT * FROM ml.roc_curve(MODEL m, (SELECT 1))", "ML.ROC_CURVE"),
        ("SELECT * FROM ML.DESCRIBE_DATA(TABLE t)", "ML.DESCRIBE_DATA"),
        ("SELECT * FROM ML.CORR(TABLE t, method => 'spearman')", "ML.CORR"),
        ("SELECT ML.STANDARD_SCALER(age) OVER () FROM t", "ML.STANDARD_SCALER"),
        ("SELECT * FROM ML.ADVANCED_WEIGHTS(MODEL m)", "ML.ADVANCED_WEIGHTS"),
    ] {
        match parse(sql).map(|mut all| all.remove(0)) {
            Ok(Statement::NotYet(refused)) => {
                assert_eq!(refused.what, what, "{sql}");
                let text = SqlError::from(refused).to_string();
                assert!(
                    text.starts_with("SINEW-1009") && text.contains("is not available in this version; "),
                    "{text}"
                );
            }
            other => panic!("{sql}\n{other:?}"),
        }
    }
}

#[test]
fn errors_say_what_where_and_what_next() {
    let mut wrong = Vec::new();
    for (sql, text) in [
        (
            "TRAIN MODEL churn USNG logistic FROM t",
            "SINEW-1001: expected USING, PREDICT, WEIGHT BY, SPLIT, OPTIONS, AS <query> or FROM <table>, found 'USNG' at \
             line 1, column 19, near: TRAIN MODEL churn USNG logistic FROM t; did you mean 'USING'?",
        ),
        (
            "TRAIN MODEL m USING x\n  OPTION (a = 1) FROM t",
            "found 'OPTION' at line 2, column 3, near: m USING x OPTION (a =; did you mean 'OPTIONS'?",
        ),
        ("TRAIN churn", "expected MODEL, found 'churn' at line 1, column 7"),
        ("TRAIN MODEL", "expected the name of a model, found the end of the statement at line 1, column 12"),
        ("TRAIN MODEL 'm' FROM t", "expected the name of a model, found the string 'm'"),
        (
            "TRAIN MODEL m@3 FROM t",
            "SINEW-1005: 'm@3' is not a model name: a version cannot stand here, at line 1, column 13",
        ),
        ("TRAIN MODEL `a/b` FROM t", "SINEW-1005: 'a/b' is not a model name: '/' is not allowed"),
        ("TRAIN MODEL m USING x", "expected AS <query> or FROM <table>: what the model is trained on, found the end"),
        (
            "TRAIN MODEL m USING x USING y FROM t",
            "SINEW-1004: USING is given twice, the second time at line 1, column 23",
        ),
        ("TRAIN MODEL m PREDICT a PREDICT b FROM t", "SINEW-1004: PREDICT is given twice"),
        ("TRAIN MODEL m OPTIONS(a=1) OPTIONS(b=1) FROM t", "SINEW-1004: OPTIONS is given twice"),
        ("TRAIN MODEL m SPLIT AUTO SPLIT NONE FROM t", "SINEW-1004: SPLIT is given twice"),
        (
            "TRAIN MODEL m OPTIONS(a=1, A=2) FROM t",
            "SINEW-1004: option a is given twice, the second time at line 1, column 28",
        ),
        ("TRAIN MODEL m FROM t FROM u", "the training query is given twice"),
        ("TRAIN MODEL m FROM t AS SELECT 1", "the training query is given twice"),
        (
            "TRAIN MODEL m USING x OPTIONS(model_type='y') FROM t",
            "the family (USING and option model_type) is given twice",
        ),
        ("TRAIN MODEL m FROM t WHERE a > 1", "FROM takes one table: write AS SELECT .. for anything more"),
        ("TRAIN MODEL m USING x SELECT * FROM t", "write AS before the query"),
        ("TRAIN MODEL m AS t", "expected a query after AS, found 't'"),
        ("TRAIN MODEL m AS", "expected a query after AS, found the end of the statement"),
        ("TRAIN MODEL m AS DELETE FROM t", "expected a query after AS, found 'DELETE'"),
        ("TRAIN MODEL m AS SELECT 1 +", "SINEW-1003: expected an expression"),
        ("TRAIN MODEL m SPLIT RANDOM 1.5 FROM t", "SINEW-1006: SPLIT RANDOM = 1.5 at line 1, column 28 is not allowed"),
        ("TRAIN MODEL m SPLIT RANDON 0.5 FROM t", "did you mean 'RANDOM'?"),
        (
            "TRAIN MODEL m SPLIT RANDOM 0.5 SEED -1 FROM t",
            "expected a seed, a whole number that is not negative, found '-'",
        ),
        ("TRAIN MODEL m OPTIONS(a 1) FROM t", "expected '=' and a value after option a, found '1'"),
        ("TRAIN MODEL m OPTIONS(a=lbfgs) FROM t", "found 'lbfgs' at line 1, column 25, near: (a=lbfgs) FROM t"),
        ("TRAIN MODEL m OPTIONS(a=1e999) FROM t", "the number is too large"),
        ("TRAIN MODEL m OPTIONS(a=1", "expected ',' or ')' in OPTIONS, found the end of the statement"),
        ("TRAIN MODEL m OPTIONS(a=[1 2]) FROM t", "expected ',' or ']' in an array, found '2'"),
        ("TRAIN MODEL m WEIGHT w FROM t", "expected BY, found 'w'"),
        ("CREATE OR REPLACE MODEL IF NOT EXISTS m AS SELECT 1", "SINEW-1007: OR REPLACE and IF NOT EXISTS contradict"),
        ("CREATE MODEL m OPTIONS(data_split_eval_fraction=0.1) AS SELECT 1", "needs data_split_method = 'RANDOM'"),
        ("CREATE MODEL m OPTIONS(data_split_method='CUSTOM') AS SELECT 1", "needs data_split_col"),
        (
            "CREATE MODEL m OPTIONS(data_split_method='KFOLD') AS SELECT 1",
            "one of 'AUTO_SPLIT', 'RANDOM', 'CUSTOM', 'NO_SPLIT'",
        ),
        ("CREATE MODEL m OPTIONS(input_label_cols=[1]) AS SELECT 1", "names of columns as strings"),
        (
            "TRIAN MODEL m FROM t",
            "expected a statement, found 'TRIAN' at line 1, column 1, near: TRIAN MODEL m FROM; did you mean 'TRAIN'?",
        ),
        ("SELEC 1", "did you mean 'SELECT'?"),
        ("SELECT 1;\nSELECT 'a", "SINEW-1002: Unterminated string literal at line 2, column 8"),
        ("SELECT a FROM t WHERE", "SINEW-1003: expected an expression, found the end of the statement"),
        ("SELECT 1 2", "SINEW-1003: expected end of statement, found 2 at line 1, column 10"),
        ("SHOW MODELS c", "expected LIKE or the end of the statement, found 'c'"),
        ("SHOW VERSIONS churn", "expected OF, found 'churn'"),
        ("DESCRIBE MODEL m@3x", "SINEW-1005: '3x' is not a model version"),
        ("DESCRIBE MODEL m@0", "versions are counted from 1"),
        ("DESCRIBE MODEL m n", "expected the end of the statement, found 'n'"),
        ("DROP MODEL m@prod", "DROP MODEL takes a version by its number"),
        ("DROP MODEL m VERSIONS 3", "did you mean 'VERSION'?"),
        ("ALTER MODEL m DROP x", "expected SET ALIAS, SET DEFAULT VERSION or RENAME TO"),
        (
            "SELECT * FROM ML.PREDIKT(MODEL m, TABLE t)",
            "there is no function ML.PREDIKT (at line 1, column 15); did you mean 'ML.PREDICT'?",
        ),
        ("SELECT * FROM ML.PREDICT(m, TABLE t)", "expected MODEL and a model's name in ML.PREDICT, found 'm'"),
        ("SELECT * FROM ML.PREDICT(MODEL m n, TABLE t)", "expected ',' or ')' after the model, found 'n'"),
        (
            "SELECT PREDICT('m', *) FROM t",
            "expected the name of a model as the first argument of PREDICT, found the string 'm'",
        ),
        ("SELECT * FROM ML.EVALUATE(MODEL m, TABLE (SELECT 1))", "expected the name of a table, found '('"),
        ("EXPLAIN VERBOSE TRAIN MODEL m FROM t", "expected TRAIN MODEL after EXPLAIN [ANALYZE], found 'VERBOSE'"),
    ] {
        let found = error(sql);
        if !found.contains(text) {
            wrong.push(format!("{sql}\n{found}\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let deep = format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500));
    assert!(error(&deep).contains("nested too deeply"), "{}", error(&deep));
}

/// A small generator of pseudo-random statements; the same ones in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }

    /// Text of 1 to 8 characters, some of which SQL cares about.
    fn text(&mut self) -> String {
        let chars: Vec<char> = "abzXYÉé_0 9'\"`;,.()@-/*\\日🦀".chars().collect();
        (0..=self.roll(8)).map(|_| *self.pick(&chars)).collect()
    }

    fn name(&mut self) -> String {
        let chars: Vec<char> = "abzXYÉé_09-".chars().collect();
        let name: String = (0..self.roll(8)).map(|_| *self.pick(&chars)).collect();
        format!("{}{name}{}", self.pick(&["m", "M", "_", "é"]), self.pick(&["", ".x", ".Y"]))
    }

    fn value(&mut self) -> ParamValue {
        match self.roll(4) {
            0 => ParamValue::Bool(self.roll(2) == 0),
            1 => ParamValue::Int(*self.pick(&[0, -1, 7, i64::MAX, i64::MIN])),
            2 => ParamValue::Float(*self.pick(&[0.0, -0.0, 1.0, -2.5, 1e300, 5e-324, 0.1, f64::MAX, -1e-7, 1e20])),
            _ => ParamValue::Text(self.text().into()),
        }
    }

    fn split(&mut self) -> Option<SplitSpec> {
        match self.roll(6) {
            0 => None,
            1 => Some(SplitSpec::Auto),
            2 => Some(SplitSpec::None),
            3 => Some(SplitSpec::Random { fraction: 0.25, seed: None }),
            4 => Some(SplitSpec::Random { fraction: 1e-3, seed: Some(u64::MAX) }),
            _ => Some(SplitSpec::By { column: self.text() }),
        }
    }
}

#[test]
fn a_training_reads_what_it_writes() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let spellings = [
        Spelling::Train,
        Spelling::Create { or_replace: true, if_not_exists: false },
        Spelling::Create { or_replace: false, if_not_exists: true },
        Spelling::Create { or_replace: false, if_not_exists: false },
    ];
    let weights = ["", "WEIGHT BY w", "WEIGHT BY \"W\" * 2 + abs(x)", "WEIGHT BY CASE WHEN a THEN 1 ELSE 2 END"];
    let queries = [
        "FROM t",
        "FROM 'a b.parquet'",
        "AS SELECT * FROM t -- c\n WHERE x > 1",
        "AS SELECT * FROM ML.PREDICT(MODEL b@2, TABLE t)",
    ];
    for _ in 0..1000 {
        let written = format!("TRAIN MODEL m {} {}", dice.pick(&weights), dice.pick(&queries));
        let mut expected = bare(train(&written));
        expected.name = dice.name();
        expected.spelling = *dice.pick(&spellings);
        expected.family = (dice.roll(2) == 0).then(|| dice.pick(&["linear_regression", "using", "x y"]).to_string());
        expected.labels = (0..dice.roll(3)).map(|_| dice.text()).collect();
        expected.split = dice.split();
        expected.options = (0..dice.roll(4)).map(|i| (format!("p_{i}"), dice.value())).collect();
        let sql = expected.to_string();
        assert_eq!(bare(train(&sql)), expected, "{sql}");
    }
}

#[test]
fn any_text_is_an_answer() {
    let words = [
        "TRAIN", "MODEL", "CREATE", "PREDICT", "(", ")", "ML", ".", ",", "m@3", "'a'", "\"b\"", "AS", "SELECT",
        "OPTIONS", "=", "[", "SPLIT", "WEIGHT", "BY", ";", " ", "é", "TABLE", "EXPLAIN", "DROP", "@", "'", "FROM",
        "1e9", "-", "SHOW", "USING",
    ];
    let mut dice = Dice(42);
    for _ in 0..5_000 {
        let text: String = (0..dice.roll(20)).flat_map(|_| [*dice.pick(&words), *dice.pick(&["", " "])]).collect();
        let _ = parse(&text);
    }
}
