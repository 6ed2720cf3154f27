//! Work that its client may leave, and that must be finished all the same.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_util::task::TaskTracker;

/// Tells whether the client is still there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Presence(Arc<AtomicBool>);

impl Presence {
    /// The client has left.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A future that goes on in the background, for a bounded time, when it is dropped before its end.
pub(crate) struct Finishing<F: Future + Send + 'static>
where
    F::Output: Send,
{
    future: Option<Pin<Box<F>>>,
    presence: Presence,
    tasks: TaskTracker,
    bound: Duration,
}

impl<F: Future + Send + 'static> Finishing<F>
where
    F::Output: Send,
{
    /// The future that `start` makes; it can look at the presence to spare what nobody waits for.
    pub(crate) fn new(tasks: &TaskTracker, bound: Duration, start: impl FnOnce(Presence) -> F) -> Self {
        let presence = Presence::default();
        let future = Some(Box::pin(start(presence.clone())));
        Self { future, presence, tasks: tasks.clone(), bound }
    }
}

impl<F: Future + Send + 'static> Future for Finishing<F>
where
    F::Output: Send,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let output = std::task::ready!(future.as_mut().poll(context));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<F: Future + Send + 'static> Drop for Finishing<F>
where
    F::Output: Send,
{
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            self.presence.0.store(true, Ordering::Relaxed);
            let bounded = tokio::time::timeout(self.bound, future);
            self.tasks.spawn(async move { drop(bounded.await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_dropped_is_finished_in_the_background() {
        let tasks = TaskTracker::new();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let work = Finishing::new(&tasks, Duration::from_secs(5), |presence| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            sender.send(presence.is_gone()).expect("the test waits");
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), work).await.is_err());
        assert_eq!(receiver.await, Ok(true));
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn what_is_awaited_ends_where_it_is_and_leaves_nothing_behind() {
        let tasks = TaskTracker::new();
        let gone = Finishing::new(&tasks, Duration::from_secs(5), |presence| async move { presence.is_gone() }).await;
        assert!(!gone);
        assert!(tasks.is_empty());
    }
}
