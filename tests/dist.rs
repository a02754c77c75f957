//! What is shipped beside the program: that the files of `dist/` agree with
//! each other, with the project and with the calls that the program makes.

mod support;

use karuta::config::Config;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use support::program::{Folder, Program, program};
use support::{Announce, Udp, hash};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The instructions of the Dockerfile: word and the rest, lines joined.
fn dockerfile() -> Vec<(String, String)> {
    let text = read("dist/docker/Dockerfile").replace("\\\n", " ");
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (word, rest) = line.split_once(' ').expect("an instruction");
            (word.to_owned(), rest.trim().to_owned())
        })
        .collect()
}

/// Whether a path goes into the build: the list says what does, all else stays
/// out.
fn is_sent(path: &Path) -> bool {
    let list = read("dist/docker/Dockerfile.dockerignore");
    let lines = list.lines().map(str::trim);
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(
        lines.next(),
        Some("*"),
        "all stays out but for what is named"
    );
    let mut sent = false;
    for line in lines {
        match line.strip_prefix('!') {
            Some(named) => sent |= path.starts_with(named),
            None => {
                let name = line.strip_prefix("**/").expect("the only kind of pattern");
                sent &= !path.components().any(|part| part.as_os_str() == name);
            }
        }
    }
    sent
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        match part {
            Component::ParentDir => assert!(path.pop(), "above the root"),
            Component::CurDir => {}
            part => path.push(part),
        }
        path
    })
}

#[test]
fn the_image_is_built_in_stages_from_what_is_there() {
    let instructions = dockerfile();
    let mut stages: Vec<&str> = Vec::new();
    let mut binary = None;
    for (word, rest) in &instructions {
        let words: Vec<&str> = rest.split_whitespace().collect();
        match (word.as_str(), words.as_slice()) {
            ("FROM", [image, "AS", name]) => {
                assert!(image.contains(':'), "{image} has no version");
                stages.push(name);
            }
            ("FROM", [image]) => {
                assert!(image.contains(':'), "{image} has no version");
                stages.push("");
            }
            ("COPY", [from, source, target]) if from.starts_with("--from=") => {
                let stage = from.trim_start_matches("--from=");
                assert!(stages[..stages.len() - 1].contains(&stage), "{rest}");
                binary = Some((source.to_string(), target.to_string()));
            }
            ("COPY", [sources @ .., _]) => {
                for source in sources {
                    assert!(root().join(source).exists(), "COPY of {source}");
                    assert!(
                        *source == "." || is_sent(Path::new(source)),
                        "{source} stays out"
                    );
                }
            }
            _ => {}
        }
    }
    assert_eq!(stages.len(), 2, "one to build, one to run");
    let last = |word: &str| {
        let mut all = instructions.iter().rev();
        let found = all.find(|(found, _)| found == word);
        &found.unwrap_or_else(|| panic!("no {word}")).1
    };
    let (source, target) = binary.expect("a binary");
    assert!(source.ends_with("/target/release/karuta"), "{source}");
    assert_eq!(*last("ENTRYPOINT"), format!("[\"{target}\"]"));
    assert!(last("CMD").contains("/etc/karuta/config.yaml"));
    let (user, group) = last("USER").split_once(':').expect("user:group");
    for id in [user, group] {
        let id: u32 = id.parse().expect("a number, which Kubernetes can check");
        assert_ne!(id, 0);
    }
}

#[test]
fn what_the_image_is_built_from_suffices() {
    // Files that the sources include must be sent, and so must every target
    // that the manifest names.
    let mut folders = vec![root().join("src")];
    let mut included = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            // Unit tests are not built for the image.
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            for mark in ["include_str!(\"", "include_bytes!(\""] {
                for found in text.split(mark).skip(1) {
                    let name = found.split('"').next().expect("a path");
                    let file = plain(&folder.join(name));
                    let file = file.strip_prefix(root()).expect("below the root");
                    assert!(is_sent(file), "{} includes {name}", path.display());
                    included += 1;
                }
            }
        }
    }
    println!("{included} files are included");
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .expect("cargo");
    let metadata: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    for package in metadata["packages"].as_array().expect("packages") {
        for target in package["targets"].as_array().expect("targets") {
            let path = Path::new(target["src_path"].as_str().expect("a path"));
            let path = path.strip_prefix(root()).expect("below the root");
            // Tests are found by their folder, and not missed when it is not there.
            assert!(
                path.starts_with("tests") || is_sent(path),
                "{}",
                path.display()
            );
        }
    }
    for name in ["Cargo.toml", "Cargo.lock", "load-tester/Cargo.toml"] {
        assert!(is_sent(Path::new(name)), "{name}");
    }
    for name in [
        "target/release/karuta",
        ".git/config",
        "load-tester/target/x",
    ] {
        assert!(!is_sent(Path::new(name)), "{name}");
    }
}

