use chrono::TimeDelta;
use uuid::Uuid;
use weir_types::{MAX_AMOUNT, OrganizationId, UserId};
use weir_usage::domain::{Event, Horizon, validate};

use crate::fixture::{event, now, without_use};

const HORIZON: Horizon = Horizon { past: TimeDelta::days(400), future: TimeDelta::days(1) };

fn refused_for(change: impl FnOnce(&mut Event)) -> Option<&'static str> {
    let mut event = event(OrganizationId::new_v7());
    change(&mut event);
    validate(&event, now(), &HORIZON).err().map(|invalid| invalid.field)
}

#[test]
fn a_complete_event_is_valid_and_so_are_its_edges() {
    assert_eq!(refused_for(|_| ()), None);
    assert_eq!(refused_for(|e| e.input_tokens = MAX_AMOUNT), None);
    assert_eq!(refused_for(|e| e.cached_input_tokens = e.input_tokens), None);
    assert_eq!(refused_for(|e| (e.user, e.api_key) = (None, None)), None);
    assert_eq!(refused_for(|e| e.event_time = now() - TimeDelta::days(400)), None);
    assert_eq!(refused_for(|e| e.event_time = now() + TimeDelta::days(1)), None);
    assert_eq!(refused_for(|e| *e = without_use(e.organization, MAX_AMOUNT)), None);
    assert_eq!(refused_for(|e| e.model = "ü".repeat(128)), None);
    assert_eq!(refused_for(|e| (e.price_version.clear(), e.request_id.clear()).0), None);
}

#[test]
fn each_field_that_is_wrong_is_named() {
    assert_eq!(refused_for(|e| e.id = Uuid::new_v4().into()), Some("event_id"));
    assert_eq!(refused_for(|e| e.organization = Uuid::nil().into()), Some("organization"));
    assert_eq!(refused_for(|e| e.user = Some(UserId::from(Uuid::nil()))), Some("user"));
    assert_eq!(refused_for(|e| e.api_key = Some(Uuid::nil().into())), Some("api_key"));
    assert_eq!(refused_for(|e| e.source.clear()), Some("source"));
    assert_eq!(refused_for(|e| e.provider = "a\0b".to_owned()), Some("provider"));
    assert_eq!(refused_for(|e| e.model = "m".repeat(257)), Some("model"));
    assert_eq!(refused_for(|e| e.operation.clear()), Some("operation"));
    assert_eq!(refused_for(|e| e.request_id = "two\nlines".to_owned()), Some("request_id"));
    assert_eq!(refused_for(|e| e.event_time = now() + TimeDelta::days(1) + TimeDelta::seconds(1)), Some("event_time"));
    assert_eq!(refused_for(|e| e.event_time = now() - TimeDelta::days(401)), Some("event_time"));
    assert_eq!(refused_for(|e| e.input_tokens = -1), Some("input_tokens"));
    assert_eq!(refused_for(|e| e.output_tokens = MAX_AMOUNT + 1), Some("output_tokens"));
    assert_eq!(refused_for(|e| e.cached_input_tokens = e.input_tokens + 1), Some("cached_input_tokens"));
    assert_eq!(refused_for(|e| e.cost_nano_usd = -1), Some("cost_nano_usd"));
    assert_eq!(refused_for(|e| e.latency_ms = -1), Some("latency_ms"));
    assert_eq!(refused_for(|e| e.quantities = [("Seconds".to_owned(), 1)].into()), Some("quantities"));
    assert_eq!(refused_for(|e| e.quantities = [("second".to_owned(), -1)].into()), Some("quantities"));
    assert_eq!(refused_for(|e| e.requests = -1), Some("requests"));
    assert_eq!(refused_for(|e| e.requests = 2), Some("requests"), "each use is recorded by itself");
    let many = (0..33).map(|i| (format!("unit_{i}"), 1)).collect();
    assert_eq!(refused_for(|e| e.quantities = many), Some("quantities"));
}
