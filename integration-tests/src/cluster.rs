//! A cluster of real processes: a scheduler and executors on free ports, stopped by their process ids.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::island::Island;
use sinew::Session;

/// How long a process may take to do what it is waited for, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A scheduler and its executors. Dropping it kills them.
pub struct Cluster {
    folder: tempfile::TempDir,
    scheduler: Option<Child>,
    executors: Vec<Child>,
    started: usize,
    door: String,
    private: String,
    flags: Vec<String>,
}

impl Cluster {
    /// A cluster of `executors` with one core each, over a warehouse of its own.
    pub fn start(executors: usize) -> Self {
        Self::with(executors, &[])
    }

    /// The same, with more flags for the scheduler, or others than the usual ones.
    pub fn with(executors: usize, flags: &[&str]) -> Self {
        let mut cluster = Self::reached_at("127.0.0.1", flags);
        for _ in 0..executors {
            cluster.add_executor();
        }
        cluster.wait_for(executors);
        cluster
    }

    /// A scheduler that executors reach at an address of this machine, without any.
    pub fn reached_at(address: &str, flags: &[&str]) -> Self {
        let mut cluster = Self {
            folder: tempfile::tempdir().unwrap(),
            scheduler: None,
            executors: Vec::new(),
            started: 0,
            door: "127.0.0.1:0".into(),
            private: format!("{address}:0"),
            flags: flags.iter().map(|flag| flag.to_string()).collect(),
        };
        cluster.start_scheduler();
        cluster
    }

    /// Starts the scheduler, at the addresses it had before if it was started before.
    pub fn start_scheduler(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("scheduler.log")).unwrap();
        let mut command = Command::new(binary("sinew-scheduler"));
        command.args(["--listen", &self.door, "--cluster", &self.private, "--log", "debug"]);
        let warehouse = self.warehouse().display().to_string();
        // Files of tests are small, and what is tested is that executors read them.
        let usual = [
            ("--warehouse", warehouse.as_str()),
            ("--executor-timeout", "5"),
            ("--grace", "10"),
            // What tests read lies in folders of their own.
            ("--roots", "any"),
            ("--local-bytes", "0"),
        ];
        with_usual(&mut command, &usual, &self.flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = clean(&mut command).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.scheduler = Some(child);
        let addresses = line.trim().split_once(" at grpc://").and_then(|(_, rest)| rest.split_once(", cluster at "));
        let Some((door, private)) = addresses else { panic!("the scheduler said '{line}'\n{}", self.logs()) };
        (self.door, self.private) = (door.into(), private.into());
    }

    /// Starts one more executor; returns its number.
    pub fn add_executor(&mut self) -> usize {
        self.add_executor_with(&[])
    }

    /// The same, with more flags, or others than the usual ones.
    pub fn add_executor_with(&mut self, flags: &[&str]) -> usize {
        self.spawn_executor(Command::new(binary("sinew-executor")), flags)
    }

    /// An executor that sees an empty disk where the others have the warehouse; needs the rights to mount.
    pub fn add_executor_without_the_warehouse(&mut self) -> usize {
        std::fs::create_dir_all(self.warehouse()).unwrap();
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs none \"$0\" && exec \"$@\"";
        command.args(["-m", "sh", "-c", script]).arg(self.warehouse()).arg(binary("sinew-executor"));
        self.spawn_executor(command, &[])
    }

    /// An executor on an island.
    pub fn add_executor_on(&mut self, island: &Island) -> usize {
        self.spawn_executor(island.command(binary("sinew-executor")), &["--host", &island.there])
    }

    fn spawn_executor(&mut self, mut command: Command, flags: &[&str]) -> usize {
        let log = File::create(self.path(&format!("executor-{}.log", self.started))).unwrap();
        self.started += 1;
        command.args(["--scheduler", &self.private, "--heartbeat", "1", "--log", "debug"]);
        let (work, warehouse) = (self.work().display().to_string(), self.warehouse().display().to_string());
        let usual = [("--cores", "1"), ("--memory-limit", "1GB"), ("--work-dir", &work), ("--warehouse", &warehouse)];
        with_usual(&mut command, &usual, flags).stdin(Stdio::null()).stdout(Stdio::null());
        self.executors.push(clean(&mut command).stderr(log).spawn().unwrap());
        self.executors.len() - 1
    }

