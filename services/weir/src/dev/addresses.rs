//! Where `weir dev` listens: where the configuration says, or beside it when somebody else is there already.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};

use weir_host::{Host, StartError};

/// Settings that move every listener whose port is taken to a free one.
pub(crate) fn free(host: &weir_host::Config) -> String {
    let mut listeners = String::new();
    for (service, address) in &host.listen {
        if let Some(address) = moved(address) {
            // Writing to a string cannot fail.
            let _ = writeln!(listeners, "{service} = \"{address}\"");
        }
    }
    let admin = moved(&host.admin_listen).map(|address| format!("admin_listen = \"{address}\"\n")).unwrap_or_default();
    format!("[host]\n{admin}[host.listen]\n{listeners}")
}

/// Port 0 of the same interface when the port is taken.
fn moved(address: &str) -> Option<SocketAddr> {
    let address: SocketAddr = address.parse().ok()?;
    match TcpListener::bind(address) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Some(SocketAddr::new(address.ip(), 0)),
        _ => None,
    }
}

/// Whether a port was taken between looking and binding.
pub(crate) fn is_taken(error: &StartError) -> bool {
    matches!(error, StartError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse)
}

/// The public API's URL as a client on this machine writes it.
pub(crate) fn public(host: &Host) -> String {
    host.address(weir_facade::NAME).map(url).unwrap_or_default()
}

fn url(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("http://127.0.0.1:{}", address.port())
    } else {
        format!("http://{address}")
    }
}

#[cfg(test)]
mod tests {
    use super::{moved, url};

    #[test]
    fn a_taken_port_is_left_to_who_has_it() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        assert_eq!(moved(&address.to_string()).map(|moved| (moved.ip(), moved.port())), Some((address.ip(), 0)));
        drop(taken);
        assert_eq!(moved(&address.to_string()), None);
        assert_eq!(moved(""), None);
    }

    #[test]
    fn every_interface_is_reached_by_the_loopback_one() {
        assert_eq!(url("0.0.0.0:8080".parse().expect("an address")), "http://127.0.0.1:8080");
        assert_eq!(url("[::1]:8080".parse().expect("an address")), "http://[::1]:8080");
    }
}
