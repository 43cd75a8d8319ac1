//! Trainings whose process is killed, and what goes on with them: the same model, to the last byte.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use sinew_ml::training::checkpoint::Checkpoint;

/// Longer than any wait of a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A training of many steps.
const TRAIN: &str = "TRAIN MODEL m USING logistic_regression PREDICT y SPLIT RANDOM 0.1 SEED 3 \
     OPTIONS(solver = 'adam', max_iter = 400, tol = 0) AS \
     SELECT value % 7 AS x, value % 11 AS z, CASE WHEN value % 3 = 0 THEN 1 ELSE 0 END AS y \
     FROM generate_series(1, 200000) t(value)";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn start(&self, sql: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sinew"));
        command.args(["--threads", "2", "--format", "csv", "--checkpoint-interval", "0", "-c", sql]);
        command.current_dir(self.0.path()).env_remove("SINEW_WAREHOUSE");
        // Nobody reads the rows of a training that is killed.
        let rows = std::fs::File::create(self.0.path().join("rows.csv")).unwrap();
        command.stdin(Stdio::null()).stdout(rows).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run(&self, sql: &str) -> (Output, String) {
        let output = self.start(sql).wait_with_output().unwrap();
        (output, std::fs::read_to_string(self.0.path().join("rows.csv")).unwrap())
    }

    /// Standard output of statements that must succeed.
    fn ok(&self, sql: &str) -> String {
        let (output, rows) = self.run(sql);
        assert!(output.status.success(), "{sql}\n{}", String::from_utf8_lossy(&output.stderr));
        rows
    }

    /// The error of statements that must fail.
    fn error(&self, sql: &str) -> String {
        let (output, _) = self.run(sql);
        assert!(!output.status.success(), "succeeded: {sql}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// All files below a folder of the warehouse.
    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.0.path().join("sinew-warehouse").join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }

    /// The checkpoints of the only run, the newest last.
    fn checkpoints(&self) -> Vec<PathBuf> {
        self.files("runs").into_iter().filter(|path| path.extension().is_some_and(|e| e == "ckpt")).collect()
    }

    /// Starts the training, and returns when it has stored some checkpoints.
    fn train_a_while(&self) -> Child {
        let mut child = self.start(TRAIN);
        let started = Instant::now();
        while self.checkpoints().last().is_none_or(|path| number(path) < 5) {
            assert!(child.try_wait().unwrap().is_none(), "it has ended");
            assert!(started.elapsed() < PATIENCE, "no checkpoints came");
            std::thread::sleep(Duration::from_millis(2));
        }
        child
    }

    /// A warehouse in which a training was killed.
    fn interrupted() -> Self {
        let place = Self::new();
        let mut child = place.train_a_while();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(place.files("models").is_empty(), "nothing was published");
        place
    }

    /// The weights of the only version.
    fn weights(&self) -> Vec<u8> {
        let all: Vec<_> = self.files("models").into_iter().filter(|p| p.ends_with("weights.safetensors")).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        std::fs::read(&all[0]).unwrap()
    }
}

fn number(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// The iteration at which a checkpoint was taken.
fn iteration(path: &Path) -> u32 {
    Checkpoint::decode(&std::fs::read(path).unwrap()).unwrap().last.unwrap().number
}

/// Iterations of a report.
fn iterations(rows: &str) -> Vec<u32> {
    rows.lines().skip(1).map(|line| line.split(',').nth(3).unwrap().parse().unwrap()).collect()
}

/// The weights when nothing happens.
fn undisturbed() -> Vec<u8> {
    let place = Place::new();
    let rows = place.ok(TRAIN);
    assert_eq!(iterations(&rows), (0..=400).collect::<Vec<_>>(), "checkpoints are no rows");
    assert!(place.files("runs").is_empty(), "a training that ended well leaves {:?}", place.files("runs"));
    place.weights()
}

#[test]
fn a_killed_training_goes_on_to_the_same_bytes() {
    let expected = undisturbed();
    for resume in ["RETRAIN MODEL m RESUME".to_string(), TRAIN.replace(" AS SELECT", " RESUME AS SELECT")] {
        let place = Place::interrupted();
        let stood = iteration(place.checkpoints().last().unwrap());
        let rows = place.ok(&resume);
        assert_eq!(iterations(&rows), (stood..=400).collect::<Vec<_>>(), "it went on");
        assert!(place.weights() == expected, "other weights after {resume}");
        assert!(place.files("runs").is_empty(), "{:?}", place.files("runs"));
        let log = place.ok("SELECT count(*), max(iteration) FROM ML.TRAINING_INFO(MODEL m)");
        assert_eq!(log.lines().nth(1), Some("401,400"), "the log is that of the whole training");
        let error = place.error("RETRAIN MODEL m RESUME");
        assert!(error.contains("SINEW-3601") && error.contains("RETRAIN MODEL m without RESUME"), "{error}");
    }
}

#[test]
fn a_checkpoint_that_is_damaged_is_passed_over() {
    let expected = undisturbed();
    let place = Place::interrupted();
    let mut all = place.checkpoints();
    // The one that is no longer needed may be there for a moment.
    let (extra, all) = (all.clone(), all.split_off(all.len() - 2));
    extra.iter().filter(|path| !all.contains(path)).for_each(|path| std::fs::remove_file(path).unwrap());
    let stood = iteration(&all[0]);
    let (before, newest) = (std::fs::read(&all[0]).unwrap(), std::fs::read(&all[1]).unwrap());
    let mut flipped = newest.clone();
    flipped[newest.len() / 2] ^= 4;
    let files: Vec<(PathBuf, Vec<u8>)> =
        place.files("runs").into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    for bad in [&newest[..0], &newest[..37], &newest[..newest.len() - 1], &flipped] {
        std::fs::write(&all[1], bad).unwrap();
        let rows = place.ok("RETRAIN MODEL m RESUME");
        assert_eq!(iterations(&rows)[0], stood, "it went on from the one before");
        assert!(place.weights() == expected, "other weights");
        // As it was before, once more.
        std::fs::remove_dir_all(place.0.path().join("sinew-warehouse")).unwrap();
        for (path, bytes) in &files {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    std::fs::write(&all[0], &before[..before.len() / 3]).unwrap();
    std::fs::write(&all[1], &newest[..9]).unwrap();
    let error = place.error("RETRAIN MODEL m RESUME");
    assert!(error.contains("SINEW-3108") && error.contains("leave out RESUME to train anew"), "{error}");
    let rows = place.ok(&TRAIN.replace(" AS SELECT", " RESUME AS SELECT"));
    assert_eq!(iterations(&rows)[0], 0, "nothing was left to go on from");
    assert!(place.weights() == expected);
}

#[test]
fn a_training_that_still_runs_is_left_alone_and_one_that_is_cancelled_leaves_nothing() {
    let place = Place::new();
    let child = place.train_a_while();
    for resume in ["RETRAIN MODEL m RESUME".to_string(), TRAIN.replace(" AS SELECT", " RESUME AS SELECT")] {
        // Where its rows go is shared; nobody reads them.
        let error = place.error(&resume);
        assert!(error.contains("SINEW-3602") && error.contains(&format!("process {}", child.id())), "{error}");
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(place.files("runs").is_empty(), "{:?}", place.files("runs"));
    assert!(place.error("RETRAIN MODEL m RESUME").contains("SINEW-3601"));
}

#[test]
fn what_has_changed_since_is_an_error_and_what_was_overtaken_is_gone() {
    let place = Place::new();
    let line = |i: u32| format!("{},{},{}\n", i * 7919 % 10_007, i % 17, u32::from(i * 31 % 101 > 50));
    let data = place.0.path().join("t.csv");
    std::fs::write(&data, format!("a,b,y\n{}", (0..100_000).map(line).collect::<String>())).unwrap();
    let train = TRAIN.split_once(" AS ").unwrap().0.to_string() + " FROM 't.csv'";
    let mut child = place.start(&train);
    let started = Instant::now();
    while place.checkpoints().len() < 2 {
        assert!(started.elapsed() < PATIENCE && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::write(&data, format!("a,b,y\n{}", (0..100_001).map(line).collect::<String>())).unwrap();
    let error = place.error("RETRAIN MODEL m RESUME");
    assert!(error.contains("SINEW-2014") && error.contains("rows of its query have changed"), "{error}");
    assert!(!place.checkpoints().is_empty(), "the rows may come back");
    // What a process was killed over is in no listing, and goes with the rest.
    let begun = std::path::PathBuf::from(&place.checkpoints()[0]).with_file_name("00000999.ckpt#1");
    std::fs::write(begun, b"begun").unwrap();
    // Another statement is not the rest of this one.
    let rows = place.ok("TRAIN MODEL m USING linear_regression PREDICT y RESUME FROM 't.csv'");
    assert_eq!(iterations(&rows), [1]);
    let error = place.error("RETRAIN MODEL m RESUME");
    assert!(error.contains("SINEW-3601"), "{error}");
    assert!(place.files("runs").is_empty(), "{:?}", place.files("runs"));
    // Today's rows, the same statement.
    let rows = place.ok("RETRAIN MODEL m");
    assert!(rows.lines().last().unwrap().starts_with("m,2,"), "{rows}");
}
