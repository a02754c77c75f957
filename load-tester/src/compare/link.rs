//! Two network namespaces joined by a veth pair: the server in one, the
//! generator in the other.
//!
//! AF_XDP receives from a network device and makes no sense on loopback. Each
//! server has a pair of its own, so that an XDP program on one's device does
//! not meet the packets of another.
//!
//! A packet is handed to the other end of a veth pair in softirq on the
//! processor that sends it. With AF_XDP the program and the copy into the ring
//! run there, as for sockets the way up to the socket does, here and on
//! loopback: part of the server's receiving is work of the generator's
//! processor, and of a reply's delivery work of the server's.
//!
//! The namespaces are made and removed by a shell script in a process of its
//! own, which ends when this one does, however that comes about.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::sys;

/// Address of the server in its namespace.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 201, 0, 1);

/// First address of the generator; the others follow.
pub const FIRST_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 201, 0, 2);

/// Addresses of the generator.
pub const CLIENTS: u16 = 8;

/// The server's interface.
pub const SERVER_INTERFACE: &str = "kv0";

/// The generator's interface.
const CLIENT_INTERFACE: &str = "kv1";

/// Makes and removes the namespaces.
const SCRIPT: &str = include_str!("link.sh");

/// Where `ip netns` puts the namespaces.
const NAMESPACES: &str = "/run/netns";

/// A pair of namespaces; gone with the value.
#[derive(Debug)]
pub struct Link {
    server: String,
    client: File,
    // Last: the namespaces go after the file is closed.
    _keeper: Keeper,
}

impl Link {
    /// Makes the namespaces; an error says what is missing.
    pub fn new() -> Result<Link, String> {
        permitted(sys::is_root())?;
        let [server, client] = names();
        let keeper = Keeper::start(&mut Command::new("sh"), &server, &client)?;
        let path = Path::new(NAMESPACES).join(&client);
        let client = File::open(&path)
            .map_err(|error| format!("cannot open the namespace {}: {error}", path.display()))?;
        Ok(Link {
            server,
            client,
            _keeper: keeper,
        })
    }

    /// The words before a command that make it run in the server's namespace.
    /// Each of them becomes the next, so that the process id stays.
    pub fn prefix(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.server]
    }

    /// Does something in the generator's namespace: on a thread of its own, as
    /// a namespace is a thread's. Sockets and threads from there stay in it.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let enter_and_work = || sys::enter_network_namespace(&self.client).map(|()| work());
        thread::scope(|scope| {
            scope
                .spawn(enter_and_work)
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Only root may make namespaces.
fn permitted(is_root: bool) -> Result<(), String> {
    match is_root {
        true => Ok(()),
        false => Err("network namespaces are made by root only; measure as root".into()),
    }
}

/// Names that no other link has: not of this process, nor of another.
fn names() -> [String; 2] {
    static LINKS: AtomicU32 = AtomicU32::new(0);
    let link = LINKS.fetch_add(1, Ordering::Relaxed);
    ["s", "c"].map(|side| format!("kt-{side}-{}-{link}", std::process::id()))
}

/// The process that has made two namespaces and removes them.
#[derive(Debug)]
struct Keeper(Child);

impl Keeper {
    /// Runs the script in `shell` and waits until the namespaces are there.
    fn start(shell: &mut Command, server: &str, client: &str) -> Result<Keeper, String> {
        let clients = (0..CLIENTS).map(|n| Ipv4Addr::from(u32::from(FIRST_CLIENT) + u32::from(n)));
        let child = shell
            .args(["-c", SCRIPT, "link", server, client])
            .args([SERVER_INTERFACE, &SERVER.to_string(), CLIENT_INTERFACE])
            .args(clients.map(|address| address.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // What a terminal sends to the load tester is not for it.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot run sh, which makes network namespaces: {error}"))?;
        let mut keeper = Keeper(child);
        let mut said = String::new();
        if let Some(output) = &mut keeper.0.stdout {
            let _ = BufReader::new(output).read_line(&mut said);
        }
        if said == "ready\n" {
            return Ok(keeper);
        }
        let mut why = String::new();
        if let Some(errors) = &mut keeper.0.stderr {
            let _ = errors.read_to_string(&mut why);
        }
        let why = why.lines().collect::<Vec<_>>().join(" | ");
        Err(format!(
            "cannot make network namespaces with ip (iproute2): {why}"
        ))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The end of its input.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    /// A directory with an `ip` that only writes down how it is called, and
    /// fails where it is called with `refused`.
    struct FakeIp(PathBuf);

    impl FakeIp {
        fn new(name: &str, refused: &str) -> FakeIp {
            let dir = std::env::temp_dir().join(format!("kt-ip-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            let text = format!(
                "#!/bin/sh\necho \"$*\" >>{}/calls\n[ \"$*\" != '{refused}' ] || {{ echo no >&2; exit 1; }}\n",
                dir.display()
            );
            // Through another process: one that is forked meanwhile by another
            // test could still have the file open for writing.
            let path = dir.join("ip");
            let write = Command::new("sh")
                .args(["-c", "printf %s \"$1\" >\"$2\"", "write", &text])
                .arg(&path)
                .status();
            assert!(write.unwrap().success());
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            FakeIp(dir)
        }

        fn shell(&self) -> Command {
            let mut shell = Command::new("sh");
            let path = std::env::var("PATH").unwrap();
            shell.env("PATH", format!("{}:{path}", self.0.display()));
            shell
        }

        fn calls(&self) -> Vec<String> {
            let text = fs::read_to_string(self.0.join("calls")).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    impl Drop for FakeIp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn no_two_links_have_the_same_names() {
        let [first, second] = [names(), names()];
        let all = [&first[0], &first[1], &second[0], &second[1]];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), 4, "{all:?}");
        let pid = std::process::id().to_string();
        assert!(all.iter().all(|name| name.contains(&pid)), "{all:?}");
    }

    #[test]
    fn who_is_not_root_is_told() {
        assert!(permitted(false).unwrap_err().contains("measure as root"));
        assert_eq!(permitted(true), Ok(()));
    }

    #[test]
    fn what_was_made_is_removed_in_the_end() {
        let ip = FakeIp::new("made", "-");
        let keeper = Keeper::start(&mut ip.shell(), "s", "c").unwrap();
        let calls = ip.calls();
        assert_eq!(calls[..2], ["netns add s", "netns add c"]);
        assert!(calls.contains(&"-n s addr add 10.201.0.1/24 dev kv0".into()));
        let of_client = |call: &&String| call.starts_with("-n c addr add 10.201.0.");
        let addresses = calls.iter().filter(of_client).count();
        assert_eq!(addresses, usize::from(CLIENTS));
        drop(keeper);
        let end = &ip.calls()[calls.len()..];
        assert_eq!(end, ["netns pids s", "netns del s", "netns del c"]);
    }

    #[test]
    fn what_was_there_before_is_not_removed() {
        let ip = FakeIp::new("there", "netns add c");
        let why = Keeper::start(&mut ip.shell(), "s", "c").unwrap_err();
        assert!(why.ends_with("(iproute2): no"), "{why}");
        let expected = ["netns add s", "netns add c", "netns pids s", "netns del s"];
        assert_eq!(ip.calls(), expected);
    }
}
