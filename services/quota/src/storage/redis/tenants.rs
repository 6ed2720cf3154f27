//! Which tenants may have leases, and all that one of them has.

use std::collections::HashMap;
use std::time::Duration;

use weir_redis::redis::{Value as Reply, cmd, from_redis_value, pipe};
use weir_types::OrganizationId;

use super::record::Held;
use super::sheets::{self, SheetId, Sheets};
use super::{Keys, Scripts, Store, reservation_of};
use crate::domain::{Millis, SubjectState, Value};
use crate::storage::store::{Contents, Failure, LeaseCount, List, Result, Tenant};

/// Fields and values of a hash.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

impl List {
    const fn key(self) -> &'static str {
        match self {
            Self::Leases => "wq3:{tenants}leases",
            Self::States => "wq3:{tenants}states",
        }
    }
}

impl Store {
    /// Notes that tenants may have leases, and anything, from now on.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn register(&self, organizations: &[OrganizationId]) -> Result<()> {
        if organizations.is_empty() {
            return Ok(());
        }
        // The server's time: processes whose clocks are apart would forget each other's tenants.
        let now_seconds = self.seconds().await?;
        let mut pipeline = pipe();
        for list in [List::Leases, List::States] {
            let command = pipeline.cmd("ZADD").arg(list.key());
            for organization in organizations {
                command.arg(now_seconds).arg(organization.as_uuid().as_bytes());
            }
        }
        self.redis.pipeline(&pipeline).await?;
        Ok(())
    }

    async fn seconds(&self) -> Result<i64> {
        let (seconds, _): (i64, i64) = self.redis.command(&cmd("TIME")).await?;
        Ok(seconds)
    }

    /// A page of the tenants that may have leases.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn tenants(&self, skip: usize, most: usize) -> Result<Vec<Tenant>> {
        self.listed(List::Leases, skip, most).await
    }

    /// A page of a list.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn listed(&self, list: List, skip: usize, most: usize) -> Result<Vec<Tenant>> {
        let mut command = cmd("ZRANGE");
        command.arg(list.key()).arg(skip).arg(skip + most - 1).arg("WITHSCORES");
        let pairs: Vec<(Vec<u8>, i64)> = self.redis.command(&command).await?;
        let now = self.seconds().await?;
        let tenant = |(id, registered): (Vec<u8>, i64)| {
            Some(Tenant { id: uuid::Uuid::from_slice(&id).ok()?.into(), registered, idle: now - registered })
        };
        Ok(pairs.into_iter().filter_map(tenant).collect())
    }

    /// How many leases each of these may have.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn lease_counts(&self, tenants: &[Tenant]) -> Result<Vec<LeaseCount>> {
        let (seconds, micros): (i64, i64) = self.redis.command(&cmd("TIME")).await?;
        let now = seconds * 1_000 + micros / 1_000;
        // At once rather than in a pipeline: in a cluster they are in different slots.
        let counts = tenants.iter().map(|tenant| async move {
            let leases = Keys::new(&tenant.id).leases();
            let (mut all, mut expired) = (cmd("ZCARD"), cmd("ZCOUNT"));
            all.arg(&leases);
            expired.arg(&leases).arg("-inf").arg(now);
            let (all, expired) = futures::try_join!(self.redis.command(&all), self.redis.command(&expired))?;
            Ok(LeaseCount { all, expired })
        });
        futures::future::try_join_all(counts).await
    }

    /// Takes a tenant off a list, unless it was registered again meanwhile.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn forget(&self, tenant: &Tenant, list: List) -> Result<()> {
        let mut command = cmd("EVAL");
        command.arg(include_str!("lua/forget.lua")).arg(1).arg(list.key());
        command.arg(tenant.id.as_uuid().as_bytes()).arg(tenant.registered);
        Ok(self.redis.command::<()>(&command).await?)
    }

    /// Removes what can't matter any more from a part of a tenant's state; answers the next cursor and how many fields are left.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn sweep(
        &self,
        scripts: &Scripts,
        organization: &OrganizationId,
        cursor: &str,
        keep_marks: Duration,
    ) -> Result<(String, u64)> {
        let keep = keep_marks.as_millis().to_string();
        if cursor == "0" {
            self.tidy(scripts, organization).await?;
        }
        let keys = [Keys::new(organization).state()];
        self.eval(&scripts.sweep, &keys, &[cursor.as_bytes(), b"250", keep.as_bytes()]).await
    }

    /// All that a tenant has. Small states are read in one step, so that what is read fits together.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn contents(&self, organization: &OrganizationId) -> Result<Contents> {
        /// Above it one command would block the store for too long.
        const AT_ONCE: usize = 5_000;
        let keys = Keys::new(organization);
        let size: usize = self.redis.command(cmd("HLEN").arg(keys.state())).await?;
        let mut fields = Found::default();
        if size <= AT_ONCE {
            let mut pipeline = pipe();
            pipeline.atomic().cmd("HGETALL").arg(keys.state());
            let values = self.redis.pipeline(&pipeline).await?;
            for value in values {
                fields.take(read::<Fields>(value)?);
            }
        } else {
            let mut cursor = "0".to_owned();
            loop {
                let mut command = cmd("HSCAN");
                command.arg(keys.state()).arg(&cursor).arg("COUNT").arg(1_000);
                let page: (String, Fields) = self.redis.command(&command).await?;
                cursor = page.0;
                fields.take(page.1);
                if cursor == "0" {
                    break;
                }
            }
            // A scan may have missed what was put there meanwhile.
            for number in fields.missing() {
                for field in sheets::fields(&number) {
                    let value: Option<Vec<u8>> = self.redis.command(cmd("HGET").arg(keys.state()).arg(&field)).await?;
                    fields.sheets.take(&field, &value.unwrap_or_default());
                }
            }
        }
        let (seconds, micros): (i64, i64) = self.redis.command(&cmd("TIME")).await?;
        Ok(fields.contents(seconds * 1_000 + micros / 1_000))
    }
}

