//! What a Redis Cluster is: its masters, each in its present life, and all of their data.
//!
//! One key can't tell whether another node has lost its data. So there are canaries: keys in slots that are spread evenly, each with
//! a value that nobody can guess. The identity of the cluster is a digest of the masters' run ids and of all canaries. Whatever
//! loses data changes it (a restart, a failover, a node that was emptied), and a new generation begins; a slot that is moved takes
//! its canary along.

use std::sync::OnceLock;

use futures::future::try_join_all;
use uuid::Uuid;
use weir_redis::Redis;
use weir_redis::redis::cmd;

use crate::storage::store::{Failure, Result};

/// One in so many slots has a canary: a node with fewer slots may have none.
const APART: u16 = 128;
const SLOTS: u16 = 16_384;

/// The cluster's identity.
pub(super) async fn identity(redis: &Redis) -> Result<String> {
    // First, as asking for them tells the driver of slots that have moved.
    let canaries = try_join_all(canaries().iter().map(|key| canary(redis, key))).await?;
    let infos: Vec<String> = redis.on_every_master(cmd("INFO").arg("server")).await?;
    let mut lives: Vec<&str> = Vec::with_capacity(infos.len());
    for info in &infos {
        let life = info.lines().find_map(|line| line.strip_prefix("run_id:"));
        lives.push(life.ok_or_else(|| Failure::answer("INFO"))?.trim());
    }
    lives.sort_unstable();
    let bytes = lives.iter().flat_map(|life| life.bytes()).chain(canaries.into_iter().flatten());
    Ok(format!("cluster-{:032x}", digest(bytes)))
}

/// The value of a canary; where there is none, a new one is put there.
async fn canary(redis: &Redis, key: &str) -> Result<Vec<u8>> {
    let value: Option<Vec<u8>> = redis.command(cmd("GET").arg(key)).await?;
    if let Some(value) = value {
        return Ok(value);
    }
    redis.command::<Option<()>>(cmd("SET").arg(key).arg(Uuid::new_v4().as_bytes()).arg("NX")).await?;
    let value: Option<Vec<u8>> = redis.command(cmd("GET").arg(key)).await?;
    value.ok_or_else(|| Failure::answer("SET"))
}

/// The canaries' keys, in the order of their slots.
fn canaries() -> &'static [String] {
    static KEYS: OnceLock<Vec<String>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut keys: Vec<Option<String>> = vec![None; usize::from(SLOTS / APART)];
        let mut missing = keys.len();
        for number in 0_u32.. {
            let tag = number.to_string();
            let slot = slot(tag.as_bytes());
            let place = &mut keys[usize::from(slot / APART)];
            if slot.is_multiple_of(APART) && place.is_none() {
                *place = Some(format!("wq3:{{{tag}}}canary"));
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
        keys.into_iter().flatten().collect()
    })
}

/// The slot of a hash tag: CRC-16/XMODEM, as the Redis Cluster specification has it.
fn slot(tag: &[u8]) -> u16 {
    let step = |crc: u16, byte: &u8| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 },
        )
    };
    tag.iter().fold(0, step) % SLOTS
}

/// FNV-1a of 128 bits.
fn digest(bytes: impl Iterator<Item = u8>) -> u128 {
    bytes.fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |digest: u128, byte| {
        (digest ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_that_of_the_specification() {
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b"user1000"), 3443);
    }

    #[test]
    fn canaries_are_spread_over_all_slots() {
        assert_eq!(canaries().len(), 128);
        for (place, key) in canaries().iter().enumerate() {
            let tag = key.split(['{', '}']).nth(1).unwrap();
            assert_eq!(usize::from(slot(tag.as_bytes())), 128 * place);
        }
    }
}
