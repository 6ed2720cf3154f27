//! Keys of providers that callers bring: used first, never replaced by the platform's, sealed, followed by every broker.

mod calling;
mod following;
mod managing;
mod sealing;

use std::sync::Arc;

use weir_database::Database;
use weir_proto::broker::v1 as proto;
use weir_rpc::{Bearer, Failure};
use weir_simulator::{Options, Simulator};
use weir_types::{OrganizationId, Scope, UserId, names};

use crate::scene::Scene;

/// Base64 of 32 bytes, for master keys that brokers share.
pub(crate) const MASTER_1: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
pub(crate) const MASTER_2: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

/// The platform's key, of which none of these tests may see more than it says.
pub(crate) const PLATFORM: &str = "sk-platform-0000";

pub(crate) fn settings(masters: &str, wrap_with: i32) -> String {
    format!("own_keys.look = \"20ms\"\nown_keys.wrap_with = {wrap_with}\n{masters}")
}

pub(crate) fn first_master() -> String {
    settings(&format!("own_keys.master_keys.1 = \"{MASTER_1}\"\n"), 1)
}

pub(crate) async fn simulator() -> Arc<Simulator> {
    Arc::new(Simulator::start(Options::default()).await.unwrap())
}

/// A broker over a database, that knows who has brought which key.
pub(crate) async fn broker(simulator: &Arc<Simulator>, database: Database, settings: &str) -> Scene {
    let scene = Scene::with_own_keys(simulator, database, PLATFORM, settings).await;
    scene
        .eventually("the keys are read", async |scene| {
            scene.list(&scene.bearer, 0).await.is_ok() && scene.knows_keys().await
        })
        .await;
    scene
}

/// A secret that is told from others by its last four.
pub(crate) fn secret(last_four: &str) -> String {
    format!("sk-plugh-0123456789-{last_four}")
}

impl Scene {
    /// A member who has signed in.
    pub(crate) fn member(&self, user: UserId) -> Bearer {
        self.principal(self.organization, Some(user), None, &[Scope::AiInvoke, Scope::ModelsRead])
    }

    /// An administrator who has signed in.
    pub(crate) fn admin(&self, user: UserId) -> Bearer {
        self.principal(self.organization, Some(user), None, &[Scope::AiInvoke, Scope::ModelsRead, Scope::KeysManage])
    }

    /// Stores a key of the provider `sim`, for a user or (none) the organisation.
    pub(crate) async fn store(
        &self,
        bearer: &Bearer,
        user: Option<UserId>,
        secret: &str,
        limits: proto::ProviderKeyLimits,
    ) -> Result<proto::ProviderKey, Failure> {
        self.store_in(self.organization, bearer, user, secret, limits).await
    }

    pub(crate) async fn store_in(
        &self,
        organization: OrganizationId,
        bearer: &Bearer,
        user: Option<UserId>,
        secret: &str,
        limits: proto::ProviderKeyLimits,
    ) -> Result<proto::ProviderKey, Failure> {
        self.store_for("sim", organization, bearer, user, secret, limits).await
    }

    pub(crate) async fn store_for(
        &self,
        provider: &str,
        organization: OrganizationId,
        bearer: &Bearer,
        user: Option<UserId>,
        secret: &str,
        limits: proto::ProviderKeyLimits,
    ) -> Result<proto::ProviderKey, Failure> {
        let key = proto::ProviderKey {
            user: user.map(|user| names::user(&organization, &user)).unwrap_or_default(),
            provider: provider.into(),
            label: "mine".into(),
            limits: Some(limits),
            ..Default::default()
        };
        let request = proto::CreateProviderKeyRequest {
            parent: names::organization(&organization),
            provider_key: Some(key),
            secret: secret.to_owned(),
        };
        opened(self.keys.clone().create_provider_key(bearer.request(request)).await)
    }

    pub(crate) async fn rotate(
        &self,
        bearer: &Bearer,
        name: &str,
        secret: &str,
    ) -> Result<proto::ProviderKey, Failure> {
        let request = proto::RotateProviderKeyRequest { name: name.to_owned(), secret: secret.to_owned() };
        opened(self.keys.clone().rotate_provider_key(bearer.request(request)).await)
    }

    pub(crate) async fn delete(&self, bearer: &Bearer, name: &str) -> Result<(), Failure> {
        let request = proto::DeleteProviderKeyRequest { name: name.to_owned() };
        opened(self.keys.clone().delete_provider_key(bearer.request(request)).await).map(drop)
    }

    pub(crate) async fn list(
        &self,
        bearer: &Bearer,
        page_size: i32,
    ) -> Result<proto::ListProviderKeysResponse, Failure> {
        let parent = names::organization(&self.organization);
        let request = proto::ListProviderKeysRequest { parent, page_size, page_token: String::new() };
        opened(self.keys.clone().list_provider_keys(bearer.request(request)).await)
    }

    /// Whether calls are taken: they are not before it is known who has brought which key.
    async fn knows_keys(&self) -> bool {
        let mut body = crate::scene::chat(1, "");
        body["model"] = "nobody-has-it".into();
        self.invoke(&body).await.unwrap_err().reason() == weir_proto::common::v1::ErrorReason::ModelNotFound
    }
}

fn opened<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Result<T, Failure> {
    answer.map(tonic::Response::into_inner).map_err(Failure::from)
}

/// What the provider was called with: the endings of keys, in order.
pub(crate) fn served(simulator: &Simulator) -> Vec<String> {
    let ending = |key: String| key[key.len().saturating_sub(4)..].to_owned();
    simulator.served().into_iter().map(|served| ending(served.api_key)).collect()
}
