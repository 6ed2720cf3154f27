use tonic::Code;
use weir_proto::broker::v1::{GetStatusRequest, ListModelsRequest};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::testing::Deployment;
use weir_rpc::{Access, Bearer, uncovered};
use weir_types::{OrganizationId, Scope, UserId, names};

use crate::harness::{ACCESS, Broker, Client, body, failure, local, stacked, text};

#[tokio::test]
async fn a_service_and_a_principal_with_the_scope_are_known_to_the_handler() {
    let deployment = Deployment::new().await;
    let mut client = local(&deployment, Broker::default()).await;
    assert_eq!(text(client.invoke(body("who")).await), r#"Service("facade")"#);

    let (organization, user) = (OrganizationId::new_v7(), UserId::new_v7());
    let bearer = deployment.principal(organization, Some(user), None, [Scope::AiInvoke]);
    let who = text(client.invoke(bearer.request(body("who"))).await);
    assert!(who.contains(&organization.to_string()) && who.contains(&user.to_string()), "{who}");
}

#[tokio::test]
async fn a_principal_without_the_scope_is_told_which_one_is_missing() {
    let deployment = Deployment::new().await;
    let mut client = local(&deployment, Broker::default()).await;
    let bearer = deployment.principal(OrganizationId::new_v7(), None, None, [Scope::UsageRead]);
    let failure = failure(client.invoke(bearer.request(body("x"))).await);
    assert_eq!((failure.code(), failure.reason()), (Code::PermissionDenied, ErrorReason::PermissionDenied));
    assert_eq!(failure.metadata("scope"), Some("ai.invoke"));
}

#[tokio::test]
async fn a_service_that_is_not_listed_is_refused() {
    let deployment = Deployment::new().await;
    let stacked = stacked(&deployment, Broker::default()).await;
    let mut client = Client::new(deployment.channel("usage", &stacked));
    assert_eq!(failure(client.invoke(body("x")).await).reason(), ErrorReason::PermissionDenied);
    // A service is no principal.
    assert_eq!(failure(client.list_models(ListModelsRequest {}).await).reason(), ErrorReason::PermissionDenied);
}

#[tokio::test]
async fn a_method_without_a_row_is_refused_to_everybody() {
    let deployment = Deployment::new().await;
    let mut client = local(&deployment, Broker::default()).await;
    assert_eq!(failure(client.get_status(GetStatusRequest {}).await).reason(), ErrorReason::PermissionDenied);
    let bearer = deployment.principal(OrganizationId::new_v7(), None, None, Scope::ALL);
    let answer = client.get_status(bearer.request(GetStatusRequest {})).await;
    assert_eq!(failure(answer).reason(), ErrorReason::PermissionDenied);
}

#[tokio::test]
async fn a_credential_that_is_none_is_refused() {
    let deployment = Deployment::new().await;
    let mut client = local(&deployment, Broker::default()).await;
    for credential in ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer x", "Bearer a.b.c", "Bearer ....."] {
        let mut request = tonic::Request::new(body("x"));
        request.metadata_mut().insert("authorization", credential.parse().unwrap());
        let failure = failure(client.invoke(request).await);
        assert_eq!(failure.reason(), ErrorReason::Unauthenticated, "{credential}");
        assert_eq!(failure.code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn the_scheme_is_read_without_regard_to_case() {
    let deployment = Deployment::new().await;
    let mut client = local(&deployment, Broker::default()).await;
    let claims = deployment.claims(OrganizationId::new_v7(), None, None, [Scope::AiInvoke]);
    let token = deployment.sign(&claims);
    let mut request = tonic::Request::new(body("x"));
    request.metadata_mut().insert("authorization", format!("bearer {token}").parse().unwrap());
    assert_eq!(text(client.invoke(request).await), "x");
    assert!(format!("{:?}", Bearer::new(&token)).contains("redacted"));
}

#[tokio::test]
async fn principals_see_their_own_organisation_and_services_any() {
    let (own, other) = (OrganizationId::new_v7(), OrganizationId::new_v7());
    let principal = weir_rpc::Caller::Principal(weir_rpc::Principal {
        organization: own,
        user: None,
        api_key: None,
        scopes: weir_types::ScopeSet::all(),
        token_expires: chrono::Utc::now(),
    });
    let service = weir_rpc::Caller::Service("usage".into());
    assert_eq!(principal.organization(&names::organization(&own)).unwrap(), own);
    let refusal = principal.organization(&names::organization(&other)).unwrap_err();
    assert_eq!(refusal.reason(), ErrorReason::NotFound);
    assert_eq!(service.organization(&names::organization(&other)).unwrap(), other);
    assert_eq!(principal.organization("users/1").unwrap_err().reason(), ErrorReason::InvalidArgument);
    assert!(service.principal().is_err() && principal.principal().is_ok());
}

#[test]
fn what_a_table_lacks_or_has_too_much_is_named() {
    const SERVICE: &str = "weir.broker.v1.BrokerService";
    assert_eq!(uncovered(SERVICE, ACCESS), ["/weir.broker.v1.BrokerService/GetStatus: 0 rows"]);
    let mut table = ACCESS.to_vec();
    table.push(("/weir.broker.v1.BrokerService/GetStatus", Access::Open));
    table.push(("/weir.broker.v1.BrokerService/Gone", Access::AnyService));
    table.push(ACCESS[0]);
    assert_eq!(
        uncovered(SERVICE, &table),
        [
            "/weir.broker.v1.BrokerService/Invoke: 2 rows",
            "/weir.broker.v1.BrokerService/Gone: no such method",
            "/weir.broker.v1.BrokerService/GetStatus: open",
        ]
    );
}
