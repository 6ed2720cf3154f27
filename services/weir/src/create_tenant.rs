use serde::Serialize;
use weir_proto::auth::v1::auth_service_client::AuthServiceClient;
use weir_proto::auth::v1::{CreateApiKeyRequest, CreateOrganizationRequest, CreateUserRequest, Role};
use weir_proto::billing::v1::SetSubscriptionRequest;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_rpc::Channel;
use weir_types::Scope;

use crate::cli::CreateTenantArguments;
use crate::config::WeirConfig;
use crate::console;
use crate::failure::Failure;
use crate::operator::Operator;
use crate::serve;

/// What a new tenant needs to begin with.
pub(crate) struct Tenant {
    pub(crate) display_name: String,
    pub(crate) email: Option<String>,
    pub(crate) plan: Option<String>,
    pub(crate) scopes: Vec<Scope>,
}

/// What was made.
#[derive(Debug, Serialize)]
pub(crate) struct Created {
    pub(crate) organization: String,
    pub(crate) user: String,
    pub(crate) api_key: String,
    /// The secret of the key: here and nowhere else.
    pub(crate) secret: String,
}

/// `weir create-tenant`
pub(crate) fn run(config: WeirConfig, arguments: CreateTenantArguments) -> Result<(), Failure> {
    serve::runtime(1)?.block_on(async {
        let operator = Operator::new(&config)?;
        let tenant = Tenant {
            display_name: arguments.name,
            email: arguments.email,
            plan: arguments.plan,
            scopes: if arguments.scopes.is_empty() { Scope::ALL.to_vec() } else { arguments.scopes },
        };
        let created = create(&tenant, operator.channel("auth"), operator.channel("billing")).await?;
        if arguments.json {
            console::print_json(&created);
        } else {
            console::print(format_args!("organization  {}", created.organization));
            if !created.user.is_empty() {
                console::print(format_args!("user          {}", created.user));
            }
            console::print(format_args!("api key       {}", created.api_key));
            console::print(format_args!("secret        {}   (shown only now)", created.secret));
        }
        Ok(())
    })
}

/// Creates the organisation, puts it on its plan, and creates its user and key.
pub(crate) async fn create(tenant: &Tenant, auth: Channel, billing: Channel) -> Result<Created, Failure> {
    let mut auth = AuthServiceClient::new(auth);
    let request =
        CreateOrganizationRequest { display_name: tenant.display_name.clone(), organization_id: String::new() };
    let organization = auth
        .create_organization(request)
        .await
        .map_err(|status| Failure::refused("creating the organisation", &status))?;
    let organization = organization.into_inner().name;
    if let Some(plan) = &tenant.plan {
        let plan = if plan.starts_with("plans/") { plan.clone() } else { format!("plans/{plan}") };
        let request = SetSubscriptionRequest { organization: organization.clone(), plan, overrides: Vec::new() };
        let subscribed = BillingServiceClient::new(billing).set_subscription(request).await;
        subscribed.map_err(|status| Failure::refused("choosing the plan", &status))?;
    }
    let user = match &tenant.email {
        Some(email) => {
            let request = CreateUserRequest {
                parent: organization.clone(),
                email: email.clone(),
                display_name: email.clone(),
                role: Role::Admin.into(),
                password: String::new(),
            };
            let user =
                auth.create_user(request).await.map_err(|status| Failure::refused("creating the user", &status))?;
            user.into_inner().name
        }
        None => String::new(),
    };
    let request = CreateApiKeyRequest {
        parent: organization.clone(),
        display_name: "first key".to_owned(),
        user: user.clone(),
        scopes: tenant.scopes.iter().map(ToString::to_string).collect(),
        expire_time: None,
    };
    let key = auth.create_api_key(request).await.map_err(|status| Failure::refused("creating the API key", &status))?;
    let key = key.into_inner();
    let api_key = key.api_key.map(|key| key.name).unwrap_or_default();
    Ok(Created { organization, user, api_key, secret: key.secret })
}
