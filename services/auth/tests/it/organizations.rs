use std::time::Duration;

use uuid::Uuid;
use weir_proto::auth::v1::{
    CreateOrganizationRequest, GetOrganizationRequest, ListOrganizationsRequest, ListUsersRequest,
};
use weir_proto::common::v1::ErrorReason;
use weir_types::OrganizationId;

use crate::house::{House, fields, open};

fn new(id: &str, display_name: &str) -> CreateOrganizationRequest {
    CreateOrganizationRequest { organization_id: id.into(), display_name: display_name.into() }
}

#[tokio::test]
async fn creating_again_with_the_same_id_answers_the_same() {
    let (house, auth) = House::with_replica().await;
    let id = OrganizationId::new_v7().to_string();
    let first = open(auth.operator().create_organization(new(&id, "Weir")).await).unwrap();
    assert_eq!(first.name, format!("organizations/{id}"));
    house.clock.advance(Duration::from_secs(60));
    let second = open(auth.service("facade").create_organization(new(&id, " Weir ")).await).unwrap();
    assert_eq!(first, second);

    let failure = open(auth.operator().create_organization(new(&id, "Dam")).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::IdReused);
    let request = GetOrganizationRequest { name: format!("organizations/{id}") };
    let token = auth.principal(&first, &["ai.invoke"]).await;
    assert_eq!(open(auth.operator().get_organization(token.request(request)).await).unwrap(), first);
}

#[tokio::test]
async fn every_wrong_field_of_an_organisation_is_named() {
    let (_house, auth) = House::with_replica().await;
    let failure = open(auth.operator().create_organization(new("one", "")).await).unwrap_err();
    assert_eq!(fields(&failure), ["display_name", "organization_id"]);
    let failure = open(auth.operator().create_organization(new("", &"x".repeat(121))).await).unwrap_err();
    assert_eq!(fields(&failure), ["display_name"]);
}

#[tokio::test]
async fn organisations_are_listed_oldest_first_page_by_page_whatever_their_ids() {
    let (house, auth) = House::with_replica().await;
    let mut names = Vec::new();
    for i in 0..5 {
        // Random ids, some at the same instant: the order is by time, then by id.
        if i % 2 == 0 {
            house.clock.advance(Duration::from_secs(1));
        }
        let request = new(&Uuid::new_v4().to_string(), "Weir");
        names.push(open(auth.operator().create_organization(request).await).unwrap());
    }
    names.sort_by(|a, b| {
        let key = |o: &weir_proto::auth::v1::Organization| (o.create_time.unwrap().seconds, o.name.clone());
        key(a).cmp(&key(b))
    });

    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListOrganizationsRequest { page_size: 2, page_token };
        let page = open(auth.operator().list_organizations(request).await).unwrap();
        assert!(page.organizations.len() <= 2);
        listed.extend(page.organizations);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, names);
}

#[tokio::test]
async fn a_page_token_from_another_list_is_refused() {
    let (_house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    auth.organization().await;
    let request = ListOrganizationsRequest { page_size: 1, ..Default::default() };
    let page_token = open(auth.operator().list_organizations(request).await).unwrap().next_page_token;
    assert!(!page_token.is_empty());
    let request = ListUsersRequest { parent: organization.name, page_size: 1, page_token };
    let failure = open(auth.operator().list_users(request).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::InvalidPageToken);
    let request = ListOrganizationsRequest { page_size: -1, ..Default::default() };
    assert_eq!(fields(&open(auth.operator().list_organizations(request).await).unwrap_err()), ["page_size"]);
}