#[test]
fn the_configuration_in_the_image_is_the_default_but_for_metrics() {
    let text = read("dist/docker/config.yaml");
    let mut config = Config::parse(&text, "config.yaml").expect("a configuration");
    assert!(
        config
            .metrics_addr
            .iter()
            .all(|address| address.ip().is_unspecified())
    );
    config.metrics_addr = Config::default().metrics_addr;
    assert_eq!(config, Config::default());
}

/// The keys of one section of the unit; a key may come more than once.
fn unit(section: &str) -> BTreeMap<String, Vec<String>> {
    keys_of("dist/systemd/karuta.service", section)
}

fn keys_of(path: &str, section: &str) -> BTreeMap<String, Vec<String>> {
    let text = read(path);
    let mark = format!("[{section}]\n");
    let (_, text) = text.split_once(&mark).expect("the section");
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let lines = text.lines().take_while(|line| !line.starts_with('['));
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (key, value) = line.split_once('=').expect("key=value");
        keys.entry(key.to_owned())
            .or_default()
            .push(value.to_owned());
    }
    keys
}

/// To load the program and to drop the capabilities are calls that the unit
/// forbids.
#[test]
fn the_drop_in_allows_what_af_xdp_takes() {
    let drop_in = keys_of("dist/systemd/xdp.conf", "Service");
    let needed = ["CAP_NET_ADMIN CAP_NET_RAW CAP_BPF"];
    assert_eq!(drop_in["AmbientCapabilities"], needed);
    assert_eq!(drop_in["CapabilityBoundingSet"], needed);
    assert_eq!(drop_in["RestrictAddressFamilies"], ["AF_XDP AF_NETLINK"]);
    assert_eq!(drop_in["SystemCallFilter"], ["bpf capset"]);
    // Of queues there may be many, each with memory that counts as locked.
    assert_eq!(unit("Service")["LimitMEMLOCK"], ["infinity"]);
    let example = "[\"dist/systemd/xdp.conf\", \"usr/share/doc/karuta/examples/\"";
    assert!(read("Cargo.toml").contains(example));
}

#[test]
fn the_unit_starts_what_the_package_installs() {
    let manifest = read("Cargo.toml");
    let (_, deb) = manifest
        .split_once("[package.metadata.deb]")
        .expect("metadata");
    for source in [
        "config.yaml",
        "README.md",
        "CHANGELOG.md",
        "PERFORMANCE.md",
        "docs",
    ] {
        assert!(root().join(source).exists(), "{source}");
        assert!(deb.contains(&format!("[\"{source}")), "{source}");
    }
    assert!(deb.contains("[\"target/release/karuta\", \"usr/bin/\""));
    assert!(deb.contains("conf-files = [\"/etc/karuta/config.yaml\"]"));
    let service = unit("Service");
    assert_eq!(
        service["ExecStart"],
        ["/usr/bin/karuta --nocolors --config /etc/karuta/config.yaml"]
    );
    assert_eq!(service["Type"], ["notify"]);
    // What a bad configuration ends with.
    assert_eq!(service["RestartPreventExitStatus"], ["2"]);
    let postinst = read("dist/debian/postinst");
    for key in ["User", "Group"] {
        assert_eq!(service[key], ["_karuta"]);
    }
    assert!(postinst.contains("getent passwd _karuta") && postinst.contains(" _karuta\n"));
    for script in ["postinst", "postrm"] {
        let text = read(&format!("dist/debian/{script}"));
        assert!(text.contains("\n#DEBHELPER#\n"), "{script}");
        let checked = Command::new("sh")
            .arg("-n")
            .arg(root().join("dist/debian").join(script))
            .status();
        assert!(checked.expect("sh").success(), "{script}");
    }
}

