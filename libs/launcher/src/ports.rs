use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Result;
use crate::error::Attempt as _;

/// Below what systems hand out by themselves, above what well-known servers listen on.
const OURS: Range<u16> = 10_000..32_000;
/// Ports that processes with neighbouring ids do not share, so that those that start together rarely meet.
const EACH: u32 = 61;

/// A loopback port that was free a moment ago, for a server that has to be told its port.
///
/// The system gives away at once what it named when asked for port 0, to whoever connects or listens next. So this one is of a
/// range that the system leaves alone, where it also stays free while its server is dead and about to be started again.
///
/// # Errors
/// No port of this machine is free.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let ours = ours(&std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default());
    let count = u32::from(ours.end.saturating_sub(ours.start));
    for _ in 0..count.min(1_000) {
        let place = std::process::id().wrapping_mul(EACH).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let port = ours.start + u16::try_from(place).unwrap_or_default();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .attempt(|| "looking for a free port".to_owned())
}

/// The part of our range below the system's, which is written as its first and last port.
fn ours(systems: &str) -> Range<u16> {
    let first = systems.split_whitespace().next().and_then(|first| first.parse().ok());
    OURS.start..first.unwrap_or(OURS.end).clamp(OURS.start, OURS.end)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_call_names_another_port_although_nobody_listens_yet() {
        let ports: HashSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }

    #[test]
    fn a_system_that_hands_out_everything_leaves_nothing_of_ours() {
        assert_eq!(ours("32768\t60999\n"), 10_000..32_000);
        assert_eq!(ours("15000 65535"), 10_000..15_000);
        assert_eq!(ours("1024 65535"), 10_000..10_000);
        assert_eq!(ours(""), OURS);
    }
}
