//! Metrics of the process, named as Prometheus's own libraries name them.

use super::Report;
use super::writer::Writer;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use std::fmt::Error;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Process(pub Arc<Report>);

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(process) = &self.0.process else {
            return Ok(());
        };
        let mut out = Writer(encoder);
        let help = "Processor time used, user and system.";
        out.seconds("cpu", help, process.cpu_seconds)?;
        let bytes = Some(&Unit::Bytes);
        let help = "Memory in RAM now.";
        out.gauge("resident_memory", help, bytes, process.resident_bytes)?;
        let help = "Address space taken now.";
        out.gauge("virtual_memory", help, bytes, process.virtual_bytes)?;
        out.gauge("open_fds", "Descriptors open now.", None, process.open_fds)?;
        let most = process.max_fds.unwrap_or(u64::MAX);
        out.gauge("max_fds", "Descriptors that may be open.", None, most)?;
        out.gauge("threads", "Threads that run now.", None, process.threads)?;
        let help = "When the process started, since 1970.";
        let start = process.start_unix_seconds;
        out.gauge_of("start_time", help, Some(&Unit::Seconds), start)
    }
}
