//! Accounts of limits across tenants. Each is in a slot of its own: `ws1:{limit:value}a` is its hash, `…s`, `…u` and `…e` the seats of
//! a concurrency limit, the undecided ones of them, and the calls that have ended; `ws1:{accounts}` lists them all.

use std::sync::Arc;
use std::time::Duration;

use weir_redis::redis::{Cmd, Value as Reply, cmd, from_redis_value, pipe};

use super::program::{self, Program};
use super::{Failure, Result, Scripts, Store, reservation_field, reservation_of};
use crate::domain::Millis;
use crate::domain::shared::{
    AccountKey, Answer, Ending, HolderId, LeaseReply, LeaseRound, Measure, Reply as Said, Round, Seat, Use,
    leases::UNDECIDED,
};
use crate::storage::store::{AccountContents, InstallAccount};

/// Fields and values of a hash.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

const ACCOUNTS: &str = "ws1:{accounts}";

fn key(account: &AccountKey, suffix: u8) -> Vec<u8> {
    // The digit is the layout's version, as of the tenants' keys.
    let mut key = format!("ws1:{{{}:{}}}", account.limit, account.value).into_bytes();
    key.push(suffix);
    key
}

fn generation(scripts: &Scripts) -> i64 {
    i64::try_from(scripts.generation).unwrap_or(i64::MAX)
}

impl Store {
    /// One message to an account.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again, with a later `seq`, is safe.
    pub async fn shared_round(&self, scripts: &Scripts, account: &AccountKey, round: &Round) -> Result<Said> {
        let answer: Vec<u8> = self.send(&round_command(scripts, account, round)).await?;
        said(&answer).ok_or_else(|| Failure::answer("shared_round"))
    }

