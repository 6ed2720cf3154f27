//! Leases: announcing them again, taking them over.

use std::time::Duration;

use weir_redis::redis::cmd;
use weir_types::{OrganizationId, ReservationId};

use super::program::Program;
use super::{Keys, Scripts, Store, reservation_field, reservation_of};
use crate::domain::{LimitId, Millis, Value};
use crate::storage::store::{Announce, Announced, Expired, Failure, Record, Result};

impl Store {
    /// Counts a reservation again.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn announce(
        &self,
        scripts: &Scripts,
        organization: &OrganizationId,
        announce: &Announce,
    ) -> Result<Announced> {
        let keys = keys(organization, &announce.concurrent);
        let mut subjects: Vec<&Value> = Vec::new();
        let mut program = Program::with_capacity(4 + 7 * announce.counters.len());
        let lease = i64::try_from(announce.lease.as_millis()).unwrap_or(i64::MAX);
        program.push([i64::try_from(scripts.generation).unwrap_or(i64::MAX), lease]);
        program.push([i64::from(announce.loaded)]).push_len(announce.counters.len());
        for counter in &announce.counters {
            let place = subjects.iter().position(|known| **known == counter.value).unwrap_or_else(|| {
                subjects.push(&counter.value);
                subjects.len() - 1
            });
            let rolling = i64::from(counter.rolling.is_some());
            program.push_len(place + 1);
            program.push([
                i64::from(counter.limit),
                rolling,
                i64::from(counter.durable),
                counter.place,
                counter.amount,
            ]);
            program.push([counter.rolling.unwrap_or(0)]);
        }
        let id = reservation_field(&announce.id);
        let record = announce.record.encode();
        let fields: Vec<Vec<u8>> = subjects.iter().map(|value| value.field()).collect();
        let mut args: Vec<&[u8]> = vec![&id, program.bytes(), &record];
        args.extend(fields.iter().map(Vec::as_slice));
        let letter: Vec<u8> = self.eval(&scripts.announce, &keys, &args).await?;
        match letter.as_slice() {
            b"E" => Ok(Announced::Extended),
            b"N" => Ok(Announced::Announced),
            b"S" => Ok(Announced::Settled),
            b"C" => Ok(Announced::Cold),
            _ => Err(Failure::answer("announce")),
        }
    }

    /// Leases expired reservations of a tenant to the caller.
    ///
    /// # Errors
    /// When the store did not answer; then those that it had leased expire again.
    pub async fn take_over(
        &self,
        scripts: &Scripts,
        organization: &OrganizationId,
        most: usize,
        lease: Duration,
    ) -> Result<Vec<Expired>> {
        let keys = Keys::new(organization);
        let (most, lease) = (most.to_string(), lease.as_millis().to_string());
        let keys = [keys.state(), keys.leases()];
        let values: Vec<Vec<u8>> = self.eval(&scripts.take_over, &keys, &[most.as_bytes(), lease.as_bytes()]).await?;
        let expired = values.chunks_exact(2).map(|pair| {
            let (id, record) = (reservation_of(&pair[0]), Record::decode(&pair[1]));
            id.zip(record).map(|(id, record)| Expired { id, record }).ok_or_else(|| Failure::answer("take_over"))
        });
        expired.collect()
    }

    /// Some of a tenant's held reservations of other generations, each with the end of its lease, and the cursor for the next;
    /// from cursor 0 to cursor 0 all that are there throughout.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn kept(
        &self,
        generation: u64,
        organization: &OrganizationId,
        cursor: u64,
    ) -> Result<(u64, Vec<(Expired, Millis)>)> {
        const PAGE: usize = 250;
        let keys = Keys::new(organization);
        let mut scan = cmd("ZSCAN");
        scan.arg(keys.leases()).arg(cursor).arg("COUNT").arg(PAGE);
        let (next, leases): (u64, Vec<(Vec<u8>, f64)>) = self.redis.command(&scan).await?;
        if leases.is_empty() {
            return Ok((next, Vec::new()));
        }
        let mut read = cmd("HMGET");
        read.arg(keys.state());
        for (id, _) in &leases {
            read.arg(id);
        }
        let records: Vec<Option<Vec<u8>>> = self.redis.command(&read).await?;
        let held = leases.into_iter().zip(records).filter_map(|((id, ends), record)| {
            let record = Record::decode(&record?)?;
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
            (record.generation != generation).then_some((Expired { id: reservation_of(&id)?, record }, ends as Millis))
        });
        Ok((next, held.collect()))
    }

    /// A held reservation.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn find(&self, organization: &OrganizationId, id: &ReservationId) -> Result<Option<Record>> {
        let mut command = cmd("HGET");
        command.arg(Keys::new(organization).state()).arg(&reservation_field(id));
        let value: Option<Vec<u8>> = self.redis.command(&command).await?;
        Ok(value.and_then(|bytes| Record::decode(&bytes)))
    }
}

pub(super) fn keys(organization: &OrganizationId, concurrent: &[(LimitId, Value)]) -> Vec<Vec<u8>> {
    let keys = Keys::new(organization);
    let mut all = vec![keys.state(), keys.leases()];
    all.extend(concurrent.iter().map(|(limit, value)| keys.concurrent(*limit, value)));
    all
}
