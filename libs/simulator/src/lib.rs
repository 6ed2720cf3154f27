//! Simulated providers: a real HTTP server that speaks the dialects of OpenAI, Anthropic, ElevenLabs and FAL, and answers exactly
//! the number of tokens that it is asked to. It counts what it served, so that tests, replays and benchmarks can hold every other
//! book against it.
//!
//! Its tokenizer: a token is a word. Input tokens are the words between ASCII white space over all texts of a request (an image
//! counts [`Options::image_tokens`]). Output tokens are at OpenAI the request's maximum, or [`Options::default_output_tokens`] when
//! it names none; at Anthropic, where it must name one, the lesser of the two. A stream sends one token per chunk. A tool is called
//! when the request demands one.
//!
//! What it should do otherwise is said per request (`"metadata": {"simulate": "status=429,retry_after=2"}` in OpenAI's and
//! Anthropic's JSON, the header `x-simulate` at all), or for an API key or for everybody by `POST /simulator/faults`. All speak the
//! grammar of [`Directive`].
//!
//! | route | |
//! |---|---|
//! | `POST /v1/chat/completions` | OpenAI: plain and streamed, tools, several choices |
//! | `POST /v1/responses` | plain and streamed, tools |
//! | `POST /v1/embeddings` | floats and base64 |
//! | `POST /v1/audio/transcriptions` | all answer formats, plain and streamed; the duration is the file's own |
//! | `POST /v1/audio/speech` | mp3, wav, pcm; sent piece by piece |
//! | `POST /v1/images/generations` | base64, or URLs that lead here |
//! | `POST /v1/images/edits` | the same, of a form; a picture that is given counts as one in a message |
//! | `GET /v1/models`, `GET /v1/models/{model}` | OpenAI's and Anthropic's, told apart by the kind of key |
//! | `POST /v1/messages` | Anthropic: plain and streamed, tools, thinking, prompt cache |
//! | `POST /v1/messages/count_tokens` | |
//! | `POST /v1/text-to-speech/{voice}`, `…/stream` | ElevenLabs; credits and concurrency per key |
//! | `POST /{owner}/{app}/…` | FAL's queue: submit, `requests/{id}/status`, `requests/{id}`, `requests/{id}/cancel`, webhooks |
//! | `GET /files/{name}` | the pictures |
//! | `GET /simulator/stats` | what was served so far, as [`Stats`] |
//! | `GET /simulator/served?after=0` | one line of JSON per request, as [`Served`] |
//! | `GET`, `POST`, `DELETE /simulator/faults` | the faults in force, as [`Fault`] |
//! | `POST /simulator/reset` | forgets counts, log, faults, caches, jobs and rate windows |

mod admin;
mod anthropic;
mod audio;
mod body;
mod books;
mod connection;
mod dialect;
mod directive;
mod elevenlabs;
mod fal;
mod faults;
mod headers;
mod ids;
mod keys;
mod openai;
mod options;
mod picture;
mod refusal;
mod route;
mod service;
mod stream;
mod text;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use books::{Served, Stats, Sums};
pub use directive::{BadBody, Break, Directive, DirectiveError, Reset};
pub use faults::Fault;
pub use options::{ApiKey, Args, Limits, Options};

use service::State;

/// Why the simulated provider did not start or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The address could not be announced on standard output.
    #[error("cannot write to standard output: {0}")]
    Announce(std::io::Error),
    /// An API key was given twice or is empty.
    #[error("{0}")]
    Options(String),
}

/// A running simulated provider. Dropping it closes its listener and every connection.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Simulator {
    /// Binds the address and serves on the current runtime until stopped or dropped.
    ///
    /// # Errors
    /// The address cannot be bound, or the options contradict themselves.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let address = options.listen;
        let listener = connection::listen(address).map_err(|source| Error::Listen { address, source })?;
        Self::start_on(listener, options)
    }

    /// Serves on a listener that is bound already.
    ///
    /// # Errors
    /// The listener has no address, or the options contradict themselves.
    pub fn start_on(listener: TcpListener, options: Options) -> Result<Self, Error> {
        let wanted = options.listen;
        let address = listener.local_addr().map_err(|source| Error::Listen { address: wanted, source })?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let state = Arc::new(State::new(options, stop.clone(), tasks.clone())?);
        tasks.spawn(connection::accept(listener, Arc::clone(&state), stop.clone(), tasks.clone()));
        Ok(Self { address, state, stop, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// What OpenAI's base URL is in a configuration: `http://127.0.0.1:1234/v1`. The others' are `http://{addr}`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What it served so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.state.stats()
    }

    /// Every request of the log, oldest first, unfinished streams included.
    #[must_use]
    pub fn served(&self) -> Vec<Served> {
        self.state.books.served(0, usize::MAX)
    }

    /// The requests that came with this `x-client-request-id`.
    #[must_use]
    pub fn served_as(&self, client_request_id: &str) -> Vec<Served> {
        self.served().into_iter().filter(|served| served.client_request_id == client_request_id).collect()
    }

    /// Puts a fault in force, in front of those that are.
    pub fn add_fault(&self, fault: Fault) {
        self.state.faults.add(fault);
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.state.faults.clear();
    }

    /// Forgets counts, log, faults and rate windows. Requests under way are counted in neither life.
    pub fn reset(&self) {
        self.state.reset();
    }

    /// Closes the listener and every connection, and waits until they are gone.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// `weir simulate`: serves until `shutdown`, and announces its address in the first line on standard output.
///
/// # Errors
/// As [`Simulator::start`].
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), Error> {
    use std::io::Write;
    let simulator = Simulator::start(args.into_options()).await?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "simulated provider: {}", simulator.base_url()).map_err(Error::Announce)?;
    stdout.flush().map_err(Error::Announce)?;
    drop(stdout);
    shutdown.cancelled().await;
    simulator.stop().await;
    Ok(())
}
