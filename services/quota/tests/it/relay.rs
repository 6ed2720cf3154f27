//! A relay before Postgres that keeps a statement or its answer back until it is told to let go: what happens while it is on its way
//! there, and between the commit and the moment at which the engine learns of it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use weir_types::ReservationId;

/// The relay.
pub(crate) struct Relay {
    url: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    /// What a statement must be about to be kept back, or (`true`) to have its answer kept back.
    about: Mutex<Option<(ReservationId, bool)>>,
    keeps: watch::Sender<bool>,
}

impl Relay {
    /// Before the server at this URL.
    pub(crate) async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (scheme, rest) = server.split_once("://").unwrap();
        let (host, path) = rest.split_once('/').unwrap();
        let (user, target) = host.rsplit_once('@').unwrap();
        let target = target.to_owned();
        let url = format!("{scheme}://{user}@{}/{path}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { about: Mutex::new(None), keeps: watch::Sender::new(false) });
        let relaying = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&target).await else { continue };
                tokio::spawn(run(client, server, Arc::clone(&relaying)));
            }
        });
        Self { url, shared, accepting }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Keeps back whatever is answered once a statement about this reservation has come.
    pub(crate) fn keep_answers_about(&self, id: ReservationId) {
        *self.shared.about.lock() = Some((id, true));
    }

    /// Keeps back a statement about this reservation, and what comes after it.
    pub(crate) fn keep_statements_about(&self, id: ReservationId) {
        *self.shared.about.lock() = Some((id, false));
    }

    /// Keeps back whatever is answered from now on.
    pub(crate) fn keep_answers(&self) {
        self.shared.keeps.send_replace(true);
    }

    /// Until there is something to keep.
    pub(crate) async fn until_kept(&self) {
        self.shared.keeps.subscribe().wait_for(|keeps| *keeps).await.unwrap();
    }

    pub(crate) fn let_go(&self) {
        *self.shared.about.lock() = None;
        self.shared.keeps.send_replace(false);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn run(client: TcpStream, server: TcpStream, shared: Arc<Shared>) {
    let (mut asks, mut answers) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = asks.read(&mut buffer).await?;
            if read == 0 {
                return Err::<(), _>(std::io::ErrorKind::UnexpectedEof.into());
            }
            let about = *shared.about.lock();
            let is_about = |id: ReservationId| buffer[..read].windows(16).any(|bytes| bytes == id.as_uuid().as_bytes());
            if let Some((_, answer)) = about.filter(|(id, _)| is_about(*id)) {
                shared.keeps.send_replace(true);
                if !answer {
                    drop(shared.keeps.subscribe().wait_for(|keeps| !keeps).await);
                }
            }
            to_server.write_all(&buffer[..read]).await?;
        }
    };
    let down = async {
        let mut buffer = vec![0; 1 << 16];
        let mut keeps = shared.keeps.subscribe();
        loop {
            let read = from_server.read(&mut buffer).await?;
            if read == 0 || keeps.wait_for(|keeps| !keeps).await.is_err() {
                return Err::<(), std::io::Error>(std::io::ErrorKind::UnexpectedEof.into());
            }
            answers.write_all(&buffer[..read]).await?;
        }
    };
    // Ends with whichever end hangs up.
    drop(tokio::try_join!(up, down));
}
