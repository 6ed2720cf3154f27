//! Loading counters into the store.

use uuid::Uuid;
use weir_redis::redis::{Value as Reply, cmd, from_redis_value, pipe};
use weir_types::OrganizationId;

use super::program::{self, Program};
use super::{Keys, Scripts, Store};
use crate::storage::store::{Failure, InstallEntry, InstallSubject, Result};

impl Store {
    /// The fence of a tenant: it stands until the store is emptied. Take it before reading what will be installed.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn fence(&self, organization: &OrganizationId) -> Result<Vec<u8>> {
        let state = Keys::new(organization).state();
        let mut pipeline = pipe();
        pipeline.add_command(hash("HSETNX", &state).arg(Uuid::now_v7().as_bytes()).to_owned()).ignore();
        pipeline.add_command(hash("HGET", &state));
        let values = self.redis.pipeline(&pipeline).await?;
        let fence = values.into_iter().next_back().and_then(|value: Reply| from_redis_value(value).ok());
        fence.ok_or_else(|| Failure::answer("fence"))
    }

    /// Puts counters in place; false if the fence is gone.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn install(
        &self,
        scripts: &Scripts,
        organization: &OrganizationId,
        fence: &[u8],
        subjects: &[InstallSubject],
    ) -> Result<bool> {
        let mut program = Program::default();
        program.push([i64::try_from(scripts.generation).unwrap_or(i64::MAX)]).push_len(subjects.len());
        for subject in subjects {
            program.push([i64::try_from(subject.layout).unwrap_or(i64::MAX), subject.sweep_after]);
            program.push_len(subject.entries.len());
            for (limit, durable, entry) in &subject.entries {
                let rolling = matches!(entry, InstallEntry::Rolling(_));
                program.push([i64::from(*limit), i64::from(rolling), i64::from(*durable)]);
                match entry {
                    InstallEntry::Period(start, total, version) => {
                        program.push([*start, *total, *version]);
                    }
                    InstallEntry::Rolling(buckets) => {
                        program.push([program::len(buckets.len())]);
                        buckets.iter().for_each(|(end, amount)| {
                            program.push([*end, *amount]);
                        });
                    }
                }
            }
        }
        let fields: Vec<Vec<u8>> = subjects.iter().map(|subject| subject.value.field()).collect();
        let mut args: Vec<&[u8]> = vec![fence, program.bytes()];
        args.extend(fields.iter().map(Vec::as_slice));
        let done: i64 = self.eval(&scripts.install, &[Keys::new(organization).state()], &args).await?;
        Ok(done == 1)
    }
}

fn hash(command: &str, key: &[u8]) -> weir_redis::redis::Cmd {
    let mut command = cmd(command);
    command.arg(key).arg("!");
    command
}
