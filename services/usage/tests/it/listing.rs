use weir_types::{OrganizationId, UserId};
use weir_usage::app::{ListEvents, list_events};
use weir_usage::domain::Event;

use crate::fixture::{Usage, database, event};

async fn pages(usage: &Usage, mut list: ListEvents) -> Vec<Vec<Event>> {
    let mut pages = Vec::new();
    loop {
        let (events, next) = list_events(&usage.store, &list).await.unwrap();
        pages.push(events);
        if next.is_empty() {
            return pages;
        }
        list.page_token = next;
    }
}

#[tokio::test]
async fn events_are_listed_newest_first_page_by_page_each_once() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let organization = OrganizationId::new_v7();
    let user = UserId::new_v7();
    let mut events: Vec<Event> =
        (0..7).map(|at| Event { user: (at % 2 == 0).then_some(user), ..event(organization) }).collect();
    // One id may stand for an event in each of several sources; a page may end between them.
    events.push(Event { source: "studio".to_owned(), ..events[3].clone() });
    usage.record(&events).await;
    usage.record(&[event(OrganizationId::new_v7())]).await;
    events.sort_by(|a, b| (b.id, &b.source).cmp(&(a.id, &a.source)));
    let list = ListEvents { organization, user: None, page_size: 2, page_token: String::new() };
    let listed = pages(&usage, list.clone()).await;
    assert_eq!(listed.len(), 4);
    assert_eq!(listed.concat(), events);
    let of_user: Vec<Event> = events.into_iter().filter(|event| event.user == Some(user)).collect();
    assert_eq!(pages(&usage, ListEvents { user: Some(user), page_size: 3, ..list }).await.concat(), of_user);
}

#[tokio::test]
async fn a_page_token_of_another_list_is_refused() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let organization = OrganizationId::new_v7();
    usage.record(&[event(organization), event(organization)]).await;
    let list = ListEvents { organization, user: None, page_size: 1, page_token: String::new() };
    let (_, token) = list_events(&usage.store, &list).await.unwrap();
    assert!(!token.is_empty());
    for (organization, user, token) in [
        (OrganizationId::new_v7(), None, token.as_str()),
        (organization, Some(UserId::new_v7()), token.as_str()),
        (organization, None, "bogus"),
    ] {
        let other = ListEvents { organization, user, page_token: token.to_owned(), ..list.clone() };
        let refused = list_events(&usage.store, &other).await;
        assert!(matches!(refused, Err(weir_usage::Error::InvalidPageToken(_))), "{refused:?}");
    }
    let negative = ListEvents { page_size: -1, ..list };
    assert!(matches!(list_events(&usage.store, &negative).await, Err(weir_usage::Error::NegativePageSize(_))));
}
