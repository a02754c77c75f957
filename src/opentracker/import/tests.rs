//! What opentracker's files and flags become.

use super::super::page::one_line;
use super::super::parse::KEYS;
use super::super::{Asked, read_flags};
use super::*;
use crate::config::Config;
use std::ffi::OsString;

fn start() -> Start {
    Start {
        privileged: false,
        closed: false,
        directory: PathBuf::from("/start"),
    }
}

fn import_text(text: &str, start: &Start) -> Import {
    let mut script = Script::default();
    script.read_text(text.as_bytes(), "ot.conf");
    import(&script, start, "ot.conf")
}

fn import_flags(flags: &str, start: &Start) -> Import {
    let words: Vec<OsString> = flags.split(' ').map(OsString::from).collect();
    match read_flags(&words) {
        Ok(Asked::Run(script)) => import(&script, start, flags),
        other => panic!("{flags}: {other:?}"),
    }
}

/// The configuration, which must be right; and the remarks, one per line.
fn read(import: &Import) -> (Config, String) {
    let config = import
        .config("ot.conf")
        .unwrap_or_else(|error| panic!("{error}\n{}", import.yaml));
    let remarks: Vec<String> = import.remarks.iter().map(Remark::to_string).collect();
    for remark in &remarks {
        assert!(
            import.yaml.contains(&one_line(remark)),
            "{remark} is not in the text"
        );
    }
    (config, remarks.join("\n"))
}

fn listening(config: &Config) -> [Vec<String>; 2] {
    let http = config.http.as_ref().map(|http| http.addr.clone());
    let udp = config.udp.as_ref().map(|udp| udp.addr.clone());
    [http, udp].map(|list| {
        let list = list.unwrap_or_default();
        list.iter().map(SocketAddr::to_string).collect()
    })
}

/// Every key of opentracker's at once.
const EVERYTHING: &str = "\
listen.udp.workers 4
listen.tcp_udp 127.0.0.1:7000
listen.tcp [::1]:7001
listen.udp 0.0.0.0
listen.udp ::
access.whitelist lists/white
access.fifo_add run/add
access.fifo_delete /run/delete
access.stats 192.0.2.0/24
access.stats 2001:db8::1
access.stats_path secret
access.proxy 10.0.1.23
access.proxy 192.0.2.0/24
tracker.redirect_url https://example.org/?a=\"b\"#c
tracker.rootdir /var/lib/ot/
tracker.user tracker
livesync.cluster.listen 192.0.2.1:9696
livesync.cluster.node_ip 192.0.2.2
batchsync.cluster.admin_ip 192.0.2.3
access.wihtelist typo
";

#[test]
fn defaults_are_opentrackers() {
    let (config, remarks) = read(&import_text("", &start()));
    let both = ["0.0.0.0:6969", "[::]:6969"].map(str::to_owned).to_vec();
    assert_eq!(listening(&config), [both.clone(), both]);
    assert_eq!(config.announce_interval.as_secs(), 1620);
    assert_eq!(config.min_announce_interval.as_secs(), 810);
    let storage = &config.storage.config;
    assert_eq!(storage.peer_lifetime.as_secs(), 45 * 60);
    assert_eq!(storage.downloads_lifetime.as_secs(), 24 * 60 * 60);
    let (http, udp) = (config.http.expect("http"), config.udp.expect("udp"));
    assert_eq!((http.default_numwant, http.max_numwant), (50, 200));
    assert_eq!(
        (http.max_scrape_infohashes, udp.max_scrape_infohashes),
        (64, 75)
    );
    assert_eq!((udp.default_numwant, udp.max_numwant), (200, 200));
    assert_eq!(config.metrics_addr, []);
    assert_eq!(config.prehooks, []);
    assert!(remarks.contains("every torrent is served"), "{remarks}");
}

#[test]
fn every_line_is_there_or_named() {
    let import = import_text(EVERYTHING, &start());
    let (config, remarks) = read(&import);
    assert_eq!(
        listening(&config),
        [
            vec!["127.0.0.1:7000", "[::1]:7001"],
            vec!["127.0.0.1:7000", "0.0.0.0:6969", "[::]:6969"],
        ]
    );
    for (at, line) in EVERYTHING.lines().enumerate() {
        let key = line.split(' ').next().expect("a key");
        let place = format!("ot.conf:{}: {key}", at + 1);
        let repeated = ["access.stats", "access.proxy"].contains(&key);
        let listens = key.starts_with("listen.") && key != "listen.udp.workers";
        let is_there = import.yaml.contains(&place) || listens || repeated;
        assert!(is_there, "{line}\n{}", import.yaml);
    }
    assert!(
        remarks.contains("ot.conf:1: listen.udp.workers: has no equivalent"),
        "{remarks}"
    );
    assert!(
        remarks.contains("ot.conf:17: livesync.cluster.listen: "),
        "{remarks}"
    );
    assert!(
        remarks.contains("ot.conf:16: tracker.user: has no effect without root"),
        "{remarks}"
    );
    assert!(
        remarks.contains("did you mean \"access.whitelist\"?"),
        "{remarks}"
    );
    // Relative paths begin at the directory that opentracker changes to.
    assert!(
        import
            .yaml
            .contains("whitelist_file: \"/var/lib/ot/lists/white\"")
    );
    assert!(import.yaml.contains("fifo_add: \"/var/lib/ot/run/add\""));
    assert!(import.yaml.contains("fifo_delete: \"/run/delete\""));
}

