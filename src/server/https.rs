//! HTTPS: its certificate, read at the start and watched from then on.

use super::{StartError, out_of};
use crate::config::Config;
use crate::control::background::Background;
use crate::control::certificates::{Certificate, Certificates};
use crate::hook::background::Services;
use crate::runtime::clock::Clock;
use crate::shard::stats::ShardStats;
use rustls::ServerConfig;
use std::sync::Arc;

/// What HTTPS needs beside the shards. Dropping it ends the watch.
pub(super) struct Https {
    certificates: Arc<Certificates>,
    /// What the shards speak TLS by.
    pub tls: Arc<ServerConfig>,
    watch: Background,
}

impl Https {
    /// Reads the certificate, if the configuration wants HTTPS; `stats` is where
    /// its expiry date is published.
    ///
    /// # Errors
    /// What is wrong with it, with the file.
    pub fn start(
        config: &Config,
        stats: &Arc<ShardStats>,
        clock: Clock,
    ) -> Result<Option<Self>, StartError> {
        let Some(http) = config
            .http
            .as_ref()
            .filter(|http| !http.https_addr.is_empty())
        else {
            return Ok(None);
        };
        let (certificate, key) = (&http.tls_cert_path, &http.tls_key_path);
        let certificate =
            Certificate::read(certificate, key).map_err(|error| StartError(error.to_string()))?;
        let certificates = Certificates::new(certificate, stats.clone(), clock);
        let tls = certificates
            .server_config()
            .map_err(|error| StartError(format!("cannot speak TLS: {error}")))?;
        let services = Services {
            sources: vec![certificates.source()],
            ..Services::default()
        };
        let watch = Background::start(services)
            .map_err(|error| out_of("threads or file descriptors", &error))?;
        Ok(Some(Self {
            certificates,
            tls,
            watch,
        }))
    }

    /// Reads the certificate again.
    pub fn reread(&self) {
        self.certificates.reload_or_warn();
    }

    /// Reads the files that a configuration names in the place of those in use;
    /// `None` if it names the same.
    ///
    /// # Errors
    /// What is wrong with them, with the file.
    pub fn prepare(running: &Config, next: &Config) -> Result<Option<Certificate>, StartError> {
        let (Some(running), Some(next)) = (&running.http, &next.http) else {
            return Ok(None);
        };
        let (certificate, key) = (&next.tls_cert_path, &next.tls_key_path);
        if next.https_addr.is_empty()
            || (certificate, key) == (&running.tls_cert_path, &running.tls_key_path)
        {
            return Ok(None);
        }
        let read = Certificate::read(certificate, key);
        read.map(Some)
            .map_err(|error| StartError(error.to_string()))
    }

    /// Serves another certificate, whose files are watched from now on.
    pub fn install(&self, certificate: Certificate) {
        self.certificates.install(certificate);
        self.watch.reread();
    }
}
