//! The tenant to try the API with, made once.

use weir_host::Host;
use weir_proto::auth::v1::ExchangeApiKeyRequest;
use weir_proto::auth::v1::auth_service_client::AuthServiceClient;
use weir_types::Scope;

use crate::create_tenant::{self, Tenant};
use crate::dev::home::Home;
use crate::failure::Failure;
use crate::operator;

/// Makes the tenant unless the key of an earlier run still works, and writes where and how to call the API.
pub(crate) async fn ensure(home: &Home, url: &str, host: &mut Host) -> Result<(), Failure> {
    let known = std::fs::read_to_string(home.environment()).ok().and_then(|text| key_in(&text));
    let key = match known {
        Some(key) if works(&key, host).await? => key,
        _ => create(host).await?,
    };
    home.write(&home.environment(), &format!("WEIR_URL={url}\nWEIR_API_KEY={key}\n"))
}

fn key_in(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("WEIR_API_KEY=")).map(|key| key.trim().to_owned())
}

/// A key stops working when the data was thrown away, or when its owner has revoked it.
async fn works(key: &str, host: &mut Host) -> Result<bool, Failure> {
    // Only the facade may ask.
    let mut auth = AuthServiceClient::new(host.context(weir_facade::NAME).channels.to("auth"));
    match auth.exchange_api_key(ExchangeApiKeyRequest { secret: key.to_owned() }).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == tonic::Code::Unauthenticated => Ok(false),
        Err(status) => Err(Failure::refused("checking the demo key", &status)),
    }
}

async fn create(host: &mut Host) -> Result<String, Failure> {
    let tenant = Tenant {
        display_name: "Demo".to_owned(),
        // E-mail addresses are unique in a product: one that a revoked key's tenant has not taken.
        email: Some(format!("demo-{}@weir.invalid", uuid::Uuid::now_v7().simple())),
        plan: Some("pro".to_owned()),
        scopes: Scope::ALL.to_vec(),
    };
    let channels = host.context(operator::NAME).channels;
    Ok(create_tenant::create(&tenant, channels.to("auth"), channels.to("billing")).await?.secret)
}

#[cfg(test)]
mod tests {
    use super::key_in;

    #[test]
    fn the_key_of_an_earlier_run_is_found() {
        assert_eq!(key_in("WEIR_URL=http://x\nWEIR_API_KEY=weir_abc\n").as_deref(), Some("weir_abc"));
        assert_eq!(key_in("WEIR_URL=http://x\n"), None);
    }
}
