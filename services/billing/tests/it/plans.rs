use weir_proto::billing::v1::window::Kind;
use weir_proto::billing::v1::{
    AnchoredWindow, Concurrent, Entitlements, GetEntitlementsRequest, GetSubscriptionRequest, Limit, ListPlansRequest,
    OnFailure, SetSubscriptionRequest, Subscription, Window,
};
use weir_proto::common::v1::ErrorReason;
use weir_types::{Clock as _, OrganizationId};

use crate::house::{House, Replica, name, open};
use crate::usage::timestamp;

fn limit(name: &str, amount: i64) -> Limit {
    Limit {
        name: name.to_owned(),
        scope: "organization".to_owned(),
        unit: "request".to_owned(),
        amount,
        window: Some(Window { kind: Some(Kind::Anchored(AnchoredWindow::default())) }),
        on_failure: OnFailure::Open.into(),
        alert_percents: vec![80, 100],
    }
}

async fn set(replica: &Replica, organization: OrganizationId, plan: &str, overrides: Vec<Limit>) -> Subscription {
    let request = SetSubscriptionRequest { organization: name(organization), plan: format!("plans/{plan}"), overrides };
    open(replica.operator().set_subscription(request).await).unwrap()
}

async fn entitlements(replica: &Replica, organization: OrganizationId) -> Entitlements {
    let request = GetEntitlementsRequest { organization: name(organization) };
    open(replica.service("quota").get_entitlements(request).await).unwrap()
}

#[tokio::test]
async fn the_built_in_plans_are_on_offer() {
    let (_house, replica) = House::with_replica().await;
    let plans = open(replica.operator().list_plans(ListPlansRequest {}).await).unwrap().plans;
    let names: Vec<_> = plans.iter().map(|plan| (plan.name.as_str(), plan.price_nano_usd)).collect();
    assert_eq!(
        names,
        [
            ("plans/enterprise", 499_000_000_000),
            ("plans/free", 0),
            ("plans/pro", 29_000_000_000),
            ("plans/unlimited", 0)
        ]
    );
    assert!(plans.iter().all(|plan| plan.version == "2026-11-01" && !plan.limits.is_empty()));
}

#[tokio::test]
async fn an_organisation_that_nobody_put_on_a_plan_has_the_default_one() {
    let (_house, replica) = House::with_replica().await;
    let organization = OrganizationId::new_v7();
    let request = GetSubscriptionRequest { name: format!("{}/subscription", name(organization)) };
    let subscription = open(replica.operator().get_subscription(request).await).unwrap();
    assert_eq!(subscription.plan, "plans/free");
    let entitlements = entitlements(&replica, organization).await;
    assert_eq!((entitlements.plan.as_str(), entitlements.models), ("plans/free", vec!["*".to_owned()]));
    let budget = entitlements.limits.iter().find(|limit| limit.name == "budget").unwrap();
    let Some(Kind::Anchored(window)) = budget.window.as_ref().unwrap().kind.as_ref() else { panic!("{budget:?}") };
    assert_eq!(window.anchor, subscription.start_time, "anchored windows count from the subscription's start");
    assert_eq!(budget.amount, 5_000_000_000);
}

#[tokio::test]
async fn a_subscription_replaces_limits_by_name_and_every_change_has_a_higher_version() {
    let (house, replica) = House::with_replica().await;
    let organization = OrganizationId::new_v7();
    let before = entitlements(&replica, organization).await;
    let set_once = set(&replica, organization, "pro", vec![limit("budget-requests", 7), limit("concurrency", 1)]).await;
    assert_eq!(set_once.start_time, Some(timestamp(house.clock.now())));
    let after = entitlements(&replica, organization).await;
    assert!(after.version > before.version);
    assert_eq!((after.plan.as_str(), after.priority), ("plans/pro", 10));
    let of = |name: &str| after.limits.iter().find(|limit| limit.name == name).unwrap();
    assert_eq!((of("concurrency").unit.as_str(), of("concurrency").amount), ("request", 1));
    assert_eq!(of("budget-requests").amount, 7);
    assert_eq!(after.limits.len(), 5);

    house.clock.advance(std::time::Duration::from_secs(60));
    let again = set(&replica, organization, "pro", vec![limit("budget-requests", 7), limit("concurrency", 1)]).await;
    assert_eq!(again, set_once);
    assert_eq!(entitlements(&replica, organization).await.version, after.version, "what changes nothing is no change");
    let fewer = set(&replica, organization, "pro", vec![]).await;
    assert_eq!(fewer.start_time, set_once.start_time, "on the same plan the start stays");
    let moved = set(&replica, organization, "enterprise", vec![]).await;
    assert_eq!(moved.start_time, Some(timestamp(house.clock.now())));
    assert!(entitlements(&replica, organization).await.version > after.version + 1);
}

