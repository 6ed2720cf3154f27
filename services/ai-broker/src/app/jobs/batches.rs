//! Many small writes as one transaction: what comes while one is under way goes with the next.

use tokio::sync::{Mutex, mpsc, oneshot};

/// The most in one transaction.
const MOST: usize = 500;

/// Where writes are handed in.
pub(super) struct Batches<T, R> {
    sender: mpsc::Sender<(T, oneshot::Sender<R>)>,
}

/// The other end, for one who writes or several in turn.
pub(super) struct Batched<T, R> {
    receiver: Mutex<mpsc::Receiver<(T, oneshot::Sender<R>)>>,
}

impl<T, R> Batches<T, R> {
    /// With room for so many that wait.
    pub(super) fn new(room: usize) -> (Self, Batched<T, R>) {
        let (sender, receiver) = mpsc::channel(room);
        (Self { sender }, Batched { receiver: Mutex::new(receiver) })
    }

    /// Hands one in and waits for what comes of it; none if nobody writes any more.
    pub(super) async fn write(&self, item: T) -> Option<R> {
        let (answer, answered) = oneshot::channel();
        self.sender.send((item, answer)).await.ok()?;
        answered.await.ok()
    }
}

impl<T, R> Batched<T, R> {
    /// What waits, once something does; none when nothing can come any more.
    pub(super) async fn next(&self) -> Option<(Vec<T>, Vec<oneshot::Sender<R>>)> {
        let mut batch = Vec::new();
        if self.receiver.lock().await.recv_many(&mut batch, MOST).await == 0 {
            return None;
        }
        Some(batch.into_iter().unzip())
    }

    /// Takes no more; what was handed in before is given still.
    pub(super) async fn close(&self) {
        self.receiver.lock().await.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_meanwhile_goes_together_and_each_gets_its_own_answer() {
        let (batches, batched) = Batches::<u32, u32>::new(10);
        let callers = futures::future::join_all((0..10).map(|n| batches.write(n)));
        let writer = async {
            let mut sizes = Vec::new();
            while sizes.iter().sum::<usize>() < 10 {
                let (items, answers) = batched.next().await.expect("somebody writes");
                sizes.push(items.len());
                for (item, answer) in items.into_iter().zip(answers) {
                    answer.send(item * 2).expect("the caller waits");
                }
            }
            sizes
        };
        let (answers, sizes) = tokio::join!(callers, writer);
        assert_eq!(answers, (0..10).map(|n| Some(n * 2)).collect::<Vec<_>>());
        assert!(sizes.len() < 10, "{sizes:?}");
        batched.close().await;
        assert_eq!(batches.write(1).await, None);
    }
}
