//! The signals to stop.

#[expect(clippy::disallowed_methods, reason = "who asks twice wants no more flushing")]
/// Waits for SIGTERM or Ctrl-C. A second one, while the process is ending, ends it at once.
pub async fn signal() {
    wait().await;
    tokio::spawn(async {
        wait().await;
        tracing::warn!("stopped at once, by a second signal");
        std::process::exit(130);
    });
}

async fn wait() {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "signals can't be received: the process ends only when it is killed");
            return std::future::pending().await;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
