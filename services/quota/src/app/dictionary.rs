//! What the numbers of limits stand for.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use weir_database::Database;

use crate::domain::{CounterKey, LimitId};
use crate::error::{Error, Result};
use crate::storage::limits;

/// The numbers that this process has seen. They never change their meaning.
#[derive(Debug)]
pub(super) struct Dictionary {
    database: Database,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<LimitId, Arc<CounterKey>>,
    by_key: HashMap<Arc<CounterKey>, LimitId>,
}

impl Known {
    fn add(&mut self, id: LimitId, key: CounterKey) {
        let key = Arc::new(key);
        self.by_id.insert(id, Arc::clone(&key));
        self.by_key.insert(key, id);
    }
}

impl Dictionary {
    pub(super) fn new(database: Database) -> Self {
        Self { database, known: RwLock::default() }
    }

    /// The numbers of these, in their order; new ones get one.
    pub(super) async fn numbers(&self, keys: &[CounterKey]) -> Result<Vec<LimitId>> {
        let found: Option<Vec<LimitId>> = {
            let known = self.known.read();
            keys.iter().map(|key| known.by_key.get(key).copied()).collect()
        };
        if let Some(ids) = found {
            return Ok(ids);
        }
        let ids = self.database.bounded(limits::intern(self.database.pool(), keys)).await?;
        let mut known = self.known.write();
        for (id, key) in ids.iter().zip(keys) {
            known.add(*id, key.clone());
        }
        Ok(ids)
    }

    /// What numbers stand for, in their order.
    pub(super) async fn keys(&self, ids: &[LimitId]) -> Result<Vec<Arc<CounterKey>>> {
        match self.known(ids) {
            Some(keys) => Ok(keys),
            None => Box::pin(self.look_up(ids)).await,
        }
    }

    fn known(&self, ids: &[LimitId]) -> Option<Vec<Arc<CounterKey>>> {
        let known = self.known.read();
        ids.iter().map(|id| known.by_id.get(id).cloned()).collect()
    }

    async fn look_up(&self, ids: &[LimitId]) -> Result<Vec<Arc<CounterKey>>> {
        let found = self.database.bounded(limits::find(self.database.pool(), ids)).await?;
        {
            let mut known = self.known.write();
            found.into_iter().for_each(|(id, key)| known.add(id, key));
        }
        self.known(ids).ok_or_else(|| Error::Invalid("handle", "names a limit that nobody has".to_owned()))
    }
}
