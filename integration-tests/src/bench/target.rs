//! What is measured: an address, and the processes whose CPU time counts.

use std::net::SocketAddr;

use http::{HeaderName, HeaderValue};

use crate::process::cpu_seconds;

/// A server under measurement.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// For the table.
    pub(super) name: String,
    /// Where requests go.
    pub(super) address: SocketAddr,
    /// Its `authorization` header.
    pub(super) authorization: HeaderValue,
    /// Further headers of its requests.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Its own processes; none for the provider, whose time is nobody's overhead.
    pub(super) own: Vec<u32>,
    /// The roots of its stores' processes.
    pub(super) stores: Vec<u32>,
}

/// CPU seconds so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    /// Of the target's own processes.
    pub(super) own: f64,
    /// Of its own and its stores'.
    pub(super) all: f64,
}

impl Target {
    /// What it has used so far.
    #[must_use]
    pub(super) fn cpu(&self) -> Cpu {
        let own: f64 = self.own.iter().map(|&pid| cpu_seconds(pid)).sum();
        Cpu { own, all: own + self.stores.iter().map(|&pid| cpu_seconds(pid)).sum::<f64>() }
    }
}

impl Cpu {
    /// Since then, per 1,000 requests.
    #[must_use]
    pub(super) fn per_thousand(self, before: Self, requests: usize) -> Self {
        let scale = 1_000.0 / requests.max(1) as f64;
        Self { own: (self.own - before.own) * scale, all: (self.all - before.all) * scale }
    }
}
