//! Object stores for tests: real servers, installed once into the target folder, on free ports.
//!
//! [`s3`] is moto (PyPI), [`azure`] is azurite (npm), [`gcs`] a translator in front of moto, because the service's
//! XML interface has no emulator in the registries; [`Proxy`] stands between a client and a server and answers,
//! delays or rewrites what it is told to. A server ends with the value that stands for it, and with the test
//! process: each watches its standard input.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MOTO: &str = "moto[server,s3]==5.2.5";
const AZURITE: &str = "azurite@3.35.0";

/// moto looks whether an object is there and writes it in two steps; one request at a time makes that one.
const MOTO_SERVER: &str = r#"
import os, sys, threading
from werkzeug.serving import make_server
from moto.server import DomainDispatcherApplication, create_backend_app
from moto.moto_server.werkzeug_app import MotoRequestHandler
app, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()
def one_at_a_time(environ, start):
    with lock:
        return app(environ, start)
server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=MotoRequestHandler)
print(f"listening at http://127.0.0.1:{server.server_port}", flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
os._exit(0)
"#;

const AZURITE_SERVER: &str = r#"
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
require("./node_modules/azurite/dist/src/blob/main.js");
"#;

/// Creates containers; the request is signed as the service asks for.
const AZURITE_CONTAINER: &str = r#"
const crypto = require("crypto"), http = require("http");
const [url, account, key, container] = process.argv.slice(2);
const headers = { "x-ms-date": new Date().toUTCString(), "x-ms-version": "2021-12-02" };
const text = ["PUT", ..."\n".repeat(10).split("\n").map(() => "")].join("\n") + "\n"
  + Object.entries(headers).map(([k, v]) => `${k}:${v}\n`).join("")
  + `/${account}/${account}/${container}\nrestype:container`;
const sign = crypto.createHmac("sha256", Buffer.from(key, "base64")).update(text, "utf8").digest("base64");
headers.Authorization = `SharedKey ${account}:${sign}`;
headers["Content-Length"] = "0";
http.request(`${url}/${account}/${container}?restype=container`, { method: "PUT", headers }, (answer) => {
  answer.pipe(process.stderr);
  answer.on("end", () => process.exit(answer.statusCode === 201 ? 0 : 1));
}).end();
"#;

/// The folder for what servers need, shared by all test processes.
fn clients() -> PathBuf {
    // target/debug/deps/storage-0123
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(3).unwrap().join("clients")
}

/// Runs a program that must succeed.
fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?} cannot be run: {e}"));
    let text = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed:\n{}", text());
}

/// The folder `name`, made by `install` once for all processes.
fn installed(name: &str, version: &str, install: impl Fn(&Path)) -> PathBuf {
    let folder = clients().join(name);
    fs::create_dir_all(&folder).unwrap();
    let lock = fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let done = folder.join("installed");
    if fs::read_to_string(&done).ok().as_deref() != Some(version) {
        install(&folder);
        fs::write(&done, version).unwrap();
    }
    folder
}

fn moto_python() -> PathBuf {
    let folder = installed("moto", MOTO, |folder| {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(folder.join("venv")));
        succeed(Command::new(folder.join("venv/bin/pip")).args(["install", "--quiet", MOTO]));
    });
    folder.join("venv/bin/python")
}

fn azurite_folder() -> PathBuf {
    installed("azurite", AZURITE, |folder| {
        fs::write(folder.join("server.js"), AZURITE_SERVER).unwrap();
        fs::write(folder.join("container.js"), AZURITE_CONTAINER).unwrap();
        let npm = ["install", "--no-fund", "--no-audit", "--prefix", ".", AZURITE];
        succeed(Command::new("npm").args(npm).current_dir(folder));
    })
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// `http://127.0.0.1:<port>`.
    pub url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a program that says `.. listening .. http://127.0.0.1:1`.
    fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.unwrap_or_else(|e| panic!("{command:?} cannot be started: {e}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.by_ref().map(Result::unwrap).find(|line| line.contains("listen") && line.contains("http://"));
        let url = said
            .unwrap_or_else(|| panic!("{command:?} ended"))
            .split(" ")
            .find(|word| word.starts_with("http:"))
            .unwrap()
            .to_string();
        // A server whose output nobody reads stops when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.url.rsplit(':').next().unwrap().parse().unwrap()
    }
}

/// S3 with these buckets. Every key is accepted.
pub fn s3(buckets: &[&str]) -> Server {
    let server = Server::start(Command::new(moto_python()).args(["-c", MOTO_SERVER]));
    for bucket in buckets {
        let answer = http(server.port(), &format!("PUT /{bucket} HTTP/1.0\r\nContent-Length: 0\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200"), "{answer}");
    }
    server
}

/// From now on, a server of [`s3`] takes only keys that it knows: none.
pub fn enforce_keys(server: &Server) {
    let answer = http(server.port(), "POST /moto-api/reset-auth HTTP/1.0\r\nContent-Length: 1\r\n\r\n0");
    assert!(answer.contains(" 200"), "{answer}");
}

/// The account of [`azure`].
pub const ACCOUNT: &str = "acct";
/// Its key.
pub const ACCOUNT_KEY: &str = "c2VjcmV0a2V5c2VjcmV0a2V5c2VjcmV0a2V5c2VjcmV0a2V5";

/// Azure Blob Storage with these containers.
pub fn azure(containers: &[&str]) -> Server {
    let folder = azurite_folder();
    let options = ["server.js", "--blobPort", "0", "--blobHost", "127.0.0.1", "--inMemoryPersistence"];
    let server = Server::start(
        Command::new("node")
            .args(options)
            .args(["--disableTelemetry", "--skipApiVersionCheck"])
            .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{ACCOUNT_KEY}"))
            .current_dir(&folder),
    );
    for container in containers {
        let arguments = ["container.js", &server.url, ACCOUNT, ACCOUNT_KEY, container];
        succeed(Command::new("node").args(arguments).current_dir(&folder));
    }
    server
}

/// Sends a request and returns the whole answer.
fn http(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A request as the proxy sees it.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET /bucket/key HTTP/1.1`.
    pub line: String,
    /// `name: value`, names in lower case.
    pub headers: Vec<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|h| h.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// What a proxy does with a request.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Pass it on, as it may have been changed.
    Pass,
    /// Pass it on, and close the connection instead of answering.
    PassAndHangUp,
    /// Answer with this status and body.
    Answer(u16, String),
    /// Wait, then close the connection.
    Stall(Duration),
}

/// Stands between clients and a server.
#[derive(Debug)]
pub struct Proxy {
    /// `http://127.0.0.1:<port>`.
    pub url: String,
}

impl Proxy {
    /// A proxy before the server at `upstream` that asks `judge` about every request.
    pub fn new(upstream: u16, judge: impl Fn(&mut Request) -> Verdict + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let judge = Arc::new(judge);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let judge = Arc::clone(&judge);
                // A client that goes away is no fault of the proxy.
                std::thread::spawn(move || relay(stream, upstream, &*judge).ok());
            }
        });
        Self { url }
    }
}