    /// Waits until so many executors take tasks.
    pub fn wait_for(&self, executors: usize) {
        let started = Instant::now();
        while self.metric("sinew_executors") != Some(executors as f64) {
            assert!(started.elapsed() < PATIENCE, "{executors} executors did not come\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A metric of the scheduler; `None` while it does not answer.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").ok()?;
        let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// The body of a page of the scheduler's private address.
    pub fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.private)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_string()).unwrap_or_default())
    }

    /// A session on the cluster.
    pub async fn session(&self) -> Session {
        Session::connect(&self.url()).await.unwrap()
    }

    /// The address for clients.
    pub fn url(&self) -> String {
        format!("grpc://{}", self.door)
    }

    /// The address for executors.
    pub fn private(&self) -> &str {
        &self.private
    }

    /// The folder of the warehouse.
    pub fn warehouse(&self) -> PathBuf {
        self.path("warehouse")
    }

    /// The folder below which executors have their work folders.
    pub fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// A path in the cluster's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The process id of an executor.
    pub fn executor(&self, number: usize) -> u32 {
        self.executors[number].id()
    }

    /// What an executor has written to its log.
    pub fn log_of(&self, number: usize) -> String {
        std::fs::read_to_string(self.path(&format!("executor-{number}.log"))).unwrap_or_default()
    }

    /// What the scheduler has written to its log.
    pub fn scheduler_log(&self) -> String {
        std::fs::read_to_string(self.path("scheduler.log")).unwrap_or_default()
    }

    /// The process id of the scheduler.
    pub fn scheduler(&self) -> u32 {
        self.scheduler.as_ref().unwrap().id()
    }

    /// Kills an executor with SIGKILL.
    pub fn kill_executor(&mut self, number: usize) {
        self.executors[number].kill().unwrap();
        self.executors[number].wait().unwrap();
    }

    /// Kills the scheduler with SIGKILL.
    pub fn kill_scheduler(&mut self) {
        let mut scheduler = self.scheduler.take().unwrap();
        scheduler.kill().unwrap();
        scheduler.wait().unwrap();
    }

    /// Sends a signal, such as `STOP`, `CONT` or `TERM`, to an executor.
    pub fn signal_executor(&self, number: usize, signal: &str) {
        signal_process(self.executors[number].id(), signal);
    }

    /// Sends SIGTERM to the scheduler, and returns whether it ended with 0.
    pub fn stop_scheduler(&mut self) -> bool {
        let mut scheduler = self.scheduler.take().unwrap();
        signal_process(scheduler.id(), "TERM");
        scheduler.wait().unwrap().success()
    }

    /// Sends SIGTERM to an executor, and returns whether it ended with 0.
    pub fn stop_executor(&mut self, number: usize) -> bool {
        self.signal_executor(number, "TERM");
        self.executors[number].wait().unwrap().success()
    }

    /// The ends of all logs, for the message of a test that fails.
    pub fn logs(&self) -> String {
        let names =
            std::iter::once("scheduler.log".to_string()).chain((0..self.started).map(|i| format!("executor-{i}.log")));
        let mut text = String::new();
        for name in names {
            let log = std::fs::read_to_string(self.path(&name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains(" DEBUG h2")).collect();
            text += &format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.executors.iter_mut().chain(&mut self.scheduler) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// Adds flags, and the usual ones that are not among them.
fn with_usual<'a>(command: &'a mut Command, usual: &[(&str, &str)], flags: &[impl AsRef<str>]) -> &'a mut Command {
    for (flag, value) in usual.iter().filter(|(flag, _)| !flags.iter().any(|other| other.as_ref() == *flag)) {
        command.args([flag, value]);
    }
    command.args(flags.iter().map(AsRef::as_ref))
}

/// Sends a signal to a process that the test started.
pub fn signal_process(pid: u32, signal: &str) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "kill -{signal} {pid}");
}

/// Seconds of processor time that a process has used.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

/// A command of this workspace, built beside the tests.
pub fn binary(name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let folder = exe.ancestors().find(|folder| folder.ends_with("deps")).and_then(Path::parent).unwrap();
    let path = folder.join(name);
    assert!(path.exists(), "{} is not built; run cargo build --workspace --bins", path.display());
    path
}

/// Nothing of the environment of the person who runs the tests.
pub fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SINEW_")) {
        command.env_remove(name);
    }
    command
}
