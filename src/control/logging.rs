//! The log: lines on standard error, for people or, with `--json`, for programs.

use env_logger::{Builder, Env, WriteStyle};
use log::Record;
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Starts logging. Does nothing if something else already has.
///
/// Levels: `info` and above; with `debug`, everything that this program itself
/// says from `debug` on. The environment variable RUST_LOG overrides both.
/// Times are RFC 3339, in UTC, with milliseconds. `json` writes one object per
/// line: `{"time", "level", "target", "message"}`. There are colours only on a
/// terminal, without `nocolors`, and while NO_COLOR is unset or empty.
pub fn init(debug: bool, json: bool, nocolors: bool) {
    let levels = if debug { "info,karuta=debug" } else { "info" };
    let mut builder = Builder::from_env(Env::default().default_filter_or(levels));
    builder.format_timestamp_millis();
    builder.write_style(if json || nocolors || !wants_colours() {
        WriteStyle::Never
    } else {
        WriteStyle::Auto
    });
    if json {
        builder.format(|out, record| {
            let time = out.timestamp_millis();
            write_json(out, &time, record)
        });
    }
    // Fails only if a logger is there.
    let _ = builder.try_init();
}

/// Whether standard error is a terminal whose user has not said NO_COLOR.
fn wants_colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && io::stderr().is_terminal()
}

/// One record as one line.
fn write_json(out: &mut impl Write, time: &impl Display, record: &Record<'_>) -> io::Result<()> {
    #[derive(Serialize)]
    struct Line<'a> {
        time: String,
        level: &'a str,
        target: &'a str,
        message: String,
    }
    let line = Line {
        time: time.to_string(),
        level: match record.level() {
            log::Level::Error => "error",
            log::Level::Warn => "warn",
            log::Level::Info => "info",
            log::Level::Debug => "debug",
            log::Level::Trace => "trace",
        },
        target: record.target(),
        message: record.args().to_string(),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_stays_one_line_whatever_it_says() {
        let message = "a \"quoted\"\nline\t\u{1b}[31m \\ \u{0} é";
        let mut line = Vec::new();
        let mut record = Record::builder();
        record.level(log::Level::Warn).target("karuta::test");
        let time = "2026-01-02T03:04:05.678Z";
        // The arguments do not outlive this expression.
        write_json(
            &mut line,
            &time,
            &record.args(format_args!("{message}")).build(),
        )
        .expect("writes");
        assert_eq!(line.iter().filter(|&&byte| byte < b' ').count(), 1);
        assert!(line.ends_with(b"\n"));
        let read: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        let expected = serde_json::json!({
            "time": time,
            "level": "warn",
            "target": "karuta::test",
            "message": message,
        });
        assert_eq!(read, expected);
    }
}
