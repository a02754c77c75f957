//! opentracker's own command line, read as POSIX `getopt` reads it: flags may
//! share a word (`-p6969`), and their order matters: an `-i` counts for each
//! `-p` and `-P` behind it.

use super::parse::{Directive, Origin, Script, Setting, ip, network, port};
use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// What a command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// To run with this.
    Run(Script),
    /// `-h`: to say which flags there are.
    Help,
    /// `-v`: to say which version this is.
    Version,
}

/// What `-h` answers.
pub const HELP: &str = "\
Usage: karuta opentracker [flags]: runs as opentracker does with the same flags

  -f FILE  read this configuration file
  -i IP    listen on this address; counts for each -p and -P behind it
  -p PORT  listen on this TCP port (6969 if nothing is said), may be repeated
  -P PORT  listen on this UDP port (6969 if nothing is said), may be repeated
  -r URL   redirect browsers that ask for / to this URL
  -d DIR   change the root directory to this one, when started as root
  -u USER  run as this user, when started as root (nobody if nothing is said)
  -w FILE  serve only the torrents on this list
  -b FILE  do not serve the torrents on this list
  -A IP    let this address read statistics where access.stats restricts them
  -l FILE  begin with the download counts of this file (/stats?mode=statedump)
  -s PORT  live sync: not supported
  -v       say which version this is
  -h       say this

Without a list every torrent is served, and without access.stats everybody may
read statistics. karuta --closed opentracker … refuses both then, as Debian's
build of opentracker does.
";

/// Reads the words behind `karuta opentracker`.
///
/// # Errors
/// For what opentracker does not start with either: a flag that is none, has
/// no value or a wrong one, and for a file that cannot be read.
pub fn read(words: &[OsString]) -> Result<Asked, String> {
    let mut reader = Reader {
        script: Script::default(),
        ip: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        pending: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word
            .to_str()
            .ok_or_else(|| format!("{word:?} is not UTF-8 text"))?;
        if text == "--" {
            break;
        }
        if text.starts_with("--") {
            return Err(format!(
                "{text}: no such flag; options of karuta's own stand before \"opentracker\""
            ));
        }
        let mut letters = text.chars();
        let (Some('-'), Some(flag)) = (letters.next(), letters.next()) else {
            reader.skip(text);
            continue;
        };
        match flag {
            'h' => return Ok(Asked::Help),
            'v' => return Ok(Asked::Version),
            flag if WITH_VALUE.contains(flag) => {}
            flag => return Err(format!("-{flag}: no such flag; -h lists them")),
        }
        let value = match letters.as_str() {
            "" => words.next().and_then(|word| word.to_str()),
            rest => Some(rest),
        };
        let value = value.ok_or_else(|| format!("-{flag}: the value is missing"))?;
        reader.take(flag, value)?;
    }
    for word in words {
        reader.skip(&word.to_string_lossy());
    }
    reader.set_pending();
    Ok(Asked::Run(reader.script))
}

/// Flags that have a value.
const WITH_VALUE: &str = "ipPAdurslfwb";

struct Reader {
    script: Script,
    ip: IpAddr,
    /// An `-i` that no port has used yet.
    pending: Option<Origin>,
}

impl Reader {
    fn take(&mut self, flag: char, value: &str) -> Result<(), String> {
        let wrong = |what: &str| format!("-{flag} {value}: {value:?} is not {what}");
        let text = || value.to_owned();
        let port = || port(value).ok_or_else(|| wrong("a port from 1 to 65535"));
        let setting = match flag {
            'i' => {
                self.set_pending();
                self.ip = ip(value).ok_or_else(|| wrong("an IP address"))?;
                self.pending = Some(Origin::Flag(format!("-i {value}")));
                return Ok(());
            }
            'p' | 'P' => {
                self.pending = None;
                Setting::Listen {
                    address: SocketAddr::new(self.ip, port()?),
                    tcp: flag == 'p',
                    udp: flag == 'P',
                }
            }
            'f' => return self.script.read_file(Path::new(value)),
            'w' => Setting::Whitelist(text()),
            'b' => Setting::Blacklist(text()),
            'd' => Setting::RootDirectory(text()),
            'u' => Setting::User(text()),
            'r' => Setting::RedirectUrl(text()),
            'l' => Setting::StateFile(text()),
            'A' => Setting::Admin(network(value).map_err(|reason| format!("-A: {reason}"))?),
            _ => {
                port()?;
                self.pending = None;
                Setting::Cluster
            }
        };
        self.script.directives.push(Directive {
            origin: Origin::Flag(format!("-{flag} {value}")),
            setting,
        });
        Ok(())
    }

