//! The program in a process of its own, for tests of what only a process has:
//! a user, a root directory, an environment.

use super::WATCHDOG;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;

/// A folder that everybody can read, and that is there until the test ends.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = Self(folder);
        folder.open(folder.path(), 0o755);
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file; returns its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).expect("write");
        self.open(&path, 0o644);
        path
    }

    pub fn open(&self, path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    }
}

/// The program, with nothing of this process's environment that it reads.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_karuta"));
    for name in ["RUST_LOG", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// A tracker that runs. Its configuration must serve metrics: their address is
/// the last thing that it says at start. Killed when dropped.
pub struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: mpsc::Receiver<String>,
    /// The lines that it said when it had started.
    pub said: Vec<String>,
    pub udp: SocketAddr,
    pub http: SocketAddr,
    pub metrics: SocketAddr,
}

impl Program {
    /// Starts this command and waits until it serves.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let mut errors = child.stderr.take().expect("stderr");
        let (sender, stderr) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            let _ = sender.send(text);
        });
        let mut said: Vec<String> = Vec::new();
        while !said.last().is_some_and(|line| line.contains("metrics at")) {
            let mut line = String::new();
            let count = stdout.read_line(&mut line).expect("text");
            assert!(count > 0, "it ended: {:?}", stderr.recv_timeout(WATCHDOG));
            said.push(line.trim_end().to_owned());
        }
        let address = |before: &str, after: &str| {
            let lines = said.iter().map(|line| line.trim_start());
            let parts = lines.filter_map(|line| line.strip_prefix(before));
            let mut parts = parts.filter_map(|line| line.strip_suffix(after));
            let address = parts.next().expect("an URL");
            address.parse().expect("an address")
        };
        Self {
            udp: address("udp://", "/announce"),
            http: address("http://", "/announce"),
            metrics: address("metrics at http://", "/metrics"),
            child,
            stdout,
            stderr,
            said,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.expect("kill").success());
    }

    /// Waits for its end; returns how it ended, and what it logged. It must say
    /// no more on standard output.
    pub fn end(&mut self) -> (ExitStatus, String) {
        let log = self.stderr.recv_timeout(WATCHDOG).expect("it ends");
        let status = self.child.wait().expect("its end");
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        assert_eq!(rest, "", "it says no more on standard output");
        (status, log)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
