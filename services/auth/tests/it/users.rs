use weir_proto::auth::v1::{CreateUserRequest, DisableUserRequest, GetUserRequest, ListUsersRequest, Role};
use weir_proto::common::v1::ErrorReason;
use weir_types::{OrganizationId, UserId};

use crate::house::{House, PASSWORD, by, fields, open};

#[tokio::test]
async fn an_email_address_is_unique_in_the_product_without_regard_to_case() {
    let (_house, auth) = House::with_replica().await;
    let (one, other) = (auth.organization().await, auth.organization().await);
    let user = auth.user(&one, "Ada@Example.com", Role::Member).await;
    assert_eq!(user.email, "Ada@Example.com");
    for parent in [&one.name, &other.name] {
        let request =
            CreateUserRequest { parent: parent.clone(), email: "ada@example.COM".into(), ..Default::default() };
        let failure = open(auth.operator().create_user(request).await).unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::AlreadyExists);
    }
}

#[tokio::test]
async fn every_wrong_field_of_a_user_is_named() {
    let (_house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let request = CreateUserRequest {
        parent: organization.name.clone(),
        email: "ada".into(),
        display_name: "a\u{0}b".into(),
        role: 99,
        password: "too short".into(),
    };
    let failure = open(auth.operator().create_user(request).await).unwrap_err();
    assert_eq!(fields(&failure), ["email", "display_name", "role", "password"]);
    assert!(!failure.message().contains("too short"), "{failure}");

    let request = CreateUserRequest { parent: "organizations/one".into(), ..Default::default() };
    assert_eq!(fields(&open(auth.operator().create_user(request).await).unwrap_err()), ["parent"]);
    let parent = weir_types::names::organization(&OrganizationId::new_v7());
    let request = CreateUserRequest { parent, email: "ada@example.com".into(), ..Default::default() };
    let failure = open(auth.operator().create_user(request).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::NotFound);
}

#[tokio::test]
async fn users_are_listed_oldest_first_page_by_page() {
    let (_house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let mut created = Vec::new();
    for i in 0..3 {
        created.push(auth.user(&organization, &format!("user{i}@example.com"), Role::Member).await);
    }
    let mut client = auth.operator();
    let mut request = ListUsersRequest { parent: organization.name.clone(), page_size: 2, ..Default::default() };
    let first = open(client.list_users(request.clone()).await).unwrap();
    assert_eq!(first.users, created[..2]);
    request.page_token = first.next_page_token.clone();
    let second = open(client.list_users(request).await).unwrap();
    assert_eq!((second.users.as_slice(), second.next_page_token.as_str()), (&created[2..], ""));

    // Bound to the list: another organisation's is another one.
    let other = auth.organization().await;
    let request = ListUsersRequest { parent: other.name, page_size: 2, page_token: first.next_page_token };
    let failure = open(client.list_users(request).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::InvalidPageToken);
}

#[tokio::test]
async fn nothing_of_a_disabled_user_works_and_disabling_twice_changes_nothing() {
    let (_house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let user = auth.user(&organization, "ada@example.com", Role::Admin).await;
    let mut request = crate::house::new_key(&organization, &["ai.invoke"]);
    request.user = user.name.clone();
    let key = open(auth.operator().create_api_key(request.clone()).await).unwrap();
    assert!(auth.exchange(&key.secret).await.is_ok());
    assert!(auth.sign_in("ada@example.com", PASSWORD).await.is_ok());

    let disable = DisableUserRequest { name: user.name.clone() };
    let disabled = open(auth.operator().disable_user(disable.clone()).await).unwrap();
    assert!(disabled.disabled);
    assert_eq!(open(auth.operator().disable_user(disable).await).unwrap(), disabled);

    let failure = auth.exchange(&key.secret).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::CredentialRevoked);
    let failure = auth.sign_in("ada@example.com", PASSWORD).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::CredentialRevoked);
    // Who doesn't know the password doesn't learn that the user is disabled.
    let failure = auth.sign_in("ada@example.com", "a wrong password").await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::Unauthenticated);
    assert_eq!(fields(&open(auth.operator().create_api_key(request).await).unwrap_err()), ["user"]);

    let missing = DisableUserRequest { name: format!("{}/users/{}", organization.name, UserId::new_v7()) };
    assert_eq!(open(auth.operator().disable_user(missing).await).unwrap_err().reason(), ErrorReason::NotFound);
}

#[tokio::test]
async fn who_manages_users_can_not_make_one_that_may_do_more() {
    let (_house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let manager = auth.principal(&organization, &["users.manage", "ai.invoke"]).await;
    let request = |role: Role| CreateUserRequest {
        parent: organization.name.clone(),
        email: "eve@example.com".into(),
        role: role.into(),
        password: PASSWORD.into(),
        ..Default::default()
    };
    for role in [Role::Admin, Role::Member] {
        let failure = open(auth.operator().create_user(by(&manager, request(role))).await).unwrap_err();
        assert_eq!((failure.reason(), failure.metadata("scope")), (ErrorReason::PermissionDenied, Some("models.read")));
    }
    let scopes = ["users.manage", "ai.invoke", "models.read", "usage.read", "quota.read"];
    let manager = auth.principal(&organization, &scopes).await;
    let user = open(auth.operator().create_user(by(&manager, request(Role::Unspecified))).await).unwrap();
    assert_eq!(user.role(), Role::Member);
    let read = GetUserRequest { name: user.name.clone() };
    assert_eq!(open(auth.operator().get_user(by(&manager, read)).await).unwrap(), user);
}