/// Fields of a tenant's state that were read; a scan may answer one twice, the later one the truer.
#[derive(Default)]
struct Found {
    subjects: HashMap<Vec<u8>, Vec<u8>>,
    held: HashMap<Vec<u8>, Vec<u8>>,
    sheets: Sheets,
}

impl Found {
    fn take(&mut self, fields: Fields) {
        for (field, value) in fields {
            if reservation_of(&field).is_some() {
                self.held.insert(field, value);
            } else if !self.sheets.take(&field, &value) {
                self.subjects.insert(field, value);
            }
        }
    }

    /// The sheets that held reservations are in and that were not found.
    fn missing(&self) -> Vec<SheetId> {
        let numbers = self.held.values().filter_map(|value| Held::read(value)?.sheet);
        let mut missing: Vec<SheetId> = numbers.filter(|number| !self.sheets.has(number)).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    fn contents(&self, now: Millis) -> Contents {
        let mut contents = Contents::default();
        for (field, value) in &self.held {
            if let (Some(id), Some(held)) = (reservation_of(field), Held::read(value))
                && let Some(record) = self.sheets.record(field, &held)
            {
                contents.expired += i64::from(held.ends <= now);
                contents.held.push((id, record));
            }
        }
        let subject =
            |(field, value): (&Vec<u8>, &Vec<u8>)| Some((Value::from_field(field)?, SubjectState::decode(value)?));
        contents.subjects.extend(self.subjects.iter().filter_map(subject));
        contents.held.sort_unstable_by_key(|(id, _)| *id);
        contents.subjects.sort_unstable_by_key(|(value, _)| value.field());
        contents
    }
}

fn read<T: weir_redis::FromRedisValue>(value: Reply) -> Result<T> {
    from_redis_value(value).map_err(|error| Failure::Redis(error.into()))
}
