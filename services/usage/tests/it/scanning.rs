use futures::TryStreamExt as _;
use uuid::Uuid;
use weir_types::{OrganizationId, ReservationId};
use weir_usage::app::scan_events;
use weir_usage::domain::Event;

use crate::fixture::{Usage, database, event};

async fn scan(usage: &Usage, organization: Option<OrganizationId>, after: ReservationId) -> Vec<Vec<Event>> {
    scan_events(usage.store.clone(), organization, after).try_collect().await.unwrap()
}

#[tokio::test]
async fn a_scan_meets_every_event_once_in_the_order_of_ids_and_can_be_taken_up_after_any_chunk() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let (one, two) = (OrganizationId::new_v7(), OrganizationId::new_v7());
    let mut events: Vec<Event> = (0..2500).map(|at| event(if at % 3 == 0 { one } else { two })).collect();
    // The first chunk would end between two events of one id.
    events.push(Event { source: "studio".to_owned(), ..events[999].clone() });
    events.push(Event { organization: OrganizationId::new_v7(), ..events[999].clone() });
    // Recorded in another order than that of ids.
    for batch in events.chunks(700).rev() {
        usage.record(batch).await;
    }
    let from_start = Uuid::nil().into();
    let chunks = scan(&usage, None, from_start).await;
    let found = chunks.concat();
    assert_eq!(found.len(), 2502);
    assert!(found.is_sorted_by_key(|event| event.id));
    for pair in chunks.windows(2) {
        let (last, next) = (pair[0].last().unwrap().id, pair[1][0].id);
        assert!(last < next, "a chunk ends within an id");
        assert_eq!(scan(&usage, None, last).await[0][0].id, next);
    }
    let of_one = scan(&usage, Some(one), from_start).await.concat();
    assert_eq!(of_one.len(), 835);
    assert!(of_one.iter().all(|event| event.organization == one) && of_one.is_sorted_by_key(|event| event.id));
    assert_eq!(scan(&usage, Some(OrganizationId::new_v7()), from_start).await, Vec::<Vec<Event>>::new());
}
