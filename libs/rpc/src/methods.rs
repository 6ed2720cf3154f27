//! Every method of every service, from the descriptors.

use std::sync::LazyLock;

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// One RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// The service's full name, `weir.quota.v1.QuotaService`.
    pub service: &'static str,
    /// The path that it is called by, `/weir.quota.v1.QuotaService/Reserve`.
    pub path: &'static str,
    /// Whether it answers with a stream.
    pub streams: bool,
}

static METHODS: LazyLock<Vec<Method>> = LazyLock::new(|| {
    // Leaked once per process: the descriptors are constant, and so are the texts made of them.
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let set = FileDescriptorSet::decode(weir_proto::DESCRIPTORS).unwrap_or_default();
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let name = leak(format!("{}.{}", file.package(), service.name()));
            if !name.starts_with("weir.") {
                continue;
            }
            methods.extend(service.method.iter().map(|method| Method {
                service: name,
                path: leak(format!("/{name}/{}", method.name())),
                streams: method.server_streaming(),
            }));
        }
    }
    methods
});

/// Every RPC of the deployment.
#[must_use]
pub fn all_methods() -> &'static [Method] {
    &METHODS
}

/// The RPCs of one service, by its full name (`weir.quota.v1.QuotaService`).
pub fn methods(service: &str) -> impl Iterator<Item = &'static Method> {
    METHODS.iter().filter(move |method| method.service == service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_of_the_descriptors_is_there_with_its_methods() {
        let services: std::collections::BTreeSet<_> = all_methods().iter().map(|method| method.service).collect();
        assert!(services.len() >= 5, "{services:?}");
        let watch =
            methods("weir.auth.v1.AuthService").find(|m| m.path == "/weir.auth.v1.AuthService/WatchRevocations");
        assert!(watch.is_some_and(|method| method.streams));
    }
}
