//! One running instance of a service: where it is, and its announcement.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use futures::future::BoxFuture;

/// Where an instance listens: `host:port`, the host a name or an address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint(Arc<str>);

/// Text that is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected host:port, such as 127.0.0.1:9102, quota.internal:9102 or [::1]:9102")]
pub struct InvalidEndpoint;

impl Endpoint {
    /// `host:port`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.0.rsplit_once(':').map_or(&*self.0, |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0)
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    /// Accepts `http://` before it and `/` behind, which people write.
    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let text = text.strip_prefix("http://").unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        let (host, port) = text.rsplit_once(':').ok_or(InvalidEndpoint)?;
        let port: u16 = port.parse().map_err(|_| InvalidEndpoint)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let allowed = |c: char| {
            c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || (bracketed && matches!(c, ':' | '[' | ']'))
        };
        if host.is_empty() || port == 0 || !host.chars().all(allowed) {
            return Err(InvalidEndpoint);
        }
        Ok(Self(text.into()))
    }
}

impl From<std::net::SocketAddr> for Endpoint {
    fn from(address: std::net::SocketAddr) -> Self {
        Self(address.to_string().into())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One running instance of a service.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The service's name.
    pub service: String,
    /// This instance among those of the service; unique.
    pub id: String,
    /// Where it listens.
    pub endpoint: Endpoint,
}

/// An instance's announcement, for as long as this is kept.
#[must_use = "an instance is announced for as long as its registration is kept"]
pub struct Registration(Option<BoxFuture<'static, ()>>);

impl Registration {
    /// Nothing was announced, so nothing has to be taken back.
    pub fn none() -> Self {
        Self(None)
    }

    /// A registration that is taken back by `end`.
    pub fn new(end: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Some(Box::pin(end)))
    }

    /// Takes the announcement back: nobody new will find this instance.
    pub async fn end(mut self) {
        if let Some(end) = self.0.take() {
            end.await;
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("announced", &self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_read_with_and_without_what_people_write_around_it() {
        for (text, host, port) in [
            ("127.0.0.1:9102", "127.0.0.1", 9102),
            ("http://quota:9102", "quota", 9102),
            ("http://quota.weir.svc:9102/", "quota.weir.svc", 9102),
            ("[::1]:9102", "::1", 9102),
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!((endpoint.host(), endpoint.port()), (host, port));
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in ["", "quota", ":9102", "quota:", "quota:0", "quota:99999", "https://quota:1", "a b:1", "::1:80"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