    /// One message about an account's seats.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn shared_leases(
        &self,
        scripts: &Scripts,
        account: &AccountKey,
        round: &LeaseRound,
    ) -> Result<LeaseReply> {
        let mut program = Program::with_capacity(8 + round.extended.len() + round.wanted.len());
        program.push([round.cap, round.remember, UNDECIDED]);
        program.push_len(round.ended.len()).push_len(round.given_back.len()).push_len(round.decided.len());
        program.push_len(round.extended.len()).push_len(round.wanted.len());
        for (_, lease) in round.extended.iter().chain(&round.wanted) {
            program.push([*lease]);
        }
        let known = round.ended.iter().chain(&round.given_back).chain(&round.decided);
        let ids = known.chain(round.extended.iter().chain(&round.wanted).map(|(id, _)| id));
        let fields: Vec<[u8; 17]> = ids.map(reservation_field).collect();
        let mut args: Vec<&[u8]> = vec![program.bytes()];
        args.extend(fields.iter().map(<[u8; 17]>::as_slice));
        let keys = [key(account, b's'), key(account, b'u'), key(account, b'e')];
        let answer: Vec<u8> = self.eval(&scripts.shared_leases, &keys, &args).await?;
        seats(&answer)
            .filter(|reply| reply.seats.len() == round.wanted.len())
            .ok_or_else(|| Failure::answer("shared_leases"))
    }

    /// The fence of an account: it stands until the store is emptied. Take it before reading what will be installed.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn shared_fence(&self, account: &AccountKey) -> Result<Vec<u8>> {
        let key = key(account, b'a');
        let mut pipeline = pipe();
        pipeline.cmd("HSETNX").arg(&key).arg(b"!").arg(uuid::Uuid::now_v7().as_bytes()).ignore();
        pipeline.cmd("HGET").arg(&key).arg(b"!");
        let values = self.redis.pipeline(&pipeline).await?;
        let fence = values.into_iter().next_back().and_then(|value: Reply| from_redis_value(value).ok());
        fence.ok_or_else(|| Failure::answer("shared_fence"))
    }

    /// Puts an account's totals in place, unless it is in this generation already; false if the fence is gone.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn shared_install(
        &self,
        scripts: &Scripts,
        account: &AccountKey,
        fence: &[u8],
        install: &InstallAccount,
    ) -> Result<bool> {
        let mut program = Program::with_capacity(5 + 2 * install.buckets.len());
        program.push([generation(scripts), install.period, install.total.0, install.total.1]);
        program.push_len(install.buckets.len());
        for (end, amount) in &install.buckets {
            program.push([*end, *amount]);
        }
        let answer: i64 = self.eval(&scripts.shared_install, &[key(account, b'a')], &[fence, program.bytes()]).await?;
        Ok(answer == 1)
    }

    /// Notes that an account may have something from now on.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn shared_register(&self, account: &AccountKey, now_seconds: i64) -> Result<()> {
        let mut member = account.limit.to_le_bytes().to_vec();
        member.extend_from_slice(account.value.as_bytes());
        Ok(self.redis.command::<()>(cmd("ZADD").arg(ACCOUNTS).arg(now_seconds).arg(member)).await?)
    }

    /// All accounts that may have something, with when (seconds) they were registered.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn shared_accounts(&self) -> Result<Vec<(AccountKey, i64)>> {
        let pairs: Vec<(Vec<u8>, i64)> =
            self.redis.command(cmd("ZRANGE").arg(ACCOUNTS).arg(0).arg(-1).arg("WITHSCORES")).await?;
        let account = |(member, registered): (Vec<u8>, i64)| {
            let (limit, value) = member.split_first_chunk::<4>()?;
            let value: Arc<str> = String::from_utf8(value.to_vec()).ok()?.into();
            Some((AccountKey { limit: u32::from_le_bytes(*limit), value }, registered))
        };
        Ok(pairs.into_iter().filter_map(account).collect())
    }

    /// Removes what can't matter any more from a part of an account; answers the next cursor (`0` at the end) and how many fields
    /// are left.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn shared_sweep(
        &self,
        scripts: &Scripts,
        account: &AccountKey,
        cursor: &str,
        keep_marks: Duration,
    ) -> Result<(String, u64)> {
        let keep = keep_marks.as_millis().to_string();
        let keys = [key(account, b'a')];
        self.eval(&scripts.shared_sweep, &keys, &[cursor.as_bytes(), b"250", keep.as_bytes()]).await
    }

    /// The processes that an account has slices for, each with the end of its lease by the account's clock; and that clock.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn shared_holders(&self, account: &AccountKey) -> Result<(Vec<(HolderId, Millis)>, Millis)> {
        let mut get = cmd("HGET");
        get.arg(key(account, b'a')).arg("p");
        let holders: Option<Vec<u8>> = self.redis.command(&get).await?;
        let (seconds, micros): (Millis, Millis) = self.redis.command(&cmd("TIME")).await?;
        let holder = |one: &[u8]| Some((one.get(..16)?.try_into().ok()?, program::number(one, 24)?));
        let holders = holders.unwrap_or_default().chunks_exact(56).filter_map(holder).collect();
        Ok((holders, seconds * 1_000 + micros / 1_000))
    }

    /// Forgets a process whose lease has ended.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn shared_forget(&self, scripts: &Scripts, account: &AccountKey, holder: &HolderId) -> Result<bool> {
        let gone: i64 = self.eval(&scripts.shared_forget, &[key(account, b'a')], &[holder]).await?;
        Ok(gone == 1)
    }

    /// Takes a turn at looking after an account's dead processes; false if another process has it.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn shared_turn(&self, account: &AccountKey, holder: &HolderId, span: Duration) -> Result<bool> {
        let mut command = cmd("SET");
        command.arg(key(account, b't')).arg(holder).arg("NX").arg("PX").arg(span.as_millis().to_string());
        let done: Option<String> = self.redis.command(&command).await?;
        Ok(done.is_some())
    }

    /// What an account holds.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn shared_contents(&self, account: &AccountKey) -> Result<AccountContents> {
        let mut contents = AccountContents::default();
        let (mut cursor, hash) = ("0".to_owned(), key(account, b'a'));
        let mut records = Vec::new();
        let mut header = Vec::new();
        loop {
            let mut command = cmd("HSCAN");
            command.arg(&hash).arg(&cursor).arg("COUNT").arg(1_000);
            let (next, fields): (String, Fields) = self.redis.command(&command).await?;
            for (field, value) in fields {
                match (field.as_slice(), reservation_of(&field), value.split_first()) {
                    (b"h", ..) => header = program::numbers(&value),
                    (b"p", ..) => {
                        contents.slices = value.chunks_exact(56).filter_map(|one| program::number(one, 16)).sum()
                    }
                    (_, Some(id), Some((b'R', rest))) => records.push((id, program::numbers(rest))),
                    _ => {}
                }
            }
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
        if let [generation, period, spent, held, ..] = header[..] {
            (contents.generation, contents.period) = (u64::try_from(generation).unwrap_or(0), period);
            (contents.spent, contents.held_sum) = (spent, held);
            let counts = |record: &[i64]| record[0] == generation && (period == 0 || record[2] == period);
            let held = records.into_iter().filter(|(_, record)| record.len() >= 4 && counts(record));
            contents.held = held.map(|(id, record)| (id, record[1])).collect();
            // A scan may answer an element twice.
            contents.held.sort_unstable();
            contents.held.dedup();
        }
        let seats: Vec<Vec<u8>> = self.redis.command(cmd("ZRANGE").arg(key(account, b's')).arg(0).arg(-1)).await?;
        contents.seats = seats.iter().filter_map(|member| reservation_of(member)).collect();
        Ok(contents)
    }
}

