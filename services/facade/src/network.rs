//! The address of a client: of the connection, or what a trusted proxy says.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap};
use serde::{Deserialize, Deserializer};

/// An address, or a network such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Text that is no network.
#[derive(Debug)]
pub(crate) struct NotANetwork;

impl Network {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(u32::from(a) ^ u32::from(b)) << 96,
            (IpAddr::V6(a), IpAddr::V6(b)) => u128::from(a) ^ u128::from(b),
            _ => return false,
        };
        differ.leading_zeros() >= u32::from(self.prefix)
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_| NotANetwork)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        if prefix > bits { Err(NotANetwork) } else { Ok(Self { address, prefix }) }
    }
}

impl fmt::Display for NotANetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an address or a network, such as 10.0.0.7 or 10.0.0.0/8")
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The client's address. `x-forwarded-for` is read from its end, where the proxies next to us wrote, and only as far as
/// they are trusted: what stands before is the client's own claim.
pub(crate) fn client(extensions: &Extensions, headers: &HeaderMap, trusted: &[Network]) -> Option<IpAddr> {
    let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    // An IPv4 client of a socket that listens at `[::]`.
    let mut client = peer.ip().to_canonical();
    if trusted.is_empty() {
        return Some(client);
    }
    let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    for hop in lines.flat_map(|line| line.to_str().unwrap_or("").rsplit(',')) {
        if !is_trusted(client) {
            break;
        }
        let Some(address) = address(hop.trim()) else { break };
        client = address;
    }
    Some(client)
}

/// An address, with or without a port.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']').parse();
    let address = bare.or_else(|_| hop.parse().map(|with_port: SocketAddr| with_port.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(peer: &str, forwarded: &[&'static str], trusted: &[&str]) -> String {
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().expect("an address"), 1)));
        let lines =
            forwarded.iter().map(|line| ("x-forwarded-for".parse().expect("a name"), line.parse().expect("a value")));
        let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().expect("a network")).collect();
        client(&extensions, &lines.collect(), &trusted).expect("a peer").to_string()
    }

    #[test]
    fn who_is_not_trusted_is_the_client_whatever_they_claim() {
        assert_eq!(client_of("203.0.113.9", &["10.1.1.1"], &[]), "203.0.113.9");
        assert_eq!(client_of("203.0.113.9", &["10.1.1.1"], &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(client_of("::ffff:203.0.113.9", &[], &[]), "203.0.113.9");
    }

    #[test]
    fn the_last_address_that_no_trusted_proxy_has_is_the_client() {
        let trusted = ["10.0.0.0/8", "2001:db8::1"];
        assert_eq!(client_of("10.0.0.1", &["1.1.1.1, 203.0.113.9"], &trusted), "203.0.113.9");
        assert_eq!(client_of("10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.2.0.1"], &trusted), "203.0.113.9");
        assert_eq!(client_of("10.0.0.1", &["1.1.1.1", "203.0.113.9:4711"], &trusted), "203.0.113.9");
        assert_eq!(client_of("2001:db8::1", &["[2001:db8::9]:80"], &trusted), "2001:db8::9");
        assert_eq!(client_of("10.0.0.1", &[], &trusted), "10.0.0.1");
        assert_eq!(client_of("10.0.0.1", &["203.0.113.9, unknown"], &trusted), "10.0.0.1");
    }

    #[test]
    fn a_network_contains_what_begins_as_it_does() {
        let network: Network = "192.168.4.0/22".parse().expect("a network");
        assert!(network.contains("192.168.7.255".parse().expect("an address")));
        assert!(!network.contains("192.168.8.0".parse().expect("an address")));
        let all: Network = "0.0.0.0/0".parse().expect("a network");
        assert!(
            all.contains("8.8.8.8".parse().expect("an address")) && !all.contains("::1".parse().expect("an address"))
        );
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "example.com", "10.0.0.0/-1", "::/129"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
