//! Callers' own keys over gRPC: who may do what with which, and messages to use cases and back.

use std::sync::Arc;

use prost_types::Timestamp;
use tonic::{Request, Response, Status};
use weir_proto::broker::v1::provider_key_service_server::ProviderKeyService;
use weir_proto::broker::v1::{
    CreateProviderKeyRequest, DeleteProviderKeyRequest, DeleteProviderKeyResponse, GetProviderKeyRequest,
    ListProviderKeysRequest, ListProviderKeysResponse, ProviderKey, ProviderKeyLimits, RotateProviderKeyRequest,
    UpdateProviderKeyRequest,
};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Error, Principal};
use weir_types::{MAX_AMOUNT, NanoUsd, OrganizationId, PageToken, ProviderKeyId, Scope, UserId, names, page_size};
use zeroize::Zeroizing;

use crate::app::Broker;
use crate::app::own_keys::{Asked, Change, LimitChange, Page};
use crate::domain::own_keys::{Holder, KeyLimits, KeyView, LABEL_CHARS};
use crate::storage::own_keys::read::Seen;

/// Serves [`ProviderKeyService`].
pub(crate) struct ProviderKeysGrpc(Arc<Broker>);

impl ProviderKeysGrpc {
    pub(crate) const fn new(broker: Arc<Broker>) -> Self {
        Self(broker)
    }
}

#[tonic::async_trait]
impl ProviderKeyService for ProviderKeysGrpc {
    async fn create_provider_key(
        &self,
        request: Request<CreateProviderKeyRequest>,
    ) -> Result<Response<ProviderKey>, Status> {
        let principal = weir_rpc::caller(&request).principal()?.clone();
        let asked = request.into_inner();
        let secret = Zeroizing::new(asked.secret);
        let organization = organization(&principal, &asked.parent)?;
        let key = asked.provider_key.ok_or_else(|| Error::invalid("provider_key", "is required"))?;
        let user = user(organization, &key.user)?;
        may_change(&principal, user)?;
        if user.is_some() && user != principal.user {
            return Err(Error::new(ErrorReason::PermissionDenied, "nobody stores keys for somebody else").into());
        }
        self.check_provider(&key.provider)?;
        let asked = Asked {
            holder: Holder { organization, user, provider: key.provider },
            label: label(key.label)?,
            limits: limits(key.limits.as_ref())?,
            secret,
        };
        Ok(Response::new(render(self.0.own_keys.create(asked).await?)))
    }

    async fn get_provider_key(&self, request: Request<GetProviderKeyRequest>) -> Result<Response<ProviderKey>, Status> {
        let view = self.seen(weir_rpc::caller(&request).principal()?, &request.get_ref().name).await?;
        Ok(Response::new(render(view)))
    }

    async fn list_provider_keys(
        &self,
        request: Request<ListProviderKeysRequest>,
    ) -> Result<Response<ListProviderKeysResponse>, Status> {
        let principal = weir_rpc::caller(&request).principal()?;
        let asked = request.get_ref();
        let organization = organization(principal, &asked.parent)?;
        let seen = if manages(principal) { Seen::All } else { Seen::By(principal.user) };
        let list = format!("provider keys of {organization} for {seen:?}");
        let page = page(&list, asked.page_size, &asked.page_token)?;
        let (views, more) = self.0.own_keys.list(organization, seen, page).await?;
        let last = views.last().filter(|_| more).map(|view| PageToken::encode(&list, &view.id.to_string()));
        Ok(Response::new(ListProviderKeysResponse {
            provider_keys: views.into_iter().map(render).collect(),
            next_page_token: last.unwrap_or_default(),
        }))
    }

