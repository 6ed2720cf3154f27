//! A provider that fails: what is tried again, what is charged, what the caller hears.

use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::Outcome;

use crate::scene::{Scene, chat, streamed};

#[tokio::test]
async fn a_failure_is_tried_again_each_time_under_its_own_reservation() {
    let scene = Scene::new().await;
    let answer = scene.invoke(&chat(3, "status=500,fail_times=2")).await.unwrap();
    assert_eq!(answer.accounting.unwrap().attempts, 3);
    assert_eq!(scene.ends().await, (3, 1, 2));
    assert_eq!(scene.provider.stats().requests, 3);
}

#[tokio::test]
async fn a_failure_that_stays_is_passed_on_in_its_class() {
    let scene = Scene::new().await;
    let failure = scene.invoke(&chat(1, "status=503")).await.unwrap_err();
    assert_eq!(failure.provider_error().unwrap().http_status, 503);
    assert_eq!(scene.ends().await, (3, 0, 3));
}

#[tokio::test]
async fn a_connection_that_is_reset_without_an_answer_is_tried_again() {
    let scene = Scene::new().await;
    assert!(scene.invoke(&chat(1, "reset=before,fail_times=1")).await.is_ok());
    assert_eq!(scene.ends().await, (2, 1, 1));
}

#[tokio::test]
async fn an_unreadable_answer_is_charged_as_if_all_the_reserved_output_was_produced() {
    for body in ["malformed", "html", "empty"] {
        let scene = Scene::new().await;
        let failure = scene.invoke(&chat(400, &format!("body={body}"))).await.unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::ProviderFailed, "{body}");
        let event = scene.settled().await;
        assert!(event.estimated && event.outcome() == Outcome::Broken, "{body}");
        assert_eq!(event.output_tokens, 400, "{body}");
    }
}

#[tokio::test]
async fn an_answer_that_never_begins_is_charged_as_reserved_and_not_tried_again() {
    let scene = Scene::new().await;
    let failure = scene.invoke(&chat(4, "hang=1")).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::DeadlineExceeded);
    let event = scene.settled().await;
    assert!(event.estimated && event.outcome() == Outcome::Unknown);
    assert_eq!(event.output_tokens, 4);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_charged_as_counted() {
    let scene = Scene::new().await;
    let (text, _, failure) = scene.stream_whole(&streamed(20, "cut_after=6")).await;
    assert_eq!(failure.unwrap().reason(), ErrorReason::ProviderFailed);
    assert_eq!(text.matches("data:").count(), 1 + 6, "the role and what came before the cut");
    let event = scene.settled().await;
    assert_eq!((event.output_tokens, event.estimated, event.outcome()), (6, true, Outcome::Broken));
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_cut() {
    let scene = Scene::new().await;
    let (_, _, failure) = scene.stream_whole(&streamed(20, "hang_after=3")).await;
    assert_eq!(failure.unwrap().reason(), ErrorReason::ProviderFailed);
    assert_eq!(scene.settled().await.output_tokens, 3);
}

#[tokio::test]
async fn nothing_is_tried_again_after_the_first_byte() {
    let scene = Scene::new().await;
    let (_, _, failure) = scene.stream_whole(&streamed(20, "cut_after=1")).await;
    assert!(failure.is_some());
    assert_eq!(scene.provider.stats().requests, 1);
}
