//! What an operator changes in a running deployment.

use std::fmt;

use serde::Serialize;
use weir_proto::auth::v1::RevokeApiKeyRequest;
use weir_proto::auth::v1::auth_service_client::AuthServiceClient;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::billing::v1::{GetSubscriptionRequest, SetSubscriptionRequest};

use crate::cli::{JsonArguments, RevokeKeyArguments, SetPlanArguments};
use crate::config::WeirConfig;
use crate::console;
use crate::failure::Failure;
use crate::operator::{Operator, named};
use crate::serve;

#[derive(Serialize)]
struct Subscribed {
    organization: String,
    plan: String,
    /// Limits of its own, which stay.
    own_limits: Vec<String>,
}

#[derive(Serialize)]
struct Revoked {
    api_key: String,
    display_name: String,
}

#[derive(Serialize)]
struct SigningKeys {
    keys: Vec<SigningKey>,
}

#[derive(Serialize)]
struct SigningKey {
    key_id: String,
    current: bool,
}

/// `weir set-plan`
pub(crate) fn set_plan(config: WeirConfig, arguments: SetPlanArguments) -> Result<(), Failure> {
    let organization = named("organizations/", arguments.organization);
    let plan = named("plans/", arguments.plan);
    serve::runtime(1)?.block_on(async {
        let mut billing = BillingServiceClient::new(Operator::new(&config)?.channel("billing"));
        let request = GetSubscriptionRequest { name: format!("{organization}/subscription") };
        let known = billing.get_subscription(request).await;
        let known = known.map_err(|status| Failure::refused("reading the present plan", &status))?.into_inner();
        // What was agreed with this organisation outlives its plan.
        let request = SetSubscriptionRequest { organization: organization.clone(), plan, overrides: known.overrides };
        let subscribed = billing.set_subscription(request).await;
        let subscribed = subscribed.map_err(|status| Failure::refused("choosing the plan", &status))?.into_inner();
        let own_limits = subscribed.overrides.into_iter().map(|limit| limit.name).collect();
        say(&Subscribed { organization, plan: subscribed.plan, own_limits }, arguments.json);
        Ok(())
    })
}

/// `weir revoke-key`
pub(crate) fn revoke_key(config: WeirConfig, arguments: RevokeKeyArguments) -> Result<(), Failure> {
    serve::runtime(1)?.block_on(async {
        let mut auth = AuthServiceClient::new(Operator::new(&config)?.channel("auth"));
        let revoked = auth.revoke_api_key(RevokeApiKeyRequest { name: arguments.api_key }).await;
        let key = revoked.map_err(|status| Failure::refused("revoking the API key", &status))?.into_inner();
        say(&Revoked { api_key: key.name, display_name: key.display_name }, arguments.json);
        Ok(())
    })
}

/// `weir rotate-signing-key`
pub(crate) fn rotate_signing_key(config: WeirConfig, arguments: &JsonArguments) -> Result<(), Failure> {
    serve::runtime(1)?.block_on(async {
        let mut auth = AuthServiceClient::new(Operator::new(&config)?.channel("auth"));
        let rotated = auth.rotate_signing_key(()).await;
        let rotated = rotated.map_err(|status| Failure::refused("rotating the signing key", &status))?.into_inner();
        let keys = rotated.keys.into_iter().map(|key| SigningKey { key_id: key.key_id, current: key.current });
        say(&SigningKeys { keys: keys.collect() }, arguments.json);
        Ok(())
    })
}

fn say(outcome: &(impl Serialize + fmt::Display), json: bool) {
    if json {
        console::print_json(outcome);
    } else {
        console::print(outcome);
    }
}

impl fmt::Display for Subscribed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is on {}", self.organization, self.plan)?;
        if self.own_limits.is_empty() {
            Ok(())
        } else {
            write!(f, "; its own limits stay: {}", self.own_limits.join(", "))
        }
    }
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) is revoked", self.api_key, self.display_name)
    }
}

impl fmt::Display for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, SigningKey { key_id, current }) in self.keys.iter().enumerate() {
            let end = if place == 0 { "" } else { "\n" };
            let what = if *current { "signs now" } else { "verifies" };
            write!(f, "{end}{key_id}  {what}")?;
        }
        Ok(())
    }
}
