//! Clients of all services.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Deserialize;
use weir_config::{Loader, MasterKey, Problem, Validate};
use weir_discovery::{Directory, Endpoint, Static};
use weir_proto::auth::v1::auth_service_client::AuthServiceClient;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::broker::v1::broker_service_client::BrokerServiceClient;
use weir_proto::quota::v1::quota_service_client::QuotaServiceClient;
use weir_proto::usage::v1::usage_service_client::UsageServiceClient;
use weir_rpc::{Channel, ServiceIdentity};

/// Who the harness usually is to the services.
pub const OPERATOR: &str = "operator";

/// A channel to each service.
#[derive(Clone)]
pub struct Siblings {
    channels: HashMap<&'static str, Channel>,
}

#[derive(Deserialize)]
struct Config {
    rpc: weir_rpc::Config,
}

impl Validate for Config {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        self.rpc.validate(&format!("{at}rpc"), problems);
    }
}

impl Siblings {
    /// To the services at these addresses, in the deployment of this key, as the service of this name.
    ///
    /// # Errors
    /// The built-in configuration of calls cannot be read.
    pub fn new(addresses: &HashMap<&'static str, SocketAddr>, master: &MasterKey, name: &str) -> anyhow::Result<Self> {
        let config: Config = Loader::new().section(weir_rpc::DEFAULTS).load()?;
        let directory = addresses
            .iter()
            .fold(Static::default(), |directory, (name, address)| directory.with(name, [Endpoint::from(*address)]));
        let directory: Arc<dyn Directory> = Arc::new(directory);
        let identity = ServiceIdentity::new(name, master);
        let channel = |peer| Channel::remote(&directory, peer, identity.clone(), &config.rpc);
        Ok(Self { channels: addresses.keys().map(|&peer| (peer, channel(peer))).collect() })
    }

    fn to(&self, name: &'static str) -> Channel {
        self.channels[name].clone()
    }

    /// The services whose books are audited.
    #[must_use]
    pub fn audited(&self) -> weir_audit::Services {
        let [quota, usage, billing, broker] = ["quota", "usage", "billing", "ai-broker"].map(|name| self.to(name));
        let brokers = vec![weir_audit::Instance { name: "ai-broker".to_owned(), channel: broker }];
        weir_audit::Services { quota, usage, billing, brokers }
    }

    /// A client of auth.
    #[must_use]
    pub fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.to("auth"))
    }

    /// A client of quota.
    #[must_use]
    pub fn quota(&self) -> QuotaServiceClient<Channel> {
        QuotaServiceClient::new(self.to("quota")).max_decoding_message_size(32 << 20)
    }

    /// A client of the broker.
    #[must_use]
    pub fn broker(&self) -> BrokerServiceClient<Channel> {
        BrokerServiceClient::new(self.to("ai-broker"))
    }

    /// A client of usage.
    #[must_use]
    pub fn usage(&self) -> UsageServiceClient<Channel> {
        UsageServiceClient::new(self.to("usage")).max_decoding_message_size(32 << 20)
    }

    /// A client of billing.
    #[must_use]
    pub fn billing(&self) -> BillingServiceClient<Channel> {
        BillingServiceClient::new(self.to("billing")).max_decoding_message_size(32 << 20)
    }
}