    async fn update_provider_key(
        &self,
        request: Request<UpdateProviderKeyRequest>,
    ) -> Result<Response<ProviderKey>, Status> {
        let principal = weir_rpc::caller(&request).principal()?.clone();
        let asked = request.into_inner();
        let key = asked.provider_key.ok_or_else(|| Error::invalid("provider_key", "is required"))?;
        let known = self.seen(&principal, &key.name).await?;
        may_change(&principal, known.holder.user)?;
        let paths = asked.update_mask.map(|mask| mask.paths).unwrap_or_default();
        let change = change(key, &paths)?;
        Ok(Response::new(render(self.0.own_keys.update(known.holder.organization, known.id, change).await?)))
    }

    async fn rotate_provider_key(
        &self,
        request: Request<RotateProviderKeyRequest>,
    ) -> Result<Response<ProviderKey>, Status> {
        let principal = weir_rpc::caller(&request).principal()?.clone();
        let asked = request.into_inner();
        let secret = Zeroizing::new(asked.secret);
        let known = self.seen(&principal, &asked.name).await?;
        may_change(&principal, known.holder.user)?;
        if known.holder.user.is_some() && known.holder.user != principal.user {
            return Err(Error::new(ErrorReason::PermissionDenied, "nobody stores keys for somebody else").into());
        }
        Ok(Response::new(render(self.0.own_keys.rotate(known.holder.organization, known.id, secret).await?)))
    }

    async fn delete_provider_key(
        &self,
        request: Request<DeleteProviderKeyRequest>,
    ) -> Result<Response<DeleteProviderKeyResponse>, Status> {
        let principal = weir_rpc::caller(&request).principal()?;
        let known = self.seen(principal, &request.get_ref().name).await?;
        may_change(principal, known.holder.user)?;
        self.0.own_keys.delete(known.holder.organization, known.id).await?;
        Ok(Response::new(DeleteProviderKeyResponse {}))
    }
}

impl ProviderKeysGrpc {
    /// A key that the caller may see; what he may not see does not exist for him.
    async fn seen(&self, principal: &Principal, name: &str) -> Result<KeyView, Error> {
        let (organization, id) =
            names::parse_provider_key(name).map_err(|error| Error::invalid("name", error.to_string()))?;
        if organization != principal.organization {
            return Err(Error::not_found(name));
        }
        let view = self.0.own_keys.get(organization, id).await?;
        let sees = view.holder.user.is_none() || view.holder.user == principal.user || manages(principal);
        if sees { Ok(view) } else { Err(Error::not_found(name)) }
    }

    fn check_provider(&self, name: &str) -> Result<(), Error> {
        let offering = self.0.offering.load();
        let is_known = offering.as_ref().is_some_and(|offering| offering.fleet.providers.contains_key(name));
        if is_known { Ok(()) } else { Err(Error::invalid("provider_key.provider", "is none of the providers here")) }
    }
}

fn manages(principal: &Principal) -> bool {
    principal.scopes.contains(Scope::KeysManage)
}

/// Who may change the key of a user, or (none) of the organisation: those who manage keys, and the user who has signed in. A program's
/// credential that may only call models must not be able to send them through somebody else's account.
fn may_change(principal: &Principal, user: Option<UserId>) -> Result<(), Error> {
    let is_oneself = user.is_some() && user == principal.user && principal.api_key.is_none();
    if is_oneself || manages(principal) {
        return Ok(());
    }
    let scope = Scope::KeysManage.as_str();
    let message = format!("this takes the scope {scope}, or signing in as the user whose key it is");
    Err(Error::new(ErrorReason::PermissionDenied, message).metadata("scope", scope))
}

fn organization(principal: &Principal, name: &str) -> Result<OrganizationId, Error> {
    let organization = names::parse_organization(name).map_err(|error| Error::invalid("parent", error.to_string()))?;
    if organization == principal.organization { Ok(organization) } else { Err(Error::not_found(name)) }
}

fn user(organization: OrganizationId, name: &str) -> Result<Option<UserId>, Error> {
    if name.is_empty() {
        return Ok(None);
    }
    let invalid = |message: String| Error::invalid("provider_key.user", message);
    let (owner, user) = names::parse_user(name).map_err(|error| invalid(error.to_string()))?;
    if owner == organization { Ok(Some(user)) } else { Err(invalid("is another organisation's".into())) }
}

