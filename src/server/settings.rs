//! From the configuration to what each part of a shard is set to.

use super::StartError;
use crate::bittorrent::AddressFamily;
use crate::config::{Config, HttpConfig};
use crate::frontend::http::HttpSettings;
use crate::frontend::http::handover::{HandedOver, HandoverSettings};
use crate::frontend::udp::UdpSettings;
use crate::hook::prefix_table::Networks;
use crate::protocol::http::{NumWantLimits, Routes};
use crate::protocol::udp::ConnectionIds;
use crate::shard::ShardSettings;
use crossbeam_channel::Sender;
use std::time::Duration;

/// The configuration in the form that the parts of a shard take.
pub(super) struct Settings {
    pub shard: ShardSettings,
    pub udp: Option<UdpSettings>,
    pub http: Option<HttpSettings>,
}

impl Settings {
    /// Brings a configuration into this form.
    ///
    /// # Errors
    /// Routes that contradict each other.
    pub fn new(
        config: &Config,
        connection_key: [u8; 16],
        statistics: &Sender<HandedOver>,
    ) -> Result<Self, StartError> {
        let storage = &config.storage.config;
        let interval_seconds = whole_seconds(config.announce_interval);
        let min_interval_seconds = whole_seconds(config.min_announce_interval);
        let interval_spread_seconds = whole_seconds(config.announce_interval_spread);
        let dialect = config.dialect;
        let shard = ShardSettings {
            peer_lifetime_seconds: whole_seconds(storage.peer_lifetime),
            downloads_lifetime_seconds: whole_seconds(storage.downloads_lifetime),
            sweep_seconds: whole_seconds(storage.gc_interval),
            peer_ids: storage.peer_ids,
            max_peers: storage.max_peers as u64,
            max_swarms: storage.max_swarms as u64,
            client_breakdown: config.client_breakdown,
            opentracker_statistics: config
                .http
                .as_ref()
                .is_some_and(|http| !http.stats_path.is_empty()),
        };
        let udp = config.udp.as_ref().map(|udp| {
            let skew = udp.max_clock_skew.as_secs();
            UdpSettings {
                dialect,
                interval_seconds,
                interval_spread_seconds,
                connection_ids: match udp.private_key.is_empty() {
                    true => ConnectionIds::new(connection_key, skew),
                    false => ConnectionIds::from_secret(udp.private_key.expose().as_bytes(), skew),
                },
                allow_ip_spoofing: udp.allow_ip_spoofing,
                default_num_want: dialect
                    .default_num_want_udp(udp.default_numwant, udp.max_numwant),
                max_num_want: udp.max_numwant,
                max_scrape_hashes: udp.max_scrape_infohashes,
                max_packet_bytes: [
                    dialect.max_packet_bytes(AddressFamily::V4, udp.max_packet_bytes_ipv4),
                    dialect.max_packet_bytes(AddressFamily::V6, udp.max_packet_bytes_ipv6),
                ],
            }
        });
        let http = match &config.http {
            None => None,
            Some(http) => Some(HttpSettings {
                dialect,
                interval_seconds,
                min_interval_seconds,
                interval_spread_seconds,
                routes: Routes::compile(&http.announce_routes, &http.scrape_routes)
                    .map_err(|error| StartError(error.to_string()))?,
                num_want: NumWantLimits {
                    default: http.default_numwant,
                    max: http.max_numwant,
                },
                max_scrape_hashes: http.max_scrape_infohashes,
                allow_ip_spoofing: http.allow_ip_spoofing,
                real_ip_header: Some(http.real_ip_header.clone()).filter(|name| !name.is_empty()),
                trusted_proxies: Networks::new(&http.trusted_proxies),
                proxy_protocol: http.proxy_protocol,
                enable_keepalive: http.enable_keepalive,
                read_timeout: http.read_timeout.as_millis() as u64,
                write_timeout: http.write_timeout.as_millis() as u64,
                idle_timeout: http.idle_timeout.as_millis() as u64,
                max_connections: http.max_connections,
                max_request_bytes: http.max_request_bytes,
                external_ip: http.external_ip,
                redirect_url: http.redirect_url.clone(),
                handover: handover(http, statistics),
            }),
        };
        Ok(Self { shard, udp, http })
    }
}

/// What is served beside the shards.
fn handover(http: &HttpConfig, lane: &Sender<HandedOver>) -> HandoverSettings {
    HandoverSettings {
        stats_path: Some(http.stats_path.clone()).filter(|path| !path.is_empty()),
        stats_networks: Networks::new(&http.stats_networks),
        full_scrape: http.full_scrape,
        full_scrape_networks: Networks::new(&http.full_scrape_networks),
        full_scrape_pause: http.full_scrape_pause,
        lane: lane.clone(),
    }
}

fn whole_seconds(duration: Duration) -> u32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
