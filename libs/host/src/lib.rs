//! One process's life: sockets, services, readiness, shutdown. The same for one service per process and for all in one.
//!
//! # A service
//! Its crate has one `start`, straight-line, that returns when the service can take calls:
//!
//! ```
//! use weir_host::{Context, Probe, Service, StartError};
//! # mod weir_quota {
//! # pub struct Config; #[derive(Clone)] pub struct Database;
//! # impl Database { pub async fn connect(_: &Config) -> Result<Self, std::io::Error> { Ok(Self) }
//! #   pub async fn ping(&self) -> Result<(), std::io::Error> { Ok(()) } }
//! # pub const ACCESS: &[(&str, weir_rpc::Access)] = &[]; }
//! # use weir_quota::{Config, Database, ACCESS};
//! # use weir_rpc::Routes;
//!
//! pub async fn start(config: Config, context: &Context) -> Result<Service, StartError> {
//!     let database = Database::connect(&config).await.map_err(|e| StartError::new("connecting to Postgres", e))?;
//!     let billing = context.channels.to("billing");
//!
//!     // Background work: tracked, and ended by the token.
//!     let shutdown = context.shutdown.clone();
//!     context.tasks.spawn(async move { shutdown.cancelled().await });
//!
//!     // let server = QuotaServiceServer::new(grpc).max_decoding_message_size(context.max_message_bytes);
//!     let routes = Routes::default(); // Routes::new(server)
//!     let ping = database.clone();
//!     Ok(Service::new("quota")
//!         .grpc(routes, ACCESS)
//!         .essential(&["/weir.quota.v1.QuotaService/Commit", "/weir.quota.v1.QuotaService/Release"])
//!         .probe(Probe::new("postgres", move || { let database = ping.clone(); async move { database.ping().await } }))
//!         .drain(async move { /* flush what is buffered */ }))
//! }
//! ```
//! Don't wait for siblings in `start`: they may come up later. Make them a probe if nothing works without.
//!
//! # The executable
//! ```no_run
//! # async fn f(setup: weir_host::Setup<'_>, start: impl AsyncFn(&weir_host::Context) -> Result<weir_host::Service, weir_host::StartError>)
//! # -> Result<(), weir_host::StartError> {
//! let mut host = weir_host::Host::bind(setup).await?;
//! let context = host.context("quota");
//! host.add(start(&context).await?).await?;
//! host.run(weir_host::signal()).await;
//! # Ok(()) }
//! ```

mod admin;
mod config;
mod context;
mod error;
mod host;
mod listener;
mod readiness;
mod service;
mod signal;

pub use config::{Config, DEFAULTS, HttpConfig};
pub use context::{Channels, Context};
pub use error::StartError;
pub use host::{Host, Setup};
pub use service::{Probe, Service};
pub use signal::signal;
