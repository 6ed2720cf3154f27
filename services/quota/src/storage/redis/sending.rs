//! What is sent to reserve: the script's call and, ahead of it, the records of those that are made together.
//!
//! Lua hashes every byte of each string that it is handed. So what the script only puts away does not pass through it: a plain
//! command writes it into its field, in one transaction with the script, which takes it away again if it is not to stay. Others see
//! both or nothing. Only where the server has lost the script is something left behind, which no reservation knows of: it is
//! taken back at once, or by the house-keeping.

use weir_redis::redis::{Cmd, Value as Reply, pipe};
use weir_redis::{Pipeline, Redis};

use super::{failure, send};
use crate::storage::store::{Failure, Result};

/// What is sent.
pub(super) struct Sending {
    pub(super) ahead: Vec<Records>,
    pub(super) call: Cmd,
}

/// The records of one tenant's reservations.
pub(super) struct Records {
    /// The key of the tenant's state.
    pub(super) state: Vec<u8>,
    /// The sheet's second field.
    pub(super) field: [u8; 9],
    pub(super) bytes: Vec<u8>,
}

impl Sending {
    /// Answers what the script does.
    ///
    /// # Errors
    /// As a command. The script may have been run, but not without what was to go ahead of it.
    pub(super) async fn send(self, redis: &Redis) -> Result<Reply> {
        if self.ahead.is_empty() {
            return send(redis, &self.call).await;
        }
        let (pipeline, fields) = self.transaction();
        match redis.pipeline(&pipeline).await.map_err(failure) {
            Ok(answers) => answers.into_iter().next().ok_or_else(|| Failure::answer("reserve")),
            Err(Failure::OtherGeneration) => {
                // The house-keeping finds what this does not reach.
                let _ = redis.pipeline(&fields).await;
                Err(Failure::OtherGeneration)
            }
            Err(failure) => Err(failure),
        }
    }

    /// All of it at once; and what takes back what went ahead.
    fn transaction(self) -> (Pipeline, Pipeline) {
        let (mut sent, mut taken_back) = (pipe(), pipe());
        sent.atomic();
        for Records { state, field, bytes } in &self.ahead {
            // Nothing else has this number, and if it had it would keep its own.
            sent.cmd("HSETNX").arg(state).arg(field).arg(bytes).ignore();
            taken_back.cmd("HDEL").arg(state).arg(field).ignore();
        }
        sent.add_command(self.call);
        (sent, taken_back)
    }

    /// As it goes over the wire, and how many answers it gets.
    #[cfg(feature = "measure")]
    pub(super) fn packed(self) -> (Vec<u8>, usize) {
        if self.ahead.is_empty() {
            return (self.call.get_packed_command(), 1);
        }
        let (pipeline, _) = self.transaction();
        // Each command is queued, and there are the first and the last one of a transaction.
        (pipeline.get_packed_pipeline(), pipeline.len() + 2)
    }
}

#[cfg(test)]
mod tests {
    use weir_redis::redis::cmd;
    use weir_types::{OrganizationId, ReservationId};

    use super::super::batch::Batch;
    use super::super::request::Request;
    use super::super::{Scripts, Store, answers, reservation_field};

    #[derive(serde::Deserialize)]
    struct Table {
        redis: weir_redis::Config,
    }

    fn request(scripts: &Scripts, organization: OrganizationId) -> Request {
        Request {
            organization,
            generation: scripts.generation,
            script: scripts.reserve.clone(),
            id: reservation_field(&ReservationId::new_v7()),
            tail: vec![1; 100],
            fingerprint: 10,
            context: vec![2; 2_000],
            lease: 30_000,
            check_clock: false,
            subjects: Vec::new(),
            concurrent: vec![(b"c".to_vec(), 10)],
        }
    }

    #[tokio::test]
    async fn a_sheet_is_not_written_over_another_one() {
        let server = weir_testing::redis().await.unwrap();
        let mut config = toml::from_str::<Table>(weir_redis::DEFAULTS).unwrap().redis;
        config.url = server.url().into();
        config.deadline = std::time::Duration::from_secs(5);
        let redis = weir_redis::Redis::connect(&config).await.unwrap();
        let scripts = Scripts::new(1);
        Store::new(redis.clone()).load(&scripts).await.unwrap();
        let organization = OrganizationId::new_v7();
        let requests = [(); 2].map(|()| request(&scripts, organization));
        let batch = Batch::new(&requests, vec![0, 1]);

        let sending = batch.sending(true).unwrap();
        let [records] = sending.ahead.as_slice() else { panic!("{} go ahead", sending.ahead.len()) };
        let (state, field) = (records.state.clone(), records.field);
        let mut head = field;
        head[0] = b'h';
        let theirs = vec![(field.to_vec(), b"their records".to_vec()), (head.to_vec(), b"theirs".to_vec())];
        redis.command::<()>(cmd("HSET").arg(&state).arg(&theirs)).await.unwrap();
        let answers = answers::read(&batch, sending.send(&redis).await.unwrap()).unwrap();
        assert!(answers.len() == 2 && answers.iter().all(|(_, answer)| answer.is_err()), "{answers:?}");
        let mut left: Vec<(Vec<u8>, Vec<u8>)> = redis.command(cmd("HGETALL").arg(&state)).await.unwrap();
        left.sort_unstable();
        assert!(left == theirs, "it was written over");

        // With another number they are admitted.
        let again = batch.sending(true).unwrap().send(&redis).await.unwrap();
        let answers = answers::read(&batch, again).unwrap();
        assert!(answers.iter().all(|(_, answer)| answer.is_ok()), "{answers:?}");
    }
}
