//! Tenants for a run: an organisation on a plan, a user, and an API key each.

use anyhow::Context;
use http::HeaderValue;
use uuid::Uuid;
use weir_proto::auth::v1::{CreateApiKeyRequest, CreateOrganizationRequest, CreateUserRequest, Role};
use weir_proto::billing::v1::{Limit, SetSubscriptionRequest};

use crate::siblings::Siblings;

/// The plan whose limits are out of reach, and counted all the same.
pub const UNLIMITED: &str = "plans/unlimited";

/// A tenant.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// `organizations/{organization}`.
    pub organization: String,
    /// `organizations/{organization}/users/{user}`.
    pub user: String,
    /// `organizations/{organization}/apiKeys/{api_key}`.
    pub api_key: String,
    /// The key's secret.
    pub secret: String,
}

impl Tenant {
    /// Makes a tenant on this plan, with limits of its own.
    ///
    /// # Errors
    /// Auth or billing refuses.
    pub async fn create(siblings: &Siblings, name: &str, plan: &str, overrides: Vec<Limit>) -> anyhow::Result<Self> {
        let request = CreateOrganizationRequest { display_name: name.to_owned(), organization_id: String::new() };
        let organization = siblings.auth().create_organization(request).await.context("creating an organisation")?;
        let organization = organization.into_inner().name;
        let user = CreateUserRequest {
            parent: organization.clone(),
            email: format!("{}@example.com", Uuid::now_v7().simple()),
            display_name: format!("A user of {name}"),
            role: Role::Admin.into(),
            password: String::new(),
        };
        let user = siblings.auth().create_user(user).await.context("creating a user")?.into_inner().name;
        let scopes = ["ai.invoke", "models.read", "usage.read", "billing.read", "quota.read", "keys.manage"];
        let key = CreateApiKeyRequest {
            parent: organization.clone(),
            display_name: "load".to_owned(),
            user: user.clone(),
            scopes: scopes.map(str::to_owned).to_vec(),
            expire_time: None,
        };
        let key = siblings.auth().create_api_key(key).await.context("creating an API key")?.into_inner();
        let api_key = key.api_key.map(|key| key.name).unwrap_or_default();
        let tenant = Self { organization, user, api_key, secret: key.secret };
        tenant.subscribe(siblings, plan, overrides).await?;
        Ok(tenant)
    }

    /// Puts the tenant on a plan, with limits of its own.
    ///
    /// # Errors
    /// Billing refuses.
    pub async fn subscribe(&self, siblings: &Siblings, plan: &str, overrides: Vec<Limit>) -> anyhow::Result<()> {
        let request =
            SetSubscriptionRequest { organization: self.organization.clone(), plan: plan.to_owned(), overrides };
        siblings.billing().set_subscription(request).await.context("setting the plan")?;
        Ok(())
    }

    /// The `authorization` header of its requests.
    ///
    /// # Errors
    /// The secret is no header value.
    pub fn authorization(&self) -> anyhow::Result<HeaderValue> {
        Ok(HeaderValue::from_str(&format!("Bearer {}", self.secret))?)
    }
}