fn label(label: String) -> Result<String, Error> {
    let fits = label.chars().count() <= LABEL_CHARS && !label.chars().any(char::is_control);
    if fits { Ok(label) } else { Err(Error::invalid("provider_key.label", "at most 64 characters on one line")) }
}

fn limits(limits: Option<&ProviderKeyLimits>) -> Result<KeyLimits, Error> {
    let limits = limits.copied().unwrap_or_default();
    let bounded = |field: &str, value: i64| match value {
        0 => Ok(None),
        1..=MAX_AMOUNT => Ok(Some(value)),
        _ => Err(Error::invalid(format!("provider_key.limits.{field}"), "must be from 0 to 2^53 - 1")),
    };
    Ok(KeyLimits {
        requests_per_minute: bounded("requests_per_minute", limits.requests_per_minute)?,
        tokens_per_minute: bounded("tokens_per_minute", limits.tokens_per_minute)?,
        cost_per_month: bounded("cost_nano_usd_per_month", limits.cost_nano_usd_per_month)?.map(NanoUsd),
    })
}

fn change(key: ProviderKey, paths: &[String]) -> Result<Change, Error> {
    let new = limits(key.limits.as_ref())?;
    let all = ["label".to_owned(), "limits".to_owned()];
    let mut change = Change::default();
    for path in if paths.is_empty() { &all[..] } else { paths } {
        let limits = &mut change.limits;
        match path.as_str() {
            "label" => change.label = Some(label(key.label.clone())?),
            "limits" => {
                *limits = LimitChange {
                    requests_per_minute: Some(new.requests_per_minute),
                    tokens_per_minute: Some(new.tokens_per_minute),
                    cost_per_month: Some(new.cost_per_month),
                }
            }
            "limits.requests_per_minute" => limits.requests_per_minute = Some(new.requests_per_minute),
            "limits.tokens_per_minute" => limits.tokens_per_minute = Some(new.tokens_per_minute),
            "limits.cost_nano_usd_per_month" => limits.cost_per_month = Some(new.cost_per_month),
            _ => return Err(Error::invalid("update_mask", format!("`{path}` can't be changed"))),
        }
    }
    Ok(change)
}

fn page(list: &str, size: i32, token: &str) -> Result<Page, Error> {
    let size = page_size(size, 50, 1000).map_err(|error| Error::invalid("page_size", error.to_string()))?;
    if token.is_empty() {
        return Ok(Page { before: None, size });
    }
    let refused =
        |message: String| Error::new(ErrorReason::InvalidPageToken, message.clone()).field("page_token", message);
    let cursor = PageToken::decode(list, token).map_err(|error| refused(error.to_string()))?;
    let before: ProviderKeyId = cursor.parse().map_err(|_| refused("the page token names no place".into()))?;
    Ok(Page { before: Some(before), size })
}

fn render(view: KeyView) -> ProviderKey {
    let KeyView { id, holder, label, last_four, limits, created_at, updated_at, used_at } = view;
    let time = |at: chrono::DateTime<chrono::Utc>| Timestamp {
        seconds: at.timestamp(),
        nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0),
    };
    ProviderKey {
        name: names::provider_key(&holder.organization, &id),
        user: holder.user.map(|user| names::user(&holder.organization, &user)).unwrap_or_default(),
        provider: holder.provider,
        label,
        last_four,
        limits: Some(ProviderKeyLimits {
            requests_per_minute: limits.requests_per_minute.unwrap_or_default(),
            tokens_per_minute: limits.tokens_per_minute.unwrap_or_default(),
            cost_nano_usd_per_month: limits.cost_per_month.unwrap_or_default().0,
        }),
        create_time: Some(time(created_at)),
        update_time: Some(time(updated_at)),
        last_use_time: used_at.map(time),
    }
}
