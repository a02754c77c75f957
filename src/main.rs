//! The `karuta` program: parses the command line and hands over to the library.

use clap::{Args, Parser, Subcommand};
use karuta::config::Config;
use karuta::control::logging;
use karuta::e2e;
use karuta::server::ConfigSource;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A BitTorrent tracker. Without a file it runs with its built-in defaults.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

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

#[derive(Subcommand)]
enum Command {
    /// Check a running tracker: two peers announce, and must find each other
    E2e(E2eArguments),
}

#[derive(Args)]
struct E2eArguments {
    /// Where to announce over HTTP or HTTPS; "" leaves it out
    #[arg(long, value_name = "URL", default_value = e2e::DEFAULT_HTTP)]
    httpaddr: String,

    /// Where to announce over UDP; "" leaves it out
    #[arg(long, value_name = "URL", default_value = e2e::DEFAULT_UDP)]
    udpaddr: String,

    /// How long to wait between the two announces
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    delay: Duration,

    /// How long an answer may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// Do not verify the certificate of an https:// URL
    #[arg(long)]
    insecure: bool,
}

/// The program could not start, or a check failed.
const CANNOT_START: u8 = 1;

/// The command line or the configuration is wrong.
const BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::E2e(arguments)) = &arguments.command {
        return check_running(arguments);
    }
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

/// Checks a tracker that runs somewhere.
fn check_running(arguments: &E2eArguments) -> ExitCode {
    let mut check = match e2e::Check::new(&arguments.httpaddr, &arguments.udpaddr) {
        Ok(check) => check,
        Err(error) => {
            say(std::io::stderr(), &format!("error: {error}\n"));
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    check.delay = arguments.delay;
    check.timeout = arguments.timeout;
    check.insecure = arguments.insecure;
    let mut random = [0; 32];
    if let Err(error) = getrandom::fill(&mut random) {
        let text = format!("karuta: the system gives no random numbers: {error}\n");
        say(std::io::stderr(), &text);
        return ExitCode::from(CANNOT_START);
    }
    match check.run(random, |line| say(std::io::stdout(), &format!("{line}\n"))) {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(CANNOT_START),
    }
}

/// Writes a text, and minds less than `print!` if nobody is there to read it.
fn say(mut to: impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes());
    let _ = to.flush();
}
