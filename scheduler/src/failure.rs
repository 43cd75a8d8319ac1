//! Errors of jobs: Ballista carries them as text, often a `Debug` text inside another.

use datafusion::error::DataFusionError;
use sinew::SinewError;

/// The error of a job that failed with this text.
pub fn of_job(text: &str) -> DataFusionError {
    if let Some(at) = text.find("SINEW-") {
        return DataFusionError::Execution(inner(&text[at..]));
    }
    if lost(text) {
        return cluster(
            "all executors are lost",
            "start sinew-executor again, or look at its log; the session works when one is back",
        );
    }
    if text.contains("HashJoinInput") {
        return DataFusionError::ResourcesExhausted(format!(
            "{}; SET datafusion.optimizer.prefer_hash_join = false joins by sorting, which can go to disk",
            innermost(text)
        ));
    }
    DataFusionError::Execution(innermost(text))
}

/// An error of the cluster itself.
pub fn cluster(reason: impl Into<String>, hint: &str) -> DataFusionError {
    DataFusionError::External(Box::new(SinewError::Cluster { reason: reason.into(), hint: hint.into() }))
}

/// Whether a job failed because there was no executor left to run it.
fn lost(text: &str) -> bool {
    text.contains("No executors") || text.contains("no executors") || text.contains("no alive executor")
}

/// The text up to the quote that ends it in its `Debug` form.
fn inner(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('n') => out.push(' '),
                Some('t') => out.push(' '),
                Some(other) => out.push(other),
                None => {}
            },
            '\n' => out.push(' '),
            other => out.push(other),
        }
    }
    out.trim_end().to_string()
}

/// The last quoted part, which is the words of whoever failed first.
fn innermost(text: &str) -> String {
    let message = text.rfind("(\"").map(|at| inner(&text[at + 2..]));
    message.filter(|message| !message.is_empty()).unwrap_or_else(|| text.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        SinewError::from(of_job(text)).to_string()
    }

    #[test]
    fn our_own_text_comes_out_whole() {
        let text = "Job failed due to stage 1 failed: Task failed due to runtime execution error: \
                    DataFusionError(Execution(\"SINEW-2005: column 'a\\\"b' has \\\\ in it\"))\n";
        assert_eq!(shown(text), "SINEW-2005: column 'a\"b' has \\ in it");
    }

    #[test]
    fn other_errors_keep_their_words() {
        let text =
            "Job failed due to stage 1 failed: Task failed: DataFusionError(ArrowError(DivideByZero, Some(\"\")))";
        assert!(shown(text).contains("DivideByZero"), "{}", shown(text));
        let text = "Task failed due to runtime execution error: Internal(\"the writer is gone\")";
        assert!(shown(text).contains("the writer is gone"), "{}", shown(text));
    }

    #[test]
    fn no_executor_says_what_to_do() {
        let text = shown("Job failed: No executors available within 10 s");
        assert!(text.starts_with("SINEW-3401") && text.contains("sinew-executor"), "{text}");
    }
}