/// What the profile for containers does with a call that it lists: allow it,
/// or fail with this error.
fn seccomp() -> BTreeMap<String, Option<i64>> {
    let profile: Json = serde_json::from_str(&read("dist/docker/seccomp.json")).expect("JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let mut calls = BTreeMap::new();
    for group in profile["syscalls"].as_array().expect("groups") {
        let action = match group["action"].as_str().expect("an action") {
            "SCMP_ACT_ALLOW" => None,
            "SCMP_ACT_ERRNO" => Some(group["errnoRet"].as_i64().expect("an error")),
            other => panic!("{other}"),
        };
        for name in group["names"].as_array().expect("names") {
            let name = name.as_str().expect("a name").to_owned();
            assert_eq!(calls.insert(name.clone(), action), None, "{name} twice");
        }
    }
    calls
}

#[test]
fn the_profile_for_containers_allows_io_uring_and_not_everything() {
    let calls = seccomp();
    for name in [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "sched_setscheduler",
        "clone",
        "execve",
    ] {
        assert_eq!(calls.get(name), Some(&None), "{name}");
    }
    for name in [
        "mount",
        "unshare",
        "setns",
        "bpf",
        "ptrace",
        "keyctl",
        "add_key",
        "init_module",
        "kexec_load",
        "reboot",
        "userfaultfd",
        "perf_event_open",
        "process_vm_writev",
        "pivot_root",
        "swapon",
        "open_by_handle_at",
        "move_mount",
        "personality",
    ] {
        assert_eq!(calls.get(name), None, "{name}");
    }
    // ENOSYS, upon which the C library takes clone.
    assert_eq!(calls["clone3"], Some(38));
}

/// The calls that the unit allows, as systemd on this host expands them;
/// `None` without systemd.
fn allowed_by_the_unit() -> Option<BTreeSet<String>> {
    let filters = unit("Service")["SystemCallFilter"].clone();
    let mut allowed = BTreeSet::new();
    for filter in filters {
        let (denied, names) = match filter.strip_prefix('~') {
            Some(names) => (true, names.to_owned()),
            None => (false, filter),
        };
        let names = names.split_whitespace().map(str::to_owned).collect();
        for call in expand(names)? {
            match denied {
                true => allowed.remove(&call),
                false => allowed.insert(call),
            };
        }
    }
    // Always allowed (systemd.exec(5), @default).
    allowed.extend(expand(vec!["@default".to_owned()])?);
    Some(allowed)
}

fn expand(mut names: Vec<String>) -> Option<BTreeSet<String>> {
    let mut calls = BTreeSet::new();
    while let Some(name) = names.pop() {
        if !name.starts_with('@') {
            calls.insert(name);
            continue;
        }
        let output = Command::new("systemd-analyze")
            .args(["syscall-filter", &name])
            .output();
        let output = output.ok().filter(|output| output.status.success())?;
        let text = String::from_utf8(output.stdout).ok()?;
        let lines = text.lines().skip(1).map(str::trim);
        names.extend(
            lines
                .filter(|line| !line.starts_with('#') && !line.is_empty())
                .map(str::to_owned),
        );
    }
    Some(calls)
}

/// Every call that a tracker makes from start to end, by strace.
fn calls(config: &str) -> BTreeSet<String> {
    let folder = Folder::new();
    let text: String = hash(1).iter().map(|byte| format!("{byte:02x}")).collect();
    let list = folder.file("allowed", &format!("{text}\n"));
    let config = config.replace("LIST", list.to_str().expect("UTF-8"));
    let config = folder.file("karuta.yaml", &config);
    let trace = folder.path().join("trace");
    let tracker = program();
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-U", "name", "-o"]).arg(&trace);
    command
        .arg(tracker.get_program())
        .arg("--config")
        .arg(config);
    let mut process = Program::start(&mut command);
    let reply = Udp::new(process.udp).announce(&Announce::seeder(hash(1), 7));
    assert_eq!(reply.counts(), (1, 0));
    for target in [
        Announce::leecher(hash(1), 8).target(),
        "/nothing".to_owned(),
    ] {
        support::get(process.http, &target);
    }
    assert_eq!(support::get(process.metrics, "/metrics").status, 200);
    // strace passes no signal on: its child is the tracker.
    let id = process.id();
    let child = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("children");
    let told = Command::new("kill")
        .args(["-s", "TERM", child.trim()])
        .status();
    assert!(told.expect("kill").success());
    let (status, log) = process.end();
    assert!(status.success(), "{log}");
    let text = fs::read_to_string(trace).expect("the calls");
    let is_call = |name: &&str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        // The heading and the last line are no calls.
        !["syscall", "total"].contains(name) && name.chars().all(plain)
    };
    let calls = text.split_whitespace().filter(is_call);
    calls.map(str::to_owned).collect()
}

