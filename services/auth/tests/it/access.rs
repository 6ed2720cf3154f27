use weir_proto::auth::v1::{
    CreateUserRequest, DisableUserRequest, ExchangeApiKeyRequest, GetApiKeyRequest, GetOrganizationRequest,
    GetUserRequest, ListApiKeysRequest, ListOrganizationsRequest, ListUsersRequest, RevokeApiKeyRequest, Role,
    RotateApiKeyRequest,
};
use weir_proto::common::v1::ErrorReason;
use weir_types::Scope;

use crate::house::{House, bearer, by, key_of, new_key, open};

#[test]
fn every_method_has_one_row_in_the_access_table_and_none_is_open() {
    assert_eq!(weir_rpc::uncovered(weir_auth::SERVICE, weir_auth::ACCESS), [""; 0]);
}

#[tokio::test]
async fn what_belongs_to_another_organisation_does_not_exist() {
    let (_house, auth) = House::with_replica().await;
    let (mine, theirs) = (auth.organization().await, auth.organization().await);
    let me = auth.principal(&mine, &Scope::ALL.map(Scope::as_str)).await;
    let their_user = auth.user(&theirs, "bob@example.com", Role::Admin).await.name;
    let their_key = key_of(&auth.key(&theirs, &["ai.invoke"]).await).name;
    let mut client = auth.operator();

    let parent = theirs.name.clone();
    let new_user = CreateUserRequest { parent: parent.clone(), email: "eve@example.com".into(), ..Default::default() };
    let list_users = ListUsersRequest { parent: parent.clone(), ..Default::default() };
    let list_keys = ListApiKeysRequest { parent, ..Default::default() };
    let rotate = RotateApiKeyRequest { name: their_key.clone(), overlap: None };
    let failures = [
        open(client.get_organization(by(&me, GetOrganizationRequest { name: theirs.name.clone() })).await).err(),
        open(client.create_user(by(&me, new_user)).await).err(),
        open(client.get_user(by(&me, GetUserRequest { name: their_user.clone() })).await).err(),
        open(client.list_users(by(&me, list_users)).await).err(),
        open(client.disable_user(by(&me, DisableUserRequest { name: their_user })).await).err(),
        open(client.create_api_key(by(&me, new_key(&theirs, &["ai.invoke"]))).await).err(),
        open(client.get_api_key(by(&me, GetApiKeyRequest { name: their_key.clone() })).await).err(),
        open(client.list_api_keys(by(&me, list_keys)).await).err(),
        open(client.revoke_api_key(by(&me, RevokeApiKeyRequest { name: their_key })).await).err(),
        open(client.rotate_api_key(by(&me, rotate)).await).err(),
    ];
    for (i, failure) in failures.into_iter().enumerate() {
        assert_eq!(failure.map(|failure| failure.reason()), Some(ErrorReason::NotFound), "call {i}");
    }
}

#[tokio::test]
async fn operators_calls_are_not_for_principals_and_credentials_only_for_the_facade() {
    let (_house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let all = auth.principal(&organization, &Scope::ALL.map(Scope::as_str)).await;
    let mut client = auth.operator();
    let denied = |failure: weir_rpc::Failure| assert_eq!(failure.reason(), ErrorReason::PermissionDenied, "{failure}");

    denied(open(client.list_organizations(by(&all, ListOrganizationsRequest::default())).await).unwrap_err());
    denied(open(client.rotate_signing_key(by(&all, ())).await).unwrap_err());
    denied(open(client.get_signing_keys(by(&all, ())).await).unwrap_err());
    denied(open(client.exchange_api_key(ExchangeApiKeyRequest::default()).await).unwrap_err());
    let mut quota = auth.service("quota");
    denied(open(quota.list_organizations(ListOrganizationsRequest::default()).await).unwrap_err());
    denied(open(quota.exchange_api_key(ExchangeApiKeyRequest::default()).await).unwrap_err());
    assert!(quota.get_signing_keys(()).await.is_ok());
}

#[tokio::test]
async fn a_member_uses_the_product_and_manages_nothing() {
    let (_house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let user = auth.user(&organization, "ada@example.com", Role::Member).await;
    let other = auth.user(&organization, "bob@example.com", Role::Admin).await;
    let token = auth.sign_in("ada@example.com", crate::house::PASSWORD).await.unwrap();
    assert_eq!(token.scopes, ["ai.invoke", "models.read", "usage.read", "quota.read"]);
    let ada = bearer(&token);
    let mut client = auth.operator();

    let failure = open(client.create_api_key(by(&ada, new_key(&organization, &["ai.invoke"]))).await).unwrap_err();
    assert_eq!((failure.reason(), failure.metadata("scope")), (ErrorReason::PermissionDenied, Some("keys.manage")));
    let list = ListUsersRequest { parent: organization.name.clone(), ..Default::default() };
    let failure = open(client.list_users(by(&ada, list)).await).unwrap_err();
    assert_eq!((failure.reason(), failure.metadata("scope")), (ErrorReason::PermissionDenied, Some("users.manage")));

    let me = open(client.get_user(by(&ada, GetUserRequest { name: user.name.clone() })).await).unwrap();
    assert_eq!(me, user);
    let failure = open(client.get_user(by(&ada, GetUserRequest { name: other.name })).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::NotFound);
}
