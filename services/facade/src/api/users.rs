//! Users.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_proto::auth::v1 as proto;
use weir_rpc::Error;
use weir_types::{UserId, names};

use super::convert::{id, required};
use super::created::Created;
use super::extract::{ApiJson, ApiPath, ApiQuery, By, NoQuery};
use super::page::Page;
use super::problem::Problem;
use crate::facade::Facade;

/// What a user may do in their organisation.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Uses the product.
    Member,
    /// Manages users and keys.
    Admin,
}

/// A person in the organisation.
#[derive(Serialize, ToSchema)]
pub(crate) struct User {
    id: String,
    email: String,
    display_name: String,
    role: Role,
    disabled: bool,
    create_time: DateTime<Utc>,
}

/// Whom to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateUser {
    email: String,
    #[serde(default)]
    display_name: String,
    /// A member if absent.
    #[serde(default)]
    role: Option<Role>,
    /// At least 12 characters; absent for a user who never signs in with a password.
    #[serde(default)]
    #[schema(format = Password)]
    password: Option<String>,
}

/// A page of users.
#[derive(Serialize, ToSchema)]
pub(crate) struct Users {
    users: Vec<User>,
    /// Empty on the last page.
    next_page_token: String,
}

impl TryFrom<proto::User> for User {
    type Error = Error;

    fn try_from(user: proto::User) -> Result<Self, Error> {
        let role = if user.role() == proto::Role::Admin { Role::Admin } else { Role::Member };
        Ok(Self {
            id: id(&user.name),
            role,
            disabled: user.disabled,
            create_time: required(user.create_time)?,
            email: user.email,
            display_name: user.display_name,
        })
    }
}

/// Creates a user.
#[utoipa::path(
    post, path = "/api/v1/users", operation_id = "createUser", tag = "users", request_body = CreateUser,
    responses(
        (status = 201, description = "The user.", body = User),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn create(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiJson(asked): ApiJson<CreateUser>,
) -> Result<Created<User>, Problem> {
    let role = match asked.role {
        Some(Role::Admin) => proto::Role::Admin,
        Some(Role::Member) | None => proto::Role::Member,
    };
    let request = proto::CreateUserRequest {
        parent: names::organization(&caller.organization),
        email: asked.email,
        display_name: asked.display_name,
        role: role.into(),
        password: asked.password.unwrap_or_default(),
    };
    let user =
        facade.as_caller(&caller, request, async |request| facade.auth.clone().create_user(request).await).await?;
    let user = User::try_from(user)?;
    Ok(Created { location: format!("/api/v1/users/{}", user.id), body: user })
}

/// Lists the organisation's users, oldest first.
#[utoipa::path(
    get, path = "/api/v1/users", operation_id = "listUsers", tag = "users", params(Page),
    responses(
        (status = 200, description = "A page of users.", body = Users),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    ApiQuery(page): ApiQuery<Page>,
) -> Result<Json<Users>, Problem> {
    let Page { page_size, page_token } = page;
    let request = proto::ListUsersRequest { parent: names::organization(&caller.organization), page_size, page_token };
    let listed =
        facade.as_caller(&caller, request, async |request| facade.auth.clone().list_users(request).await).await?;
    let users = listed.users.into_iter().map(User::try_from).collect::<Result<_, _>>()?;
    Ok(Json(Users { users, next_page_token: listed.next_page_token }))
}

/// Reads one user.
#[utoipa::path(
    get, path = "/api/v1/users/{id}", operation_id = "getUser", tag = "users", params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The user.", body = User),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn get(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiPath(user): ApiPath<UserId>,
) -> Result<Json<User>, Problem> {
    let request = proto::GetUserRequest { name: names::user(&caller.organization, &user) };
    let user = facade.as_caller(&caller, request, async |request| facade.auth.clone().get_user(request).await).await?;
    Ok(Json(user.try_into()?))
}

/// Disables a user: their keys and tokens stop working within seconds, their records stay.
#[utoipa::path(
    post, path = "/api/v1/users/{id}/disable", operation_id = "disableUser", tag = "users", params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The user, disabled.", body = User),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn disable(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiPath(user): ApiPath<UserId>,
) -> Result<Json<User>, Problem> {
    let request = proto::DisableUserRequest { name: names::user(&caller.organization, &user) };
    let user =
        facade.as_caller(&caller, request, async |request| facade.auth.clone().disable_user(request).await).await?;
    Ok(Json(user.try_into()?))
}
