//! The configuration: a YAML file in, validated settings out.

mod address;
mod duration;
mod hooks;
mod reader;
mod settings;

pub use hooks::HookConfig;
pub use settings::{
    Config, HttpConfig, MemoryConfig, Secret, Steering, StorageConfig, StorageName, UdpConfig,
};
