//! Leases: announcing them again, taking them over.

use std::time::Duration;

use weir_redis::redis::cmd;
use weir_types::{OrganizationId, ReservationId};

use super::program::Program;
use super::sheets::Sheets;
use super::{Keys, Scripts, Store, concurrency_field, record, reservation_field, reservation_of};
use crate::domain::{Millis, Value, lease};
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
        let of = Keys::new(organization);
        let mut subjects: Vec<&Value> = Vec::new();
        let mut body = Program::with_capacity(7 * announce.counters.len());
        for counter in &announce.counters {
            let place = subjects.iter().position(|known| **known == counter.value).unwrap_or_else(|| {
                subjects.push(&counter.value);
                subjects.len() - 1
            });
            let rolling = i64::from(counter.rolling.is_some());
            body.push_len(place + 1);
            body.push([i64::from(counter.limit), rolling, i64::from(counter.durable), counter.place, counter.amount]);
            body.push([counter.rolling.unwrap_or(0)]);
        }
        let lease = millis(announce.lease);
        let mut program = Program::with_capacity(6 + 7 * announce.counters.len());
        program.push([i64::try_from(scripts.generation).unwrap_or(i64::MAX), lease, lease::grain(lease)]);
        program.push_len(subjects.len()).push([i64::from(announce.loaded)]).push_len(announce.counters.len());
        program.append(&body);
        let id = reservation_field(&announce.id);
        let record = announce.record.encode();
        let limits = announce.concurrent.iter().map(|(limit, value)| concurrency_field(*limit, value));
        let fields: Vec<Vec<u8>> = subjects.iter().map(|value| value.field()).chain(limits).collect();
        let mut args: Vec<&[u8]> = vec![&id, program.bytes(), &record];
        args.extend(fields.iter().map(Vec::as_slice));
        let letter: Vec<u8> = self.eval(&scripts.announce, &[of.state(), of.leases()], &args).await?;
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
        let mut taken = Vec::new();
        let mut skip = 0;
        while taken.len() < most {
            let due = self.due(scripts, organization, most - taken.len(), lease, skip).await?;
            skip += due.still;
            let records = due.held.into_iter().map(|(id, _, record)| Expired { id, record });
            taken.extend(records);
            if !due.more {
                break;
            }
        }
        Ok(taken)
    }

    /// Forgets what the leases of a tenant still tell of settled reservations, where they would have ended.
    pub(super) async fn tidy(&self, scripts: &Scripts, organization: &OrganizationId) -> Result<()> {
        let mut skip = 0;
        loop {
            let due = self.due(scripts, organization, 0, Duration::ZERO, skip).await?;
            skip += due.still;
            if !due.more {
                return Ok(());
            }
        }
    }

    /// Looks at the next leases that may have ended, and takes over up to so many reservations.
    async fn due(
        &self,
        scripts: &Scripts,
        organization: &OrganizationId,
        most: usize,
        lease: Duration,
        skip: usize,
    ) -> Result<Due> {
        /// Each may be a batch of reservations: about a millisecond's work.
        const AT_ONCE: usize = 32;
        let keys = Keys::new(organization);
        let lease = millis(lease);
        let mut program = Program::with_capacity(5);
        program.push_len(most).push([lease, lease::grain(lease)]).push_len(skip).push_len(AT_ONCE);
        let answer: (u8, usize, Vec<Vec<u8>>, Vec<Vec<u8>>) =
            self.eval(&scripts.due, &[keys.state(), keys.leases()], &[program.bytes()]).await?;
        let (more, still, held, sheets) = answer;
        Ok(Due { more: more == 1, still, held: records(&held, sheets)? })
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
        /// Each may be a batch of reservations.
        const PAGE: usize = 16;
        let keys = Keys::new(organization);
        let mut scan = cmd("ZSCAN");
        scan.arg(keys.leases()).arg(cursor).arg("COUNT").arg(PAGE);
        let (next, leases): (u64, Vec<(Vec<u8>, f64)>) = self.redis.command(&scan).await?;
        let mut kept = Vec::new();
        for members in leases.chunks(PAGE) {
            let members: Vec<&[u8]> = members.iter().map(|(member, _)| member.as_slice()).collect();
            let held = self.records(organization, &members).await?;
            let old = held.into_iter().filter(|(_, _, record)| record.generation != generation);
            kept.extend(old.map(|(id, ends, record)| (Expired { id, record }, ends)));
        }
        Ok((next, kept))
    }

    /// A held reservation.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn find(&self, organization: &OrganizationId, id: &ReservationId) -> Result<Option<Record>> {
        let held = self.records(organization, &[&reservation_field(id)]).await?;
        Ok(held.into_iter().next().map(|(_, _, record)| record))
    }

    /// The held reservations of some members of a tenant's leases.
    pub(super) async fn records(&self, organization: &OrganizationId, members: &[&[u8]]) -> Result<Vec<Held>> {
        let mut command = cmd("EVAL");
        command.arg(RECORDS).arg(1).arg(Keys::new(organization).state()).arg(members);
        let (held, sheets): (Vec<Vec<u8>>, Vec<Vec<u8>>) = self.redis.command(&command).await?;
        records(&held, sheets)
    }
}

/// Of no generation: it only reads.
const RECORDS: &str = concat!(include_str!("lua/sheets.lua"), include_str!("lua/records.lua"));

/// A held reservation, when its lease ends, and what is known of it.
pub(super) type Held = (ReservationId, Millis, Record);

/// What was due.
struct Due {
    more: bool,
    /// How many of those that were looked at still are.
    still: usize,
    held: Vec<Held>,
}

/// What scripts answer of held reservations: reservation, value, and so on; and their sheets.
fn records(held: &[Vec<u8>], sheets: Vec<Vec<u8>>) -> Result<Vec<Held>> {
    let sheets = Sheets::new(sheets);
    let read = |pair: &[Vec<u8>]| {
        let held = record::Held::read(&pair[1])?;
        Some((reservation_of(&pair[0])?, held.ends, sheets.record(&pair[0], &held)?))
    };
    let records: Option<Vec<Held>> = held.chunks_exact(2).map(read).collect();
    records.ok_or_else(|| Failure::answer("the leases"))
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