fn relay(mut client: TcpStream, upstream: u16, judge: &dyn Fn(&mut Request) -> Verdict) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if line.is_empty() {
        return Ok(());
    }
    let mut request = Request { line: line.trim_end().into(), headers: Vec::new(), body: Vec::new() };
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.trim_end().split_once(": ") {
            Some((name, value)) => request.headers.push(format!("{}: {value}", name.to_lowercase())),
            None => break,
        }
    }
    let length = request.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body)?;
    let verdict = judge(&mut request);
    match verdict {
        Verdict::Answer(status, body) => {
            let length = if request.line.starts_with("HEAD") { 0 } else { body.len() };
            write!(client, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
            client.write_all(&body.as_bytes()[..length])?;
        }
        Verdict::Stall(time) => std::thread::sleep(time),
        Verdict::Pass | Verdict::PassAndHangUp => {
            let mut server = TcpStream::connect(("127.0.0.1", upstream))?;
            request.headers.retain(|header| !header.starts_with("connection: "));
            write!(server, "{}\r\n{}\r\nconnection: close\r\n\r\n", request.line, request.headers.join("\r\n"))?;
            server.write_all(&request.body)?;
            let mut answer = Vec::new();
            server.read_to_end(&mut answer)?;
            if matches!(verdict, Verdict::Pass) {
                client.write_all(&answer)?;
            }
        }
    }
    client.shutdown(Shutdown::Both)
}

/// A stand-in for Google Cloud Storage.
#[derive(Debug)]
pub struct Gcs {
    _moto: Server,
    _folder: tempfile::TempDir,
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    /// The file of the service account's key.
    pub key_file: PathBuf,
}

/// A key of a service account, made anew, in the folder given.
const SERVICE_ACCOUNT: &str = r#"
import json, sys
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import rsa
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
pem = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode()
json.dump({"type": "service_account", "private_key": pem, "private_key_id": "1", "project_id": "p",
           "client_email": "t@example.com", "client_id": "1"}, open(sys.argv[1], "w"))
"#;

/// Fails unless a token was signed with the key in the file given, by its account.
const SIGNED: &str = r#"
import base64, json, sys
from cryptography.hazmat.primitives import hashes, serialization as s
from cryptography.hazmat.primitives.asymmetric import padding
account = json.load(open(sys.argv[1]))
head, claims, signature = sys.argv[2].split(".")
read = lambda text: base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
key = s.load_pem_private_key(account["private_key"].encode(), None).public_key()
key.verify(read(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
claims = json.loads(read(claims))
assert claims["iss"] == account["client_email"] and "cloud-platform" in claims["scope"], claims
"#;

/// Google Cloud Storage with these buckets: takes only tokens signed with the key of its account, and knows the
/// condition of the XML interface that S3 does not have.
pub fn gcs(buckets: &[&str]) -> Gcs {
    let moto = s3(buckets);
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key.json");
    succeed(Command::new(moto_python()).args(["-c", SERVICE_ACCOUNT]).arg(&key_file));
    let (python, file, known) = (moto_python(), key_file.clone(), Mutex::new(HashMap::<String, bool>::new()));
    let signed = move |token: &str| {
        let mut known = known.lock().unwrap();
        *known.entry(token.into()).or_insert_with(|| {
            Command::new(&python).args(["-c", SIGNED]).arg(&file).arg(token).status().unwrap().success()
        })
    };
    let proxy = Proxy::new(moto.port(), move |request| {
        let token = request.header("authorization").and_then(|h| h.strip_prefix("Bearer "));
        if !token.is_some_and(&signed) {
            return Verdict::Answer(401, "<Error><Code>AuthenticationRequired</Code></Error>".into());
        }
        // moto reads nothing for a client without a name, and believes every signature.
        request.headers.retain(|header| !header.starts_with("authorization"));
        let name = "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/s3/aws4_request";
        request.headers.push(format!("authorization: {name}, SignedHeaders=host, Signature=0"));
        if request.header("x-goog-if-generation-match") == Some("0") {
            request.headers.push("if-none-match: *".into());
        }
        Verdict::Pass
    });
    Gcs { url: proxy.url.clone(), _moto: moto, _folder: folder, key_file }
}
