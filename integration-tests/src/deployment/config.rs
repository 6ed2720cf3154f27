//! Where everything listens, and the configuration file that says so.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::{Mode, SERVICES, ports};

/// The simulated provider stands in for this one, at its prices.
pub(super) const PRICE_LIST: &str = "openai";

/// Addresses.
pub(super) struct Layout {
    /// Of the services' gRPC.
    pub(super) services: BTreeMap<&'static str, SocketAddr>,
    /// Of the public API.
    pub(super) facade: SocketAddr,
    /// The processes, with their admin addresses.
    pub(super) processes: Vec<(String, SocketAddr)>,
}

impl Layout {
    pub(super) fn choose(mode: Mode) -> anyhow::Result<Self> {
        let [facade, auth, quota, broker, usage, billing, admin @ ..] = ports::<12>()?;
        let services = SERVICES.into_iter().zip([auth, quota, broker, usage, billing]).collect();
        let processes = match mode {
            Mode::One => vec![("all".to_owned(), admin[0])],
            Mode::Separate => SERVICES.into_iter().chain(["facade"]).map(str::to_owned).zip(admin).collect(),
        };
        Ok(Self { services, facade, processes })
    }
}

/// What the configuration file says.
pub(super) struct Settings<'a> {
    pub(super) layout: &'a Layout,
    pub(super) postgres: &'a str,
    pub(super) redis: &'a str,
    pub(super) provider: SocketAddr,
    pub(super) master: &'a Path,
    pub(super) more: &'a str,
}

impl Settings<'_> {
    pub(super) fn toml(&self) -> String {
        let mut out = format!("[master_key]\nfile = \"{}\"\n", self.master.display());
        let _ = writeln!(out, "[database]\nurl = \"{}\"", self.postgres);
        let _ = writeln!(out, "[redis]\nurl = \"{}\"", self.redis);
        let _ = writeln!(out, "[host.listen]\nfacade = \"{}\"", self.layout.facade);
        for (name, address) in &self.layout.services {
            let _ = writeln!(out, "{} = \"{address}\"", name.replace('-', "_"));
        }
        let _ = writeln!(out, "[discovery.services]");
        for (name, address) in &self.layout.services {
            let _ = writeln!(out, "{} = [\"{address}\"]", name.replace('-', "_"));
        }
        let _ = writeln!(out, "[broker.providers.simulated]\nbase_url = \"http://{}/v1\"", self.provider);
        let _ = writeln!(out, "price_list = \"{PRICE_LIST}\"");
        let _ = writeln!(out, "keys = {{ first = \"sk-simulated-1\", second = \"sk-simulated-2\" }}");
        let _ = writeln!(out, "[broker.providers.simulated-anthropic]\nbase_url = \"http://{}/v1\"", self.provider);
        let _ = writeln!(out, "dialect = \"anthropic\"\nprice_list = \"anthropic\"");
        let _ = writeln!(out, "keys = {{ first = \"sk-ant-simulated-1\" }}");
        out + self.more
    }
}