#[test]
#[ignore = "needs strace"]
fn a_running_tracker_makes_no_call_that_is_forbidden() {
    let calls = calls(
        "shards: 2\nmetrics_addr: 127.0.0.1:0\n\
         udp: {addr: '127.0.0.1:0'}\nhttp: {addr: '127.0.0.1:0', enable_keepalive: true}\n\
         prehooks: [{name: torrent approval, options: {whitelist_file: LIST}}]\n",
    );
    for expected in [
        "io_uring_setup",
        "io_uring_enter",
        "inotify_add_watch",
        "recvmmsg",
        "sendmmsg",
        "accept4",
        "bind",
    ] {
        assert!(
            calls.contains(expected),
            "{expected} was not seen: {calls:?}"
        );
    }
    let profile = seccomp();
    for call in &calls {
        // clone3 fails as it should, and clone is called then.
        assert!(
            call == "clone3" || profile.get(call) == Some(&None),
            "the container: {call}"
        );
    }
    match allowed_by_the_unit() {
        None => println!("skipped: the unit's filter, without systemd"),
        Some(allowed) => {
            assert!(allowed.len() > 100, "{allowed:?}");
            for call in &calls {
                assert!(allowed.contains(call), "the unit: {call}");
            }
        }
    }
}

/// The program under the profile for containers, without some of its calls.
fn confined(without: &str) -> Command {
    let plain = program().get_program().to_owned();
    let script = root().join("tests/dist/under_seccomp.py");
    // Debian's own Python, for which Debian's module is made.
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(script)
        .arg(root().join("dist/docker/seccomp.json"));
    command.arg(without).arg(plain);
    for name in ["RUST_LOG", "NOTIFY_SOCKET", "WATCHDOG_USEC"] {
        command.env_remove(name);
    }
    command
}

#[test]
#[ignore = "needs python3-seccomp"]
fn under_the_profile_for_containers_it_serves_and_without_io_uring_it_says_why_not() {
    let folder = Folder::new();
    let config = folder.file(
        "karuta.yaml",
        "shards: 1\nrealtime_priority: 1\nmetrics_addr: 127.0.0.1:0\n\
         udp: {addr: '127.0.0.1:0'}\nhttp: {addr: '127.0.0.1:0'}\n",
    );
    let mut process = Program::start(confined("").arg("--config").arg(&config));
    let urls = [process.http, process.udp];
    let checked = confined("")
        .args(["e2e", "--delay", "0s", "--timeout", "20s"])
        .args(["--httpaddr", &format!("http://{}/announce", urls[0])])
        .args(["--udpaddr", &format!("udp://{}", urls[1])])
        .output()
        .expect("the check");
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(support::get(process.metrics, "/metrics").status, 200);
    process.signal("TERM");
    let (status, log) = process.end();
    assert!(status.success(), "{log}");
    // Where the profile is in the way, not even root can have a priority.
    let own = fs::read_to_string("/proc/self/status").expect("status");
    let capabilities = own.lines().find_map(|line| line.strip_prefix("CapEff:\t"));
    let capabilities = u64::from_str_radix(capabilities.expect("a line"), 16).expect("a number");
    const CAP_SYS_NICE: u32 = 23;
    if capabilities >> CAP_SYS_NICE & 1 == 1 {
        assert!(!log.contains("realtime_priority"), "{log}");
    }

    let output = confined("io_uring_setup")
        .arg("--config")
        .arg(config)
        .output();
    let output = output.expect("it ran");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("io_uring is not available"), "{said}");
}
