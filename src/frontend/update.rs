//! What a reload changes in a running shard: its hooks and the settings of its
//! parts.

use super::http::{HttpFrontend, HttpSettings};
use super::udp::{UdpFrontend, UdpSettings};
use crate::hook::ShardHooks;
use crate::shard::{Shard, ShardSettings};

/// What a shard is to work with from now on.
pub struct ShardUpdate {
    /// `None`: those that it has.
    pub hooks: Option<ShardHooks>,
    /// Of the shard itself.
    pub shard: ShardSettings,
    /// Of its UDP frontend, if it has one.
    pub udp: Option<UdpSettings>,
    /// Of its HTTP frontend, if it has one.
    pub http: Option<HttpSettings>,
}

impl ShardUpdate {
    /// Exchanges what these parts have for what lies here. What they had is
    /// left here, to be freed elsewhere.
    pub fn exchange(
        &mut self,
        shard: &mut Shard,
        udp: Option<&mut UdpFrontend>,
        http: Option<&mut HttpFrontend>,
    ) {
        if let Some(hooks) = &mut self.hooks {
            shard.swap_hooks(hooks);
        }
        shard.set_settings(&self.shard);
        if let (Some(frontend), Some(settings)) = (udp, &mut self.udp) {
            frontend.swap_settings(settings);
        }
        if let (Some(frontend), Some(settings)) = (http, &mut self.http) {
            frontend.swap_settings(settings);
        }
    }
}
