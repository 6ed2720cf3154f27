//! Exchanges under way, so that a crowd with one credential asks auth once.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

use super::{Caller, Hash};
use crate::refusal::Refusal;

type Outcome = Result<Arc<Caller>, Refusal>;
type UnderWay = Mutex<HashMap<Hash, WeakShared<BoxFuture<'static, Outcome>>>>;

/// By credential. Weak: an exchange that nobody waits for any more is given up.
#[derive(Default)]
pub(super) struct Exchanges(Arc<UnderWay>);

impl Exchanges {
    /// The exchange that is under way for this credential, else a new one.
    pub(super) fn join<F>(&self, credential: Hash, begin: impl FnOnce() -> F) -> Shared<BoxFuture<'static, Outcome>>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut under_way = self.0.lock();
        if let Some(shared) = under_way.get(&credential).and_then(WeakShared::upgrade) {
            return shared;
        }
        let over = Over { under_way: Arc::clone(&self.0), credential };
        let exchange = begin();
        let exchange = async move {
            let _over = over;
            exchange.await
        };
        let shared = exchange.boxed().shared();
        if let Some(weak) = shared.downgrade() {
            under_way.insert(credential, weak);
        }
        shared
    }
}

/// Takes the exchange off the list when it has ended or was given up.
struct Over {
    under_way: Arc<UnderWay>,
    credential: Hash,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.credential);
    }
}
