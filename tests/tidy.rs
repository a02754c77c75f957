//! Holds what the compiler does not: the layers, where `unsafe` and glommio
//! may stand, and the shape of files.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the bottom up: a module uses only those before it.
const LAYERS: [&str; 14] = [
    "sys",
    "bittorrent",
    "protocol",
    "config",
    "opentracker",
    "swarm",
    "hook",
    "shard",
    "runtime",
    "state",
    "frontend",
    "control",
    "server",
    "e2e",
];

/// The longest file that can still be read in one go.
const MAX_LINES: usize = 600;

/// Files that may have up to [`MAX_LINES_LONGER`] lines, and why.
const LONGER: &[(&str, &str)] = &[
    ("tests/config_file.rs", "one rule after the other"),
    ("tests/opentracker_dialect.rs", "one rule after the other"),
];
const MAX_LINES_LONGER: usize = 750;

/// Where code is: each file can be read in one go.
const FOLDERS: [&str; 4] = ["src", "tests", "benches", "load-tester"];

/// A source file: its path from the project's root, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs")
    }

    /// The lines that are code, with their numbers, without what stands
    /// behind `//` and without the unit tests at the end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines
            .take_while(|(_, line)| *line != "#[cfg(test)]")
            .map(|(at, line)| (at + 1, line.split("//").next().unwrap_or("")))
    }

    fn layer(&self) -> Option<usize> {
        let name = self.path.strip_prefix("src/")?;
        let name = name.split(['/', '.']).next()?;
        LAYERS.iter().position(|layer| *layer == name)
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = vec![root.join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(folder).expect("a folder");
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(Source {
                    text: fs::read_to_string(&path).expect("text"),
                    path: path
                        .strip_prefix(root)
                        .expect("below the root")
                        .to_str()
                        .expect("UTF-8")
                        .to_owned(),
                });
            }
        }
    }
    found
}

/// Fails with every place that is named.
fn none(places: Vec<String>) {
    assert!(places.is_empty(), "\n{}", places.join("\n"));
}

/// Places outside the allowed paths where code has this word.
fn word_outside(word: &str, allowed: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources("src") {
        if allowed.iter().any(|path| source.path.starts_with(path)) {
            continue;
        }
        for (at, line) in source.code() {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.any(|found| found == word) {
                found.push(format!("{}:{at}: {word} may not stand here", source.path));
            }
        }
    }
    found
}

#[test]
fn imports_go_downward_only() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        if source.is_test() || ["src/main.rs", "src/lib.rs"].contains(&source.path.as_str()) {
            continue;
        }
        let Some(own) = source.layer() else {
            wrong.push(format!("{}: belongs to no layer", source.path));
            continue;
        };
        for (at, line) in source.code() {
            for behind in line.split("crate::").skip(1) {
                // `crate::{a, b}` would hide its layers from this test.
                let name = behind.split(|c: char| !c.is_alphanumeric() && c != '_');
                let mut name = name;
                let name = name.next().unwrap_or("");
                if source.path == "src/config/hooks.rs" && name == "hook" {
                    // The list of hooks: a hook's options stand in its own file.
                    continue;
                }
                match LAYERS.iter().position(|layer| *layer == name) {
                    Some(used) if used <= own => {}
                    Some(_) => wrong.push(format!("{}:{at}: uses {name} above it", source.path)),
                    None => wrong.push(format!("{}:{at}: crate::{name} is no layer", source.path)),
                }
            }
        }
    }
    none(wrong);
}

#[test]
fn unsafe_stands_only_in_sys() {
    none(word_outside("unsafe", &["src/sys/"]));
}

#[test]
fn glommio_is_named_only_where_it_runs() {
    none(word_outside(
        "glommio",
        &["src/runtime/", "src/frontend/", "src/server.rs"],
    ));
}

#[test]
fn clocks_are_read_only_by_the_clock() {
    for clock in ["Instant", "SystemTime"] {
        none(word_outside(
            clock,
            &["src/runtime/clock.rs", "src/control/"],
        ));
    }
}

#[test]
fn every_module_says_what_it_is() {
    let all = sources("src").into_iter().chain(sources("tests"));
    none(
        all.filter(|source| !source.text.starts_with("//! "))
            .map(|source| format!("{}: does not begin with //!", source.path))
            .collect(),
    );
}

#[test]
fn files_can_be_read_in_one_go() {
    let mut wrong = Vec::new();
    let all: Vec<Source> = FOLDERS.into_iter().flat_map(sources).collect();
    for (path, _) in LONGER {
        if all.iter().all(|source| source.path != *path) {
            wrong.push(format!("{path}: may be longer, but is not there"));
        }
    }
    for source in all {
        let lines = source.text.lines().count();
        let limit = match LONGER.iter().any(|(path, _)| *path == source.path) {
            true => MAX_LINES_LONGER,
            false => MAX_LINES,
        };
        if lines > limit {
            wrong.push(format!("{}: {lines} lines, more than {limit}", source.path));
        }
    }
    none(wrong);
}

#[test]
fn nothing_is_left_to_do() {
    let mut wrong = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        for (at, line) in source.text.lines().enumerate() {
            // Put together, so that this file does not find itself.
            let marks = [
                concat!("to", "do!("),
                concat!("unimpl", "emented!("),
                concat!("FIX", "ME"),
                concat!("TO", "DO"),
            ];
            if marks.iter().any(|mark| line.contains(mark)) {
                wrong.push(format!("{}:{}: {line}", source.path, at + 1));
            }
        }
    }
    none(wrong);
}