fn round_command(scripts: &Scripts, account: &AccountKey, round: &Round) -> Cmd {
    let terms = &round.terms;
    let mut program = Program::with_capacity(16 + 4 * round.uses.len() + 9 * round.ended.len());
    let (rolling, from, to) = match terms.measure {
        Measure::Period(period) => (false, period.start, period.end),
        Measure::Rolling { length, grain } => (true, length, grain),
    };
    program.push([generation(scripts), i64::from(rolling), i64::from(terms.durable), terms.cap, from, to]);
    program.push([
        terms.lease,
        terms.remember,
        round.seq,
        round.keep,
        round.ask,
        round.least,
        round.ahead,
        i64::from(round.leaving),
    ]);
    program.push_len(round.uses.len()).push_len(round.ended.len());
    for Use { amount, place, age, reserved_at, .. } in &round.uses {
        program.push([*amount, *place, age.unwrap_or(-1), *reserved_at]);
    }
    for one in &round.ended {
        let ending = match one.ending {
            Ending::Released => 0,
            Ending::Estimated => 1,
            Ending::Final => 2,
        };
        let written_in = one.written_in.map_or(0, |written| i64::try_from(written).unwrap_or(i64::MAX));
        program.push([one.reserved, one.actual, one.before, ending, written_in, one.place]);
        program.push([one.reserved_at, one.total.0, one.total.1]);
    }
    let ids = round.uses.iter().map(|one| &one.id).chain(round.ended.iter().map(|one| &one.id));
    let fields: Vec<[u8; 17]> = ids.map(reservation_field).collect();
    let holders = round.uses.iter().map(|one| &one.holder).chain(round.ended.iter().map(|one| &one.holder));
    let mut args: Vec<&[u8]> = vec![program.bytes(), &round.holder];
    args.extend(fields.iter().map(<[u8; 17]>::as_slice));
    args.extend(holders.map(<[u8; 16]>::as_slice));
    super::command(&scripts.shared_round, &[key(account, b'a')], &args)
}

fn said(bytes: &[u8]) -> Option<Said> {
    let (letter, rest) = bytes.split_first()?;
    Some(match letter {
        b'C' => Said::Cold,
        b'T' => Said::Outside(program::number(rest, 0)?),
        b'P' => Said::Later(program::number(rest, 0)?),
        b'O' => Said::Overtaken,
        b'D' => {
            let numbers: Vec<Millis> = program::numbers(rest);
            let [now, kept, granted, used, certain, held, free, others, lost, lost_until, recalled, ref buckets @ ..] =
                numbers[..]
            else {
                return None;
            };
            let buckets = buckets.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
            let recalled = recalled == 1;
            Said::Done(Answer {
                now,
                kept,
                granted,
                used,
                certain,
                held,
                free,
                others,
                lost,
                lost_until,
                recalled,
                buckets,
            })
        }
        _ => return None,
    })
}

fn seats(bytes: &[u8]) -> Option<LeaseReply> {
    let (live, undecided) = (program::number(bytes, 0)?, program::number(bytes, 8)?);
    let seat = |letter: &u8| match letter {
        b'T' => Some(Seat::Taken),
        b'H' => Some(Seat::Had),
        b'F' => Some(Seat::Full),
        b'E' => Some(Seat::Ended),
        _ => None,
    };
    let seats: Option<Vec<Seat>> = bytes.get(16..)?.iter().map(seat).collect();
    Some(LeaseReply { live, undecided, seats: seats? })
}
