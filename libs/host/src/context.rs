//! What a service is given to start with.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_config::MasterKey;
use weir_discovery::Directory;
use weir_rpc::{Channel, LocalSlot, Revocations, ServiceIdentity};
use weir_types::Clock;

/// Everything that a service needs from its process. Handed in; there is no global.
#[derive(Clone)]
pub struct Context {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The ways to the siblings.
    pub channels: Channels,
    /// Where background tasks are spawned; they are awaited at the end.
    pub tasks: TaskTracker,
    /// Cancelled when no call comes any more: finish what is there, and end. (Not at the signal itself: until the last
    /// request is answered, background work must go on.)
    pub shutdown: CancellationToken,
    /// The deployment's key.
    pub master: MasterKey,
    /// This process among its like.
    pub instance: String,
    /// The largest message: for the generated server's and clients' `max_decoding_message_size`.
    pub max_message_bytes: usize,
    /// Revocations as this process learns of them: for who caches credentials.
    pub revocations: Revocations,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("instance", &self.instance)
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

/// The ways to the siblings, one per name, made when first asked for.
#[derive(Clone)]
pub struct Channels(Arc<Inner>);

struct Inner {
    open: Mutex<HashMap<String, Channel>>,
    source: Option<Source>,
}

/// Where channels come from.
pub(crate) struct Source {
    pub(crate) identity: ServiceIdentity,
    pub(crate) slots: HashMap<&'static str, LocalSlot>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) config: weir_rpc::Config,
}

impl Channels {
    pub(crate) fn new(source: Source) -> Self {
        Self(Arc::new(Inner { open: Mutex::default(), source: Some(source) }))
    }

    /// These channels and no others: for tests.
    #[must_use]
    pub fn fixed(channels: impl IntoIterator<Item = (&'static str, Channel)>) -> Self {
        let open = channels.into_iter().map(|(name, channel)| (name.to_owned(), channel)).collect();
        Self(Arc::new(Inner { open: Mutex::new(open), source: None }))
    }

    /// The way to the service `name`: inside this process if it is here, else to the instances that the directory knows.
    ///
    /// # Panics
    /// When the channels are [`fixed`](Self::fixed) and this one is not among them.
    #[expect(clippy::expect_used, reason = "a test that forgot a sibling")]
    #[must_use]
    pub fn to(&self, name: &str) -> Channel {
        let mut open = self.0.open.lock();
        if let Some(channel) = open.get(name) {
            return channel.clone();
        }
        let source = self.0.source.as_ref().expect("a channel that the test has set up");
        let channel = match source.slots.get(name) {
            Some(slot) => Channel::local(slot.clone(), source.identity.clone(), &source.config),
            None => Channel::remote(&source.directory, name, source.identity.clone(), &source.config),
        };
        open.insert(name.to_owned(), channel.clone());
        channel
    }
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.open.lock().values()).finish()
    }
}
