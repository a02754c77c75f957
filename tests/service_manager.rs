//! What a service manager hears of the program: ready, alive, reloading,
//! stopping.

mod support;

use std::os::unix::net::UnixDatagram;
use support::program::{Folder, Program, program};
use support::{Announce, Udp, WATCHDOG, hash};

fn hear(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let count = support::uninterrupted(|| socket.recv(&mut buffer)).expect("a word");
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

fn listen(folder: &Folder) -> UnixDatagram {
    let socket = UnixDatagram::bind(folder.path().join("notify")).expect("bind");
    socket.set_read_timeout(Some(WATCHDOG)).expect("timeout");
    socket
}

const KEYS: &str = "
shards: 2
metrics_addr: 127.0.0.1:0
udp: {addr: '127.0.0.1:0'}
http: {addr: '127.0.0.1:0'}
";

#[test]
fn it_hears_when_the_tracker_is_ready_alive_and_stopping() {
    let folder = Folder::new();
    let socket = listen(&folder);
    let config = folder.file("karuta.yaml", KEYS);
    let mut process = Program::start(
        program()
            .arg("--config")
            .arg(config)
            .env("NOTIFY_SOCKET", folder.path().join("notify"))
            .env("WATCHDOG_USEC", "400000"),
    );
    assert_eq!(hear(&socket), "READY=1\nSTATUS=Serving on 2 shards");
    for _ in 0..3 {
        assert_eq!(hear(&socket), "WATCHDOG=1");
    }
    let next = || loop {
        let word = hear(&socket);
        if word != "WATCHDOG=1" {
            return word;
        }
    };
    // Well or not, a reload ends.
    for text in [KEYS, "nonsense"] {
        folder.file("karuta.yaml", text);
        process.signal("HUP");
        let word = next();
        assert!(word.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{word}");
        assert_eq!(next(), "READY=1");
    }
    process.signal("TERM");
    assert_eq!(next(), "STOPPING=1");
    assert_eq!(process.end().0.code(), Some(0));
}

#[test]
fn it_hears_from_below_a_new_root_too() {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    if !status.contains("Uid:\t0\t0\t0\t0") {
        println!("skipped: only root can have another root directory");
        return;
    }
    let (folder, root) = (Folder::new(), Folder::new());
    let socket = listen(&folder);
    let keys = format!(
        "{KEYS}user: '65123'\ngroup: '65321'\nchroot: {}\n",
        root.path().display()
    );
    let config = folder.file("karuta.yaml", &keys);
    let mut process = Program::start(
        program()
            .arg("--config")
            .arg(&config)
            .env("NOTIFY_SOCKET", folder.path().join("notify")),
    );
    assert_eq!(hear(&socket), "READY=1\nSTATUS=Serving on 2 shards");
    // A reload looks for the file at the same path below the new root.
    let copy = root
        .path()
        .join(config.strip_prefix("/").expect("absolute"));
    std::fs::create_dir_all(copy.parent().expect("a folder")).expect("folders");
    std::fs::write(copy, format!("announce_interval: 20m\n{keys}")).expect("write");
    process.signal("HUP");
    assert!(hear(&socket).starts_with("RELOADING=1\n"));
    assert_eq!(hear(&socket), "READY=1");
    let reply = Udp::new(process.udp).announce(&Announce::leecher(hash(1), 1));
    assert_eq!(reply.interval, 1200);
    process.signal("TERM");
    assert_eq!(hear(&socket), "STOPPING=1");
    assert_eq!(process.end().0.code(), Some(0));
}

#[test]
fn a_manager_that_is_gone_does_not_keep_it_from_serving() {
    let folder = Folder::new();
    let config = folder.file("karuta.yaml", KEYS);
    let mut process = Program::start(
        program()
            .arg("--config")
            .arg(config)
            .env("NOTIFY_SOCKET", folder.path().join("nobody")),
    );
    process.signal("TERM");
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("NOTIFY_SOCKET cannot be reached"), "{log}");
}