    /// Turns an `-i` that no port has used into a directive of its own.
    fn set_pending(&mut self) {
        if let Some(origin) = self.pending.take() {
            let setting = Setting::DefaultAddress(self.ip);
            self.script.directives.push(Directive { origin, setting });
        }
    }

    fn skip(&mut self, word: &str) {
        self.script
            .remark(Origin::Flag(word.to_owned()), "is no flag");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Script {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        match read(&words) {
            Ok(Asked::Run(script)) => script,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn listening(script: &Script) -> Vec<String> {
        let mut shown = Vec::new();
        for set in &script.directives {
            match &set.setting {
                Setting::Listen { address, tcp, .. } => {
                    shown.push(format!("{} {address}", if *tcp { "tcp" } else { "udp" }));
                }
                Setting::DefaultAddress(ip) => shown.push(format!("both {ip}")),
                _ => {}
            }
        }
        shown
    }

    #[test]
    fn an_address_counts_for_the_ports_behind_it() {
        assert_eq!(
            listening(&run("-p 80 -i 192.0.2.1 -p 81 -P82 -i 2001:db8::1 -P 83")),
            [
                "tcp [::]:80",
                "tcp 192.0.2.1:81",
                "udp 192.0.2.1:82",
                "udp [2001:db8::1]:83",
            ]
        );
        assert_eq!(listening(&run("-i 192.0.2.1")), ["both 192.0.2.1"]);
    }

    #[test]
    fn flags_are_read_in_their_order() {
        let script = run("-w white -u me extra -s 9696 -A 192.0.2.1 -l state -- -x");
        let origins: Vec<String> = script
            .directives
            .iter()
            .map(|set| set.origin.to_string())
            .collect();
        assert_eq!(
            origins,
            ["-w white", "-u me", "-s 9696", "-A 192.0.2.1", "-l state"]
        );
        let remarks: Vec<String> = script
            .remarks
            .iter()
            .map(|found| found.to_string())
            .collect();
        assert_eq!(remarks, ["extra: is no flag", "-x: is no flag"]);
    }

    #[test]
    fn help_and_version_end_it() {
        let words = |text: &str| [OsString::from(text)];
        assert!(matches!(read(&words("-h")), Ok(Asked::Help)));
        assert!(matches!(read(&words("-vp")), Ok(Asked::Version)));
        for flag in ["i", "p", "P", "r", "d", "u", "w", "b", "A", "l", "s", "f"] {
            assert!(
                HELP.contains(&format!("\n  -{flag} ")),
                "-{flag} is not in the help"
            );
            assert!(WITH_VALUE.contains(flag), "-{flag}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (words, expected) in [
            (&["-x"][..], "-x: no such flag"),
            (
                &["--check"],
                "--check: no such flag; options of karuta's own",
            ),
            (&["-p"], "-p: the value is missing"),
            (&["-p", "http"], "-p http: \"http\" is not a port"),
            (
                &["-i", "localhost"],
                "-i localhost: \"localhost\" is not an IP address",
            ),
            (&["-A", "x"], "-A: \"x\" is not a network"),
            (
                &["-f", "/nonexistent/ot.conf"],
                "/nonexistent/ot.conf: cannot be read",
            ),
        ] {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let error = read(&words).expect_err("a mistake");
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
