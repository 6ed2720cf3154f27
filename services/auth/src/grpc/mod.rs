//! The gRPC service: reads a request, calls one use case, writes the answer.

mod convert;
mod error;
mod read;

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};
use weir_proto::auth::v1::auth_service_server::AuthService;
use weir_proto::auth::v1::{
    ApiKey, CreateApiKeyRequest, CreateApiKeyResponse, CreateOrganizationRequest, CreateUserRequest,
    DisableUserRequest, ExchangeApiKeyRequest, GetApiKeyRequest, GetOrganizationRequest, GetUserRequest,
    ListApiKeysRequest, ListApiKeysResponse, ListOrganizationsRequest, ListOrganizationsResponse, ListUsersRequest,
    ListUsersResponse, Organization, PrincipalToken, Revocation, RevokeApiKeyRequest, RotateApiKeyRequest,
    SignInRequest, SigningKeys, User, WatchRevocationsRequest,
};
use weir_rpc::shared_caller;

use crate::app::{Auth, PageRequest};
use crate::error::Error;

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

/// The service.
#[derive(Clone)]
pub(crate) struct Grpc(pub(crate) Arc<Auth>);

#[tonic::async_trait]
impl AuthService for Grpc {
    async fn create_organization(&self, request: Request<CreateOrganizationRequest>) -> Answer<Organization> {
        let caller = shared_caller(&request);
        let new = read::new_organization(request.into_inner())?;
        answer(convert::organization(&self.0.create_organization(&read::actor(&caller), new).await?))
    }

    async fn get_organization(&self, request: Request<GetOrganizationRequest>) -> Answer<Organization> {
        let id = read::organization(&shared_caller(&request), "name", &request.get_ref().name)?;
        answer(convert::organization(&self.0.get_organization(id).await?))
    }

    async fn list_organizations(
        &self,
        request: Request<ListOrganizationsRequest>,
    ) -> Answer<ListOrganizationsResponse> {
        let request = request.into_inner();
        let page = PageRequest::new(request.page_size, request.page_token).map_err(Error::from)?;
        let page = self.0.list_organizations(&page).await?;
        answer(ListOrganizationsResponse {
            organizations: page.items.iter().map(convert::organization).collect(),
            next_page_token: page.next.unwrap_or_default(),
        })
    }

    async fn create_user(&self, request: Request<CreateUserRequest>) -> Answer<User> {
        let caller = shared_caller(&request);
        let new = read::new_user(&caller, request.into_inner())?;
        answer(convert::user(&self.0.create_user(&read::actor(&caller), new).await?))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Answer<User> {
        let caller = shared_caller(&request);
        let (organization, id) = read::user(&caller, &request.get_ref().name)?;
        answer(convert::user(&self.0.get_user(&read::actor(&caller), organization, id).await?))
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Answer<ListUsersResponse> {
        let caller = shared_caller(&request);
        let request = request.into_inner();
        let organization = read::organization(&caller, "parent", &request.parent)?;
        let page = PageRequest::new(request.page_size, request.page_token).map_err(Error::from)?;
        let page = self.0.list_users(organization, &page).await?;
        answer(ListUsersResponse {
            users: page.items.iter().map(convert::user).collect(),
            next_page_token: page.next.unwrap_or_default(),
        })
    }

    async fn disable_user(&self, request: Request<DisableUserRequest>) -> Answer<User> {
        let caller = shared_caller(&request);
        let (organization, id) = read::user(&caller, &request.get_ref().name)?;
        answer(convert::user(&self.0.disable_user(&read::actor(&caller), organization, id).await?))
    }

    async fn create_api_key(&self, request: Request<CreateApiKeyRequest>) -> Answer<CreateApiKeyResponse> {
        let caller = shared_caller(&request);
        let new = read::new_api_key(&caller, request.get_ref())?;
        answer(convert::fresh_key(&self.0.create_api_key(&read::actor(&caller), new).await?))
    }

    async fn get_api_key(&self, request: Request<GetApiKeyRequest>) -> Answer<ApiKey> {
        let caller = shared_caller(&request);
        let (organization, id) = read::api_key(&caller, &request.get_ref().name)?;
        answer(convert::api_key(&self.0.get_api_key(&read::actor(&caller), organization, id).await?))
    }

    async fn list_api_keys(&self, request: Request<ListApiKeysRequest>) -> Answer<ListApiKeysResponse> {
        let caller = shared_caller(&request);
        let request = request.into_inner();
        let organization = read::organization(&caller, "parent", &request.parent)?;
        let page = PageRequest::new(request.page_size, request.page_token).map_err(Error::from)?;
        let page = self.0.list_api_keys(organization, &page).await?;
        answer(ListApiKeysResponse {
            api_keys: page.items.iter().map(convert::api_key).collect(),
            next_page_token: page.next.unwrap_or_default(),
        })
    }

    async fn revoke_api_key(&self, request: Request<RevokeApiKeyRequest>) -> Answer<ApiKey> {
        let caller = shared_caller(&request);
        let (organization, id) = read::api_key(&caller, &request.get_ref().name)?;
        answer(convert::api_key(&self.0.revoke_api_key(&read::actor(&caller), organization, id).await?))
    }

    async fn rotate_api_key(&self, request: Request<RotateApiKeyRequest>) -> Answer<CreateApiKeyResponse> {
        let caller = shared_caller(&request);
        let request = request.into_inner();
        let (organization, id) = read::api_key(&caller, &request.name)?;
        let overlap = read::overlap(request.overlap)?;
        let fresh = self.0.rotate_api_key(&read::actor(&caller), organization, id, overlap).await?;
        answer(convert::fresh_key(&fresh))
    }

    async fn exchange_api_key(&self, request: Request<ExchangeApiKeyRequest>) -> Answer<PrincipalToken> {
        answer(convert::token(self.0.exchange_api_key(request.into_inner().secret).await?))
    }

    async fn sign_in(&self, request: Request<SignInRequest>) -> Answer<PrincipalToken> {
        let (email, password) = read::sign_in(request.into_inner())?;
        answer(convert::token(self.0.sign_in(&email, password).await?))
    }

    async fn get_signing_keys(&self, _: Request<()>) -> Answer<SigningKeys> {
        answer(convert::signing_keys(self.0.signing_keys().await?))
    }

    async fn rotate_signing_key(&self, request: Request<()>) -> Answer<SigningKeys> {
        let actor = read::actor(&shared_caller(&request));
        answer(convert::signing_keys(self.0.rotate_signing_key(&actor).await?))
    }

    type WatchRevocationsStream = Pin<Box<dyn Stream<Item = Result<Revocation, Status>> + Send>>;

    async fn watch_revocations(&self, _: Request<WatchRevocationsRequest>) -> Answer<Self::WatchRevocationsStream> {
        let signals = self.0.feed.watch()?;
        let stream = signals.map(|signal| signal.map(|signal| convert::signal(&signal)).map_err(Status::from));
        answer(Box::pin(stream))
    }
}
