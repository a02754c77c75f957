//! The `karuta` program: parses the command line and hands over to the library.

use clap::Parser;
use karuta::config::Config;
use karuta::control::logging;
use karuta::server::ConfigSource;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// A BitTorrent tracker. Without a file it runs with its built-in defaults.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file (see config.yaml for every key)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Check the configuration, print what it amounts to, and exit
    #[arg(long)]
    check: bool,

    /// Log more
    #[arg(long)]
    debug: bool,

    /// Log one JSON object per line
    #[arg(long)]
    json: bool,

    /// Log without colours
    #[arg(long)]
    nocolors: bool,
}

/// The program could not start.
const CANNOT_START: u8 = 1;

/// The command line or the configuration is wrong.
const BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match &arguments.config {
        None => Config::default(),
        Some(path) => match Config::load(path) {
            Ok(config) => config,
            Err(error) => {
                say(std::io::stderr(), &format!("{error}\n"));
                return ExitCode::from(BAD_CONFIGURATION);
            }
        },
    };
    logging::init(arguments.debug, arguments.json, arguments.nocolors);
    for notice in config.notices() {
        log::info!("{notice}");
    }
    for warning in config.warnings() {
        log::warn!("{warning}");
    }
    if arguments.check {
        say(std::io::stdout(), &config.to_yaml());
        return ExitCode::SUCCESS;
    }
    let source = arguments.config.map(|path| ConfigSource {
        name: path.display().to_string(),
        read: Box::new(move || Config::load(&path).map_err(|error| error.to_string())),
    });
    match karuta::server::run(&config, source) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(std::io::stderr(), &format!("karuta: {error}\n"));
            ExitCode::from(CANNOT_START)
        }
    }
}

/// Writes a text, and minds less than `print!` if nobody is there to read it.
fn say(mut to: impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes());
    let _ = to.flush();
}
