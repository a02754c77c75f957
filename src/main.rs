//! The `karuta` program: parses the command line and hands over to the library.

use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};
use karuta::config::Config;
use karuta::control::logging;
use karuta::e2e;
use karuta::opentracker::{self, Asked, Start};
use karuta::server::ConfigSource;
use karuta::sys::privileges::is_root;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// A BitTorrent tracker. Without a file it runs with its built-in defaults.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// The configuration file (see config.yaml for every key)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Run on a configuration file of opentracker's, in its place
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    opentracker: Option<PathBuf>,

    /// In opentracker's place, refuse every torrent without a whitelist, and
    /// statistics without access.stats, as Debian's build of it does
    #[arg(long, global = true)]
    closed: bool,

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
    /// Run as opentracker does with the same flags (-h lists them)
    #[command(disable_help_flag = true)]
    Opentracker {
        /// opentracker's flags
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<OsString>,
    },

    /// Print the configuration that stands for one of opentracker's
    ImportOpentracker {
        /// opentracker's configuration file
        file: PathBuf,

        /// For a tracker that is not started as root (User= in a systemd unit)
        #[arg(long)]
        unprivileged: bool,
    },

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
    refuse_what_contradicts(&arguments);
    if let Some(Command::E2e(arguments)) = &arguments.command {
        return check_running(arguments);
    }
    let (config, remarks) = match find_config(&arguments) {
        Ok(Found::Config(config, remarks)) => (*config, remarks),
        Ok(Found::Text(text)) => {
            say(std::io::stdout(), &text);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            say(std::io::stderr(), &format!("{error}\n"));
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    logging::init(arguments.debug, arguments.json, arguments.nocolors);
    for notice in config.notices() {
        log::info!("{notice}");
    }
    for warning in config.warnings().iter().chain(&remarks) {
        log::warn!("{warning}");
    }
    if arguments.check {
        say(std::io::stdout(), &config.to_yaml());
        return ExitCode::SUCCESS;
    }
    // In opentracker's place SIGHUP has the lists read again, and only them.
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

/// Ends the process if options stand before a command that they say nothing to.
fn refuse_what_contradicts(arguments: &Arguments) {
    let Some(command) = &arguments.command else {
        return;
    };
    let runs = matches!(command, Command::Opentracker { .. });
    for (is_given, option) in [
        (arguments.config.is_some(), "--config"),
        (arguments.opentracker.is_some(), "--opentracker"),
        (arguments.check && !runs, "--check"),
    ] {
        if is_given {
            let message = format!("{option} cannot be used with this command");
            let mut command = Arguments::command();
            command.error(ErrorKind::ArgumentConflict, message).exit();
        }
    }
}

/// What the command line comes to.
enum Found {
    /// To run with this, after these warnings.
    Config(Box<Config>, Vec<String>),
    /// To print this.
    Text(String),
}

fn find_config(arguments: &Arguments) -> Result<Found, String> {
    let root = is_root();
    let (script, name, privileged) = match &arguments.command {
        Some(Command::Opentracker { flags }) => match opentracker::read_flags(flags)? {
            Asked::Help => return Ok(Found::Text(opentracker::HELP.to_owned())),
            Asked::Version => {
                let version = concat!("karuta ", env!("CARGO_PKG_VERSION"), "\n");
                return Ok(Found::Text(version.to_owned()));
            }
            Asked::Run(script) => (script, "opentracker's flags".to_owned(), root),
        },
        Some(Command::ImportOpentracker { file, unprivileged }) => {
            (opentracker::read_file(file)?, shown(file), !unprivileged)
        }
        Some(Command::E2e(_)) | None => match (&arguments.opentracker, &arguments.config) {
            (Some(file), _) => (opentracker::read_file(file)?, shown(file), root),
            (None, Some(file)) => return load(Config::load(file)),
            (None, None) => return load(Ok::<_, String>(Config::default())),
        },
    };
    let start = Start {
        privileged,
        closed: arguments.closed,
        directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
    };
    let import = opentracker::import(&script, &start, &name);
    if matches!(arguments.command, Some(Command::ImportOpentracker { .. })) {
        return Ok(Found::Text(import.yaml));
    }
    let config = import.config(&name).map_err(|error| error.to_string())?;
    let remarks = import.remarks.iter().map(ToString::to_string).collect();
    Ok(Found::Config(Box::new(config), remarks))
}

fn load<E: ToString>(config: Result<Config, E>) -> Result<Found, String> {
    let config = config.map_err(|error| error.to_string())?;
    Ok(Found::Config(Box::new(config), Vec::new()))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
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
