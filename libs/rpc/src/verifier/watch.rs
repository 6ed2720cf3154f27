//! The background task that follows auth's revocations.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_proto::auth::v1::WatchRevocationsRequest;
use weir_proto::auth::v1::auth_service_client::AuthServiceClient;

use super::{Revoked, Verifier};
use crate::Failure;

/// Auth sends heartbeats; a stream that is silent for this long is dead.
const SILENCE: Duration = Duration::from_secs(30);
/// How often the signing keys are fetched anew.
const REFRESH_KEYS: Duration = Duration::from_secs(300);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Verifier {
    /// Follows auth's revocations until `shutdown`, reconnecting when the stream breaks. Run once per process.
    ///
    /// The gauge `weir_revocation_lag_seconds` is the age of what this process knows.
    pub async fn follow_revocations(&self, shutdown: CancellationToken) {
        let follow = async {
            let mut pause = FIRST_PAUSE;
            loop {
                let failure = self.follow_once(&mut pause).await;
                tracing::debug!(%failure, "the stream of revocations ended");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        let lag = async {
            let gauge = metrics::gauge!("weir_revocation_lag_seconds");
            let mut tick = tokio::time::interval(Duration::from_secs(1));
            loop {
                tick.tick().await;
                gauge.set(self.lag().map_or(f64::INFINITY, |lag| lag.as_secs_f64()));
            }
        };
        let keys = async {
            let mut tick = tokio::time::interval_at(Instant::now() + REFRESH_KEYS, REFRESH_KEYS);
            loop {
                tick.tick().await;
                self.0.keys.refresh().await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = async { tokio::join!(follow, lag, keys); } => {}
        }
    }

    /// Follows one stream; answers why it ended.
    async fn follow_once(&self, pause: &mut Duration) -> Failure {
        let mut client = AuthServiceClient::new(self.0.auth.clone());
        let mut stream = match client.watch_revocations(WatchRevocationsRequest {}).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return status.into(),
        };
        loop {
            match tokio::time::timeout(SILENCE, stream.message()).await {
                Ok(Ok(Some(revocation))) => {
                    *pause = FIRST_PAUSE;
                    if let Some(revoked) = Revoked::read(&revocation) {
                        self.revoke(revoked);
                    }
                    let time = revocation.revoke_time.unwrap_or_default();
                    self.heard(time.seconds);
                }
                Ok(Ok(None)) => return tonic::Status::unavailable("auth: the stream ended").into(),
                Ok(Err(status)) => return status.into(),
                Err(_) => return tonic::Status::unavailable("auth: the stream fell silent").into(),
            }
        }
    }
}
