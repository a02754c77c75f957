//! The two trackers as processes, and how they are asked.

use super::answers::Answer;
use super::script::{Request, Step, percent};
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long to wait for an answer to a datagram that may have none, after a
/// later one was answered.
const SILENCE: Duration = Duration::from_millis(150);

/// Torrents that are on the list.
pub const LISTED: u8 = 200;

/// The hash of a torrent: on the list if its number is less than [`LISTED`].
pub fn hash(number: u8) -> [u8; 20] {
    let mut hash = [number; 20];
    hash[0] = 0xd1;
    hash
}

/// A directory with the files that both trackers read.
pub struct Site(tempfile::TempDir);

impl Site {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // Both change to another user before they read it.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), open).expect("permissions");
        let mut list = String::from("# a comment\nrubbish\n");
        for number in 0..LISTED {
            let hex: String = hash(number)
                .iter()
                .map(|byte| format!("{byte:02X}"))
                .collect();
            list += &format!("{hex} torrent {number}\n");
        }
        fs::write(directory.path().join("list"), list).expect("written");
        Self(directory)
    }

    /// The configuration file of both, but for the address.
    fn config(&self, name: &str, address: SocketAddr) -> PathBuf {
        let path = self.0.path().join(name);
        let text = format!(
            "listen.tcp_udp {address}\naccess.whitelist list\ntracker.rootdir {}\n\
             access.stats 127.0.1.1\ntracker.user nobody\ntracker.redirect_url https://tracker.example.org/\n",
            self.0.path().display()
        );
        fs::write(&path, text).expect("written");
        path
    }
}

/// A tracker that runs. Dropping it ends it.
pub struct Tracker {
    process: Child,
    address: SocketAddr,
}

impl Tracker {
    pub fn opentracker(site: &Site) -> Self {
        Self::start(site, "theirs.conf", Ipv4Addr::LOCALHOST.into(), |path| {
            let mut command = Command::new("opentracker");
            command.arg("-f").arg(path);
            command
        })
    }

    pub fn karuta(site: &Site) -> Self {
        Self::start(site, "ours.conf", Ipv4Addr::LOCALHOST.into(), Self::command)
    }

    pub fn karuta_ipv6(site: &Site) -> Self {
        Self::start(
            site,
            "ours6.conf",
            Ipv6Addr::LOCALHOST.into(),
            Self::command,
        )
    }

    fn command(path: PathBuf) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_karuta"));
        command.arg("--opentracker").arg(path);
        command
    }

    fn start(site: &Site, name: &str, ip: IpAddr, command: impl Fn(PathBuf) -> Command) -> Self {
        let deadline = Instant::now() + PATIENCE;
        // The port is free when it is chosen; another process may take it
        // before the tracker does, and then it ends.
        'port: loop {
            let address = free(ip);
            let mut command = command(site.config(name, address));
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let process = command.spawn().unwrap_or_else(|error| {
                panic!(
                    "{:?}: {error}; install the package opentracker",
                    command.get_program()
                )
            });
            let mut tracker = Self { process, address };
            while !tracker.answers_for_its_list() {
                assert!(Instant::now() < deadline, "{name}: does not start");
                if let Ok(Some(status)) = tracker.process.try_wait() {
                    eprintln!("{name}: {status}; again with another port");
                    continue 'port;
                }
                std::thread::yield_now();
            }
            return tracker;
        }
    }

    /// opentracker reads its list after it has begun to answer. The peer that
    /// finds out stays in the last torrent of the list.
    fn answers_for_its_list(&self) -> bool {
        let hash = percent(&hash(LISTED - 1));
        let target = format!("/announce?info_hash={hash}&port=1&left=1");
        let request = format!("GET {target} HTTP/1.1\r\n\r\n");
        match self.connection(1) {
            Ok(stream) => converse(stream, request.as_bytes())
                .windows(8)
                .any(|found| found == b"interval"),
            Err(_) => false,
        }
    }

    /// What it answers.
    pub fn ask(&self, step: &Step) -> Answer {
        match &step.request {
            Request::Http(request) => Answer::of_http(&self.http(step.client, request)),
            Request::Udp(packet) => self.udp(step.client, packet),
        }
    }

    /// The address of a client: over IPv6 there is only one.
    fn client(&self, number: u8) -> SocketAddr {
        match self.address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::new(127, 0, 1, number), 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        }
    }

    fn http(&self, client: u8, request: &[u8]) -> Vec<u8> {
        converse(self.connection(client).expect("connected"), request)
    }

    fn connection(&self, client: u8) -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket
            .bind(&self.client(client).into())
            .expect("an address");
        socket.connect(&self.address.into())?;
        Ok(socket.into())
    }

    /// Sends a datagram with the connection id put in where it is all ones.
    fn udp(&self, client: u8, packet: &[u8]) -> Answer {
        let socket = UdpSocket::bind(self.client(client)).expect("an address");
        socket.connect(self.address).expect("an address");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut packet = packet.to_vec();
        let mut buffer = [0; 65536];
        let connect = connect(u32::MAX);
        if packet.starts_with(&[0xff; 8]) {
            socket.send(&connect).expect("sent");
            assert_eq!(socket.recv(&mut buffer).expect("an answer"), 16);
            packet[..8].copy_from_slice(&buffer[8..16]);
        }
        socket.send(&packet).expect("sent");
        socket.send(&connect).expect("sent");
        let mut answer = None;
        let mut is_last = false;
        loop {
            match socket.recv(&mut buffer) {
                Ok(count) if buffer[..count].starts_with(&[0, 0, 0, 0, 255, 255, 255, 255]) => {
                    socket.set_read_timeout(Some(SILENCE)).expect("a timeout");
                    is_last = true;
                }
                Ok(count) => answer = Some(buffer[..count].to_vec()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    assert!(is_last, "no answer to a connect: {error}");
                    break;
                }
            }
            if answer.is_some() && is_last {
                break;
            }
        }
        Answer::of_udp(answer)
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn connect(transaction_id: u32) -> Vec<u8> {
    let mut packet = 0x0417_2710_1980u64.to_be_bytes().to_vec();
    packet.extend([0; 4]);
    packet.extend(transaction_id.to_be_bytes());
    packet
}

/// Sends the request and reads to the end of the connection.
fn converse(mut stream: TcpStream, request: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return answer,
            Ok(count) => answer.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Closed before everything was read.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return answer,
            Err(error) => panic!("{}: {error}", request.escape_ascii()),
        }
    }
}

/// An address whose port is free for both TCP and UDP. It is not listened on
/// to find it: a process that another test starts at this moment holds a copy
/// of the socket until it runs its own program, and would seem to be the
/// tracker.
fn free(ip: IpAddr) -> SocketAddr {
    loop {
        let any = SocketAddr::new(ip, 0);
        let tcp = Socket::new(Domain::for_address(any), Type::STREAM, None).expect("a socket");
        tcp.bind(&any.into()).expect("a port");
        let address = tcp.local_addr().expect("an address");
        let address = address.as_socket().expect("of IP");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
