use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::serve;

/// `weir simulate`
pub(crate) fn run(arguments: weir_simulator::Args) -> Result<(), Failure> {
    serve::runtime(1)?.block_on(async {
        let shutdown = CancellationToken::new();
        let served = weir_simulator::run(arguments, shutdown.clone());
        tokio::pin!(served);
        let ended = tokio::select! {
            ended = &mut served => ended,
            () = weir_host::signal() => {
                shutdown.cancel();
                served.await
            }
        };
        ended.map_err(|error| Failure::unavailable("the simulated provider", &error))
    })
}