#[test]
fn values_are_the_readers() {
    let import = import_text(
        EVERYTHING,
        &Start {
            privileged: true,
            ..start()
        },
    );
    let (config, _) = read(&import);
    let yaml = config.to_yaml();
    for expected in [
        "dialect: opentracker",
        "announce_interval_spread: 5m59s",
        "user: tracker",
        "chroot: /var/lib/ot",
        "redirect_url: https://example.org/?a=\"b\"#c",
        "192.0.2.0/24",
        "real_ip_header: X-Forwarded-For",
        "stats_path: secret",
        "2001:db8::1",
        "full_scrape: true",
    ] {
        assert!(yaml.contains(expected), "{expected}\n{yaml}");
    }
}

#[test]
fn lists_and_a_lack_of_them() {
    let closed = Start {
        closed: true,
        ..start()
    };
    let hooks = |import: &Import| -> Vec<String> {
        let (config, _) = read(import);
        let options = config.prehooks.iter();
        options
            .map(|hook| serde_yaml::to_string(&hook.options).expect("options"))
            .collect()
    };
    let refused = hooks(&import_text("", &closed));
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].starts_with("whitelist: []\nformat: opentracker\n"),
        "{refused:?}"
    );
    let both = import_flags("-w white -b black", &start());
    let options = hooks(&both);
    assert!(
        options[0].starts_with("whitelist_file: /start/white\n"),
        "{options:?}"
    );
    assert!(
        options[1].starts_with("blacklist_file: /start/black\n"),
        "{options:?}"
    );
    assert!(both.yaml.contains("knows only one kind of list"));
    let fifo = import_text("access.fifo_add /a", &start());
    assert!(hooks(&fifo).is_empty());
    let (_, remarks) = read(&fifo);
    assert!(
        remarks.contains("ot.conf:1: access.fifo_add: there is no list"),
        "{remarks}"
    );
    assert!(hooks(&import_text("access.fifo_add /a", &closed))[0].contains("fifo_add: /a"));
}

#[test]
fn statistics_are_for_those_that_are_named() {
    let closed = Start {
        closed: true,
        ..start()
    };
    for (text, start, expected) in [
        ("", &start(), "everybody may read the statistics"),
        ("", &closed, "no network may read the statistics"),
        (
            "access.stats x",
            &start(),
            "ot.conf:1: access.stats: no network may",
        ),
        ("access.stats_path /x", &start(), "begins with a slash"),
        ("access.stats_path scx", &start(), "begins as an announce"),
        ("access.stats_path x y", &start(), "has characters"),
    ] {
        let import = import_text(text, start);
        let (_, remarks) = read(&import);
        assert!(remarks.contains(expected), "{text}: {remarks}");
        let is_served = import.yaml.contains("stats_path: \"stats\"");
        assert_eq!(is_served, expected.starts_with("everybody"), "{text}");
    }
    let (_, remarks) = read(&import_flags("-A 192.0.2.1", &start()));
    assert!(
        remarks.contains("-A 192.0.2.1: everybody may read"),
        "{remarks}"
    );
    let import = import_flags("-A 192.0.2.1", &closed);
    assert!(
        !read(&import).1.contains("no network may read"),
        "{}",
        import.yaml
    );
}

#[test]
fn paths_are_those_of_the_running_tracker() {
    let debian =
        "access.whitelist /etc/opentracker/whitelist.txt\ntracker.rootdir /etc/opentracker\n";
    for (text, privileged, expected) in [
        (debian, false, "/etc/opentracker/whitelist.txt"),
        // opentracker itself would look for it twice as deep.
        (debian, true, "/whitelist.txt"),
        ("access.whitelist list\ntracker.rootdir /ot", true, "/list"),
        (
            "access.whitelist list\ntracker.rootdir /ot",
            false,
            "/ot/list",
        ),
        (
            "access.whitelist ./list\ntracker.rootdir ot",
            false,
            "/start/ot/list",
        ),
        ("access.whitelist list", true, "/list"),
        ("access.whitelist list", false, "/start/list"),
    ] {
        let import = import_text(
            text,
            &Start {
                privileged,
                ..start()
            },
        );
        let expected = format!("whitelist_file: {}\n", quoted(expected));
        assert!(import.yaml.contains(&expected), "{text}: {}", import.yaml);
        read(&import);
    }
}