#[tokio::test]
async fn an_unsound_subscription_is_refused_with_every_field() {
    let (_house, replica) = House::with_replica().await;
    let mut bad = limit("A B", -1);
    bad.window = Some(Window { kind: Some(Kind::Concurrent(Concurrent {})) });
    let request = |plan: &str, overrides| SetSubscriptionRequest {
        organization: name(OrganizationId::new_v7()),
        plan: plan.to_owned(),
        overrides,
    };
    let failure = open(replica.operator().set_subscription(request("plans/gold", vec![bad])).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::InvalidArgument);
    let fields: Vec<_> = failure.fields().iter().map(|field| field.subject.as_str()).collect();
    assert_eq!(fields, ["plan", "overrides[0].name", "overrides[0].amount", "overrides[0].window"]);

    let nothing = Limit { window: None, on_failure: 0, ..limit("a", 1) };
    let failure = open(replica.operator().set_subscription(request("plans/pro", vec![nothing])).await).unwrap_err();
    let fields: Vec<_> = failure.fields().iter().map(|field| field.subject.as_str()).collect();
    assert_eq!(fields, ["overrides[0].on_failure", "overrides[0].window"]);
    let failure = open(replica.operator().set_subscription(request("pro", vec![])).await).unwrap_err();
    assert_eq!(failure.fields()[0].subject, "plan");
}

#[tokio::test]
async fn only_operators_set_subscriptions() {
    let (_house, replica) = House::with_replica().await;
    let request = SetSubscriptionRequest {
        organization: name(OrganizationId::new_v7()),
        plan: "plans/unlimited".to_owned(),
        overrides: vec![],
    };
    let failure = open(replica.service("facade").set_subscription(request).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::PermissionDenied);
}

#[tokio::test]
async fn a_plan_can_go_by_own_keys_alone_and_be_of_some_features() {
    let house = House::new().await;
    let folder = tempfile::tempdir().unwrap();
    let plan = |name: &str, more: &str| {
        format!(
            "[[plan]]\nname = \"{name}\"\ndisplay_name = \"P\"\nprice = \"0\"\nmodels = [\"*\"]\npriority = 0\n{more}"
        )
    };
    let text = format!(
        "version = \"2\"\n{}{}",
        plan("free", "own_keys_only = true\nfeatures = [\"interview\", \"jewelry.*\"]\n"),
        plan("pro", "")
    );
    let mut settings = crate::house::settings();
    settings.billing.plans = vec![crate::house::file(&folder, "plans.toml", &text)];
    let replica = house.replica(settings).await.unwrap();
    let organization = OrganizationId::new_v7();
    let free = entitlements(&replica, organization).await;
    assert!(free.own_keys_only && free.features == ["interview", "jewelry.*"], "{free:?}");
    set(&replica, organization, "pro", vec![]).await;
    let pro = entitlements(&replica, organization).await;
    assert!(!pro.own_keys_only && pro.features.is_empty(), "{pro:?}");
    let plans = replica.operator().list_plans(ListPlansRequest {}).await.unwrap().into_inner().plans;
    assert_eq!(plans.iter().map(|plan| plan.own_keys_only).collect::<Vec<_>>(), [true, false]);
    assert_eq!(plans.iter().map(|plan| plan.features.len()).collect::<Vec<_>>(), [2, 0]);
}

#[tokio::test]
async fn a_catalogue_without_a_plan_that_is_in_use_is_refused() {
    let (house, replica) = House::with_replica().await;
    set(&replica, OrganizationId::new_v7(), "pro", vec![]).await;
    let folder = tempfile::tempdir().unwrap();
    let plans = crate::house::file(
        &folder,
        "plans.toml",
        "version = \"2\"\n[[plan]]\nname = \"free\"\ndisplay_name = \"Free\"\nprice = \"0\"\nmodels = [\"*\"]\npriority = 0\n",
    );
    let mut settings = crate::house::settings();
    settings.billing.plans = vec![plans];
    let error = house.replica(settings).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("1 organisations are on the plan `pro`"), "{error}");
}
