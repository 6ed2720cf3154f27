//! Kept answers in Redis: with a time to live, within a size for each owner, and gone at once when their owner wants it.
//!
//! An owner's entries belong to a generation. Entries of another one are not there any more, whatever is left of them; so a purge
//! is one write, and an answer that was asked for before it can't be stored after it.

use std::time::Duration;

use weir_redis::{Error, Redis, Script, redis};

use crate::domain::sealing::Name;

/// Which generation is current. Random, so that one that was lost never comes again.
pub(crate) type Generation = Vec<u8>;

/// The generation of an owner who has turned keeping off: nothing is taken or kept.
const OFF: &[u8] = b"off";
/// Longer than any entry lives.
const OUTLIVES: Duration = Duration::from_secs(40 * 86_400);
/// Longer than any broker goes by an old policy.
const OFF_FOR: Duration = Duration::from_secs(60);

/// Entries of one owner.
#[derive(Debug, Clone)]
pub(crate) struct Answers {
    redis: Redis,
    store: std::sync::Arc<Script>,
    purge: std::sync::Arc<Script>,
    revive: std::sync::Arc<Script>,
}

/// What is there for a name.
pub(crate) struct Looked {
    /// Empty: there is none yet.
    pub(crate) generation: Generation,
    pub(crate) entry: Option<Vec<u8>>,
}

impl Looked {
    /// Nothing may be kept.
    pub(crate) fn is_off(&self) -> bool {
        self.generation == OFF
    }
}

/// An entry that is to be stored.
pub(crate) struct NewEntry<'a> {
    pub(crate) owner: &'a str,
    pub(crate) name: &'a Name,
    /// As it was when the answer was looked for.
    pub(crate) generation: &'a [u8],
    /// Of the entry's time; random, for when there is none.
    pub(crate) fresh: [u8; 16],
    pub(crate) sealed: &'a [u8],
    pub(crate) ttl: Duration,
    /// The most of the owner's entries together.
    pub(crate) most: usize,
}

impl Answers {
    pub(crate) fn new(redis: Redis) -> Self {
        let script = |text| std::sync::Arc::new(Script::new(text));
        let revive = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0";
        Self {
            redis,
            store: script(include_str!("answers/store.lua")),
            purge: script(include_str!("answers/purge.lua")),
            revive: script(revive),
        }
    }

    /// Looks for an entry.
    pub(crate) async fn look(&self, owner: &str, name: &Name) -> Result<Looked, Error> {
        let mut command = redis::cmd("MGET");
        command.arg(key(owner, "generation")).arg(entry(owner, name));
        let (generation, entry): (Option<Vec<u8>>, Option<Vec<u8>>) = self.redis.command(&command).await?;
        let generation = generation.unwrap_or_default();
        // An entry begins with its generation.
        let entry = entry.filter(|entry| !generation.is_empty() && entry.starts_with(&generation));
        let entry = entry.map(|mut entry| entry.split_off(generation.len()));
        Ok(Looked { generation, entry })
    }

    /// Stores an entry; answers whether it did: it does not after a purge, and not what has no room.
    pub(crate) async fn store(&self, new: &NewEntry<'_>) -> Result<bool, Error> {
        let NewEntry { owner, name, generation, fresh, sealed, ttl, most } = new;
        let keys = [key(owner, "generation"), entry(owner, name), key(owner, "expiries"), key(owner, "sizes")];
        let (ttl, outlives, most) = (millis(*ttl), millis(OUTLIVES), most.to_string());
        let arguments: [&[u8]; 6] = [generation, fresh, sealed, ttl.as_bytes(), outlives.as_bytes(), most.as_bytes()];
        let stored: i64 = self.redis.run(&self.store, &keys, &arguments).await?;
        Ok(stored == 1)
    }

    /// An owner that was off may keep answers again.
    pub(crate) async fn revive(&self, owner: &str) -> Result<(), Error> {
        let keys = [key(owner, "generation")];
        let _: i64 = self.redis.run(&self.revive, &keys, &[OFF]).await?;
        Ok(())
    }

    /// Ends the generation, and deletes up to so many of its entries: answers how many, and whether that was all. `off`: nothing is
    /// kept for a while after it.
    pub(crate) async fn purge(&self, owner: &str, fresh: [u8; 16], off: bool) -> Result<(u64, bool), Error> {
        let keys = [key(owner, "generation"), key(owner, "expiries"), key(owner, "sizes")];
        let generation = if off { OFF } else { fresh.as_slice() };
        let lives = millis(if off { OFF_FOR } else { OUTLIVES });
        let arguments: [&[u8]; 2] = [generation, lives.as_bytes()];
        self.redis.run(&self.purge, &keys, &arguments).await
    }
}

fn key(owner: &str, what: &str) -> String {
    format!("weir:answers:{{{owner}}}:{what}")
}

fn entry(owner: &str, name: &Name) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits =
        name.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)]));
    key(owner, &digits.collect::<String>())
}

fn millis(span: Duration) -> String {
    span.as_millis().to_string()
}