#[test]
fn flags_and_files_amount_to_the_same() {
    let (config, _) = read(&import_flags(
        "-i 127.0.0.1 -p 7000 -P 7001 -i ::1 -p 7000",
        &start(),
    ));
    assert_eq!(
        listening(&config),
        [vec!["127.0.0.1:7000", "[::1]:7000"], vec!["127.0.0.1:7001"]]
    );
    let (config, _) = read(&import_flags("-i 127.0.0.1", &start()));
    assert_eq!(
        listening(&config),
        [vec!["127.0.0.1:6969"], vec!["127.0.0.1:6969"]]
    );
    let import = import_flags(
        "-A 192.0.2.1 -s 9696 -P 7000 -r http://example.org/",
        &start(),
    );
    let (config, remarks) = read(&import);
    assert_eq!(config.http, None);
    for flag in ["-A 192.0.2.1", "-r http://example.org/"] {
        let expected = format!("{flag}: has no effect: no TCP address");
        assert!(remarks.contains(&expected), "{remarks}");
    }
    assert!(
        remarks.contains("-s 9696: karuta does not exchange peers"),
        "{remarks}"
    );
}

#[test]
fn an_address_given_twice_counts_once() {
    let text = "listen.tcp_udp ::\nlisten.tcp 0.0.0.0\nlisten.tcp_udp [::]:6969";
    let (config, remarks) = read(&import_text(text, &start()));
    let both = ["0.0.0.0:6969", "[::]:6969"].map(str::to_owned).to_vec();
    assert_eq!(listening(&config), [both.clone(), both]);
    assert_eq!(
        remarks.matches("is listened on already").count(),
        2,
        "{remarks}"
    );
}

#[test]
fn a_redirect_must_be_a_url() {
    let import = import_text(
        "tracker.redirect_url https://example.org/ and more",
        &start(),
    );
    let (config, remarks) = read(&import);
    assert_eq!(config.http.expect("http").redirect_url, "");
    assert!(
        remarks.contains("ot.conf:1: tracker.redirect_url: is not a URL"),
        "{remarks}"
    );
}

#[test]
fn nothing_in_a_value_gets_out_of_it() {
    for value in [
        "a\"b\\c: [#",
        "{x}",
        "- y",
        "\u{85}\u{2028}\u{7f}\u{feff}",
        "caf\u{e9} \u{1F600}",
    ] {
        let text = format!("access.whitelist {value}\naccess.{value} x");
        let (config, _) = read(&import_text(&text, &start()));
        let options = &config.prehooks[0].options;
        let path = options.get("whitelist_file").and_then(|path| path.as_str());
        assert_eq!(path, Some(format!("/start/{value}").as_str()));
    }
}

/// Whatever stands in the file, what comes out is a configuration.
#[test]
fn any_file_becomes_a_configuration() {
    let mut keys = KEYS.to_vec();
    // What is no name of a user is refused: better than to go on as root.
    keys.retain(|key| *key != "tracker.user");
    keys.extend(["# a comment", "nonsense"]);
    const VALUES: [&str; 20] = [
        "",
        "::",
        "[::]:80",
        "0.0.0.0",
        "127.0.0.1:7000",
        "127.0.0.1:7001 x",
        "2001:db8::1",
        "10.0.0.0/8",
        "::/0",
        "0.0.0.0/0",
        "stats",
        "/x/y",
        "x",
        "../x",
        "\"'",
        "a: b",
        "null",
        "~",
        "\u{feff}\u{2028}",
        "%00",
    ];
    for seed in 0..400 {
        let mut random = crate::swarm::Random::new(seed);
        let mut text = String::new();
        for _ in 0..random.below(12) {
            let key = keys[random.below(keys.len() as u32) as usize];
            let value = VALUES[random.below(VALUES.len() as u32) as usize];
            text += &format!("{key} {value}\n");
        }
        let start = Start {
            privileged: random.below(2) == 0,
            closed: random.below(2) == 0,
            ..start()
        };
        let import = import_text(&text, &start);
        if let Err(error) = import.config("ot.conf") {
            // One path for both FIFOs is the one thing left to the reader.
            let error = error.to_string();
            let is_known = error.contains("fifo_delete: is fifo_add");
            assert!(is_known, "seed {seed}: {error}\n{text}\n{}", import.yaml);
        }
    }
}
