//! `sinew demo`: trains and scores on data that comes with the program, in a folder it removes again.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::Float64Type;
use parking_lot::Mutex;

use super::args::Settings;
use super::run::{self, Outcome};
use super::signals::Signals;
use crate::error::{Result, SinewError};
use crate::session::{Session, split};

const DATA: &[u8] = include_bytes!("../../../examples/data/breast_cancer.csv");

const NEXT: &str = "\
What to try next
  sinew                                   a shell of your own; \\? in it shows help
  SELECT * FROM 'your/files/*.parquet';   a file, a folder or a pattern is a table (parquet, csv, json)
  TRAIN MODEL m USING linear_regression PREDICT price FROM 'your/houses.csv';
  SHOW MODEL FAMILIES;                    what can be trained, and every option
  Models are kept in ./sinew-warehouse, or where --warehouse says.";

/// A folder that is removed when the demonstration ends, however it ends.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let path = std::env::temp_dir().join(format!("sinew-demo-{}-{}", std::process::id(), now.subsec_nanos()));
        let what = format!("creating {} (the variable TMPDIR names another place)", path.display());
        std::fs::create_dir(&path).map_err(|source| SinewError::Io { what, source })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the demonstration.
///
/// # Errors
/// When the temporary folder cannot be used; a statement that fails is written as in a script.
pub async fn run(settings: &Settings) -> Result<Outcome> {
    let folder = Folder::create()?;
    let mut signals = Signals::listen();
    tokio::select! {
        told = tell(&folder, settings) => match told {
            Ok(()) => Ok(Outcome::Done),
            Err(SinewError::Io { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => Ok(Outcome::Closed),
            Err(error) => {
                eprintln!("sinew: {error}");
                Ok(Outcome::Failed)
            }
        },
        code = signals.next() => Ok(Outcome::Signalled(code)),
    }
}

async fn tell(folder: &Folder, settings: &Settings) -> Result<()> {
    let file = folder.0.join("breast_cancer.csv");
    let what = format!("writing {}", file.display());
    std::fs::write(&file, DATA).map_err(|source| SinewError::Io { what, source })?;
    let options = settings.options.clone().with_warehouse(&folder.0.join("warehouse").to_string_lossy())?;
    let session = Session::embedded(options)?;
    let step = async |why: &str, sql: &str| step(&session, settings, why, sql).await;

    let table = format!("CREATE EXTERNAL TABLE tumours STORED AS CSV LOCATION '{}'", file.display());
    step("569 real biopsies of breast tumours, 30 measurements each (Wisconsin Diagnostic Breast Cancer).", &table)
        .await?;
    step(
        "It is an ordinary table.",
        "SELECT diagnosis, count(*) AS patients, round(avg(mean_radius), 2) AS radius, round(avg(mean_texture), 2) AS texture\n\
         FROM tumours GROUP BY diagnosis ORDER BY diagnosis",
    )
    .await?;
    step(
        "About one patient in five is held out: the model never learns from these.",
        "CREATE VIEW patients AS SELECT *, CAST(round(mean_texture * 100) AS BIGINT) % 5 = 0 AS held_out FROM tumours",
    )
    .await?;
    step(
        "Training: one row for each iteration; the last one names the version that was stored.",
        "TRAIN MODEL tumour USING logistic_regression PREDICT diagnosis SPLIT BY held_out\n\
         OPTIONS (reg_param = 0.01) FROM patients",
    )
    .await?;
    let evaluation = step(
        "How good is it on the patients it has not seen?",
        "SELECT * FROM ML.EVALUATE(MODEL tumour, (SELECT * FROM patients WHERE held_out))",
    )
    .await?;
    step(
        "What does it say about single patients, and how sure is it?",
        "SELECT round(mean_radius, 1) AS radius, diagnosis, predicted_diagnosis, predicted_diagnosis_probs\n\
         FROM ML.PREDICT(MODEL tumour, (SELECT * FROM patients WHERE held_out)) ORDER BY mean_area LIMIT 5",
    )
    .await?;
    step("It is stored, with a version, and can be used from any session on this warehouse.", "SHOW MODELS").await?;
    let quality = quality(&evaluation).unwrap_or_default();
    say(&format!("{quality}\n{NEXT}\n"))
}

/// Shows a statement, runs it, and shows its result.
async fn step(session: &Session, settings: &Settings, why: &str, sql: &str) -> Result<Vec<RecordBatch>> {
    if !settings.quiet {
        say(&format!("-- {why}\n{sql};\n"))?;
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    for piece in split(sql) {
        let execution = session.run(&piece).await?;
        let seen = Arc::clone(&seen);
        let execution = execution.seen_by(move |batch| seen.lock().push(batch.clone()));
        run::write(execution, settings.format, settings.quiet).await?;
    }
    if !settings.quiet {
        say("\n")?;
    }
    let seen = std::mem::take(&mut *seen.lock());
    Ok(seen)
}

fn say(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|source| SinewError::Io { what: "writing".into(), source })
}

/// The quality in a sentence.
fn quality(evaluation: &[RecordBatch]) -> Option<String> {
    let batch = evaluation.iter().find(|b| b.num_rows() > 0)?;
    let metric = |name: &str| {
        let column = batch.column_by_name(name)?.as_primitive_opt::<Float64Type>()?;
        column.is_valid(0).then(|| column.value(0))
    };
    Some(format!(
        "On patients it had not seen, the model was right for {:.1} % of them; it ranks a positive case above a \
         negative one {:.1} % of the time.\n",
        metric("accuracy")? * 100.0,
        metric("roc_auc")? * 100.0
    ))
}
