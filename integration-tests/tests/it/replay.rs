//! The main job: recorded requests go through the public API, and all books agree with the file.

use weir_integration_tests::client::Ending;
use weir_integration_tests::deployment::{Deployment, Mode, Options};
use weir_integration_tests::replay::{Replayed, Speed, replay};
use weir_integration_tests::trace::Trace;

async fn replay_the_excerpt(mode: Mode) -> Replayed {
    let deployment = Deployment::start(Options::new(mode)).await.unwrap();
    let trace = Trace::excerpt().unwrap();
    let replayed = replay(&deployment, &trace.rows, Speed::Max, 3, 32, |_| ()).await.unwrap();
    deployment.stop().await.unwrap();
    replayed
}

fn assert_balanced(replayed: &Replayed) {
    let failed = replayed.outcome.answers.iter().find(|(.., observed)| observed.ending != Ending::Complete);
    assert!(failed.is_none(), "{failed:?}");
    assert!(replayed.balance.balanced(), "{}", replayed.balance.text());
    assert!(replayed.audited.clean, "{}", replayed.audited.text);
    let books = &replayed.books;
    assert_eq!((books.quota.estimated, books.usage.estimated, books.billing.estimated), (0, 0, 0));
    assert_eq!((books.usage.totals.requests, books.usage.totals.output_tokens), (300, 76_870));
}

#[tokio::test]
async fn all_books_agree_with_the_file_in_one_process() {
    assert_balanced(&replay_the_excerpt(Mode::One).await);
}

#[tokio::test]
async fn all_books_agree_with_the_file_in_separate_processes() {
    assert_balanced(&replay_the_excerpt(Mode::Separate).await);
}
