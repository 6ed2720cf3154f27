//! Which tenants may have leases, and all that one of them has.

use std::time::Duration;

use weir_redis::redis::{Value as Reply, cmd, from_redis_value, pipe};
use weir_types::OrganizationId;

use super::{Keys, Scripts, Store, reservation_of};
use crate::domain::{SubjectState, Value};
use crate::storage::store::{Contents, Failure, LeaseCount, List, Record, Result, Tenant};

/// Fields and values of a hash.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

impl List {
    const fn key(self) -> &'static str {
        match self {
            Self::Leases => "wq2:{tenants}leases",
            Self::States => "wq2:{tenants}states",
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

    /// How many leases each of these has.
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
        let mut contents = Contents::default();
        if size <= AT_ONCE {
            let mut pipeline = pipe();
            pipeline.atomic().cmd("HGETALL").arg(keys.state());
            let values = self.redis.pipeline(&pipeline).await?;
            for value in values {
                contents.read(read::<Fields>(value)?);
            }
        } else {
            let mut cursor = "0".to_owned();
            loop {
                let mut command = cmd("HSCAN");
                command.arg(keys.state()).arg(&cursor).arg("COUNT").arg(1_000);
                let page: (String, Fields) = self.redis.command(&command).await?;
                cursor = page.0;
                contents.read(page.1);
                if cursor == "0" {
                    break;
                }
            }
            // A scan may answer an element twice.
            contents.held.sort_unstable_by_key(|(id, _)| *id);
            contents.held.dedup_by_key(|(id, _)| *id);
        }
        let (seconds, micros): (i64, i64) = self.redis.command(&cmd("TIME")).await?;
        let mut count = cmd("ZCOUNT");
        count.arg(keys.leases()).arg("-inf").arg(seconds * 1_000 + micros / 1_000);
        contents.expired = self.redis.command(&count).await?;
        Ok(contents)
    }
}

impl Contents {
    fn read(&mut self, fields: Fields) {
        for (field, value) in fields {
            if let Some(id) = reservation_of(&field) {
                if let Some(record) = Record::decode(&value) {
                    self.held.push((id, record));
                }
            } else if let (Some(whose), Some(state)) = (Value::from_field(&field), SubjectState::decode(&value)) {
                self.subjects.push((whose, state));
            }
        }
    }
}

fn read<T: weir_redis::FromRedisValue>(value: Reply) -> Result<T> {
    from_redis_value(value).map_err(|error| Failure::Redis(error.into()))
}
