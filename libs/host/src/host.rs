//! A process: binds, starts, serves, and ends in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_config::MasterKey;
use weir_discovery::{Directory, Endpoint, Instance, Registration};
use weir_rpc::{LocalSlot, ServiceIdentity, Stack, Stacked, Verifier};
use weir_telemetry::Telemetry;
use weir_types::Clock;

use crate::admin::{self, Reports};
use crate::context::Source;
use crate::listener::{Listener, Stop};
use crate::readiness::Readiness;
use crate::{Channels, Config, Context, Service, StartError};

/// What a process is made of.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The `[host]` section.
    pub host: &'a Config,
    /// The `[rpc]` section.
    pub rpc: &'a weir_rpc::Config,
    /// The `[discovery]` section.
    pub discovery: &'a weir_discovery::Config,
    /// The deployment's key.
    pub master: MasterKey,
    /// This process among its like ([`Config::instance`]).
    pub instance: String,
    /// The names of the services that will run in this process.
    pub services: &'a [&'static str],
    /// Started already.
    pub telemetry: Telemetry,
}

/// A process whose sockets are bound, and whose services are being started.
pub struct Host {
    config: Config,
    rpc: weir_rpc::Config,
    master: MasterKey,
    instance: String,
    telemetry: Telemetry,
    clock: Arc<dyn Clock>,
    directory: Arc<dyn Directory>,
    verifier: Verifier,
    slots: HashMap<&'static str, LocalSlot>,
    listeners: HashMap<&'static str, Listener>,
    admin: Option<Listener>,
    reports: Reports,
    contexts: HashMap<&'static str, Context>,
    started: Vec<Started>,
    /// The process's own tasks: listeners, probes, revocations.
    tasks: TaskTracker,
    /// The signal to stop has come.
    stopping: CancellationToken,
    stop: Stop,
}

/// A service that has started.
struct Started {
    name: &'static str,
    context: Context,
    stacked: Option<Stacked>,
    http: Option<axum::Router>,
    readiness: Option<Readiness>,
    drain: Option<futures::future::BoxFuture<'static, ()>>,
}

impl Host {
    /// Binds every socket, before anything is started that would have to be taken back.
    ///
    /// # Errors
    /// When an address can't be listened at, or the directory can't be used.
    pub async fn bind(setup: Setup<'_>) -> Result<Self, StartError> {
        // Once per process; who was first is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut listeners = HashMap::new();
        for &service in setup.services {
            if let Some(address) = setup.host.listen(service) {
                listeners.insert(service, Listener::bind(service, address).await?);
            }
        }
        let admin = match setup.host.admin_listen.parse() {
            Ok(address) => Some(Listener::bind("admin", address).await?),
            Err(_) => None,
        };
        let directory = weir_discovery::open(setup.discovery).map_err(|error| StartError::new("discovery", error))?;
        let slots: HashMap<_, _> = setup.services.iter().map(|&name| (name, LocalSlot::new(name))).collect();
        let clock: Arc<dyn Clock> = Arc::new(weir_types::SystemClock);
        let asker = setup.services.first().copied().unwrap_or("operator");
        let channels = channels(asker, &setup.master, &slots, &directory, setup.rpc);
        let verifier = Verifier::new(&setup.master, channels.to("auth"), Arc::clone(&clock));
        Ok(Self {
            config: setup.host.clone(),
            rpc: setup.rpc.clone(),
            master: setup.master,
            instance: setup.instance,
            telemetry: setup.telemetry,
            clock,
            directory,
            verifier,
            slots,
            listeners,
            admin,
            reports: Reports::default(),
            contexts: HashMap::new(),
            started: Vec::new(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            stop: Stop {
                gently: CancellationToken::new(),
                now: CancellationToken::new(),
                connections: TaskTracker::new(),
            },
        })
    }

    /// What the service `name` is started with.
    pub fn context(&mut self, name: &'static str) -> Context {
        if let Some(context) = self.contexts.get(name) {
            return context.clone();
        }
        let context = Context {
            clock: Arc::clone(&self.clock),
            channels: channels(name, &self.master, &self.slots, &self.directory, &self.rpc),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            master: self.master.clone(),
            instance: self.instance.clone(),
            max_message_bytes: self.rpc.max_message_bytes,
            revocations: self.verifier.revocations().clone(),
        };
        self.contexts.insert(name, context.clone());
        context
    }

    /// The service has started: siblings in this process can call it from now on. Services are added in the order in
    /// which they need each other, and end in the opposite one.
    ///
    /// # Errors
    /// When its descriptors can't be offered by reflection.
    pub async fn add(&mut self, service: Service) -> Result<(), StartError> {
        let context = self.context(service.name);
        let stacked = if service.routes.is_empty() {
            None
        } else {
            let stacked = Stack::new(service.name, service.routes, service.access)
                .essential(service.essential)
                .build(self.verifier.clone(), &self.rpc)
                .await
                .map_err(|error| StartError::new(format!("{}: reflection", service.name), error))?;
            if let Some(slot) = self.slots.get(service.name) {
                slot.fill(stacked.clone());
            }
            Some(stacked)
        };
        let health = stacked.as_ref().map(|stacked| stacked.health().clone());
        let readiness = Readiness::new(service.name, service.probes, health);
        self.reports.write().push(readiness.report());
        self.started.push(Started {
            name: service.name,
            context,
            stacked,
            http: service.http,
            readiness: Some(readiness),
            drain: service.drain,
        });
        Ok(())
    }

    /// Where a service listens; none without a socket. With port 0 in the configuration, this tells which it became.
    #[must_use]
    pub fn address(&self, service: &str) -> Option<std::net::SocketAddr> {
        self.listeners.get(service).map(|listener| listener.address)
    }

    /// Where the admin listener is.
    #[must_use]
    pub fn admin_address(&self) -> Option<std::net::SocketAddr> {
        self.admin.as_ref().map(|listener| listener.address)
    }

    /// Serves until `signal`, then ends in order: not ready, out of the directory, listeners drained, services drained
    /// (the last added first), telemetry flushed; all of it within the drain's bound.
    pub async fn run(mut self, signal: impl Future<Output = ()>) {
        let registrations = self.serve();
        signal.await;
        tracing::info!("stopping");
        let deadline = Instant::now() + self.config.drain;

        // Not ready: health says so, and watches end, so that their clients go elsewhere.
        self.stopping.cancel();
        for started in &self.started {
            if let Some(stacked) = &started.stacked {
                stacked.end_watches();
            }
        }
        for registration in registrations {
            // Nobody new finds us; a directory that does not answer must not hold up the rest.
            let _ = tokio::time::timeout(Duration::from_secs(2), registration.end()).await;
        }
        tokio::time::sleep(self.config.shutdown_delay).await;

        // Listeners: no new connections, no new requests, and an end to those that are there.
        self.stop.gently.cancel();
        self.stop.connections.close();
        if tokio::time::timeout_at(deadline, self.stop.connections.wait()).await.is_err() {
            tracing::warn!(open = self.stop.connections.len(), "connections are cut: the drain took too long");
        }
        self.stop.now.cancel();

        // Services: those that call others before those that are called.
        for started in self.started.iter_mut().rev() {
            started.end(deadline).await;
        }
        self.tasks.close();
        let _ = tokio::time::timeout_at(deadline, self.tasks.wait()).await;
        tracing::info!("stopped");
        self.telemetry.shutdown().await;
    }

    /// Starts the listeners, the probes, and what else goes on in the background.
    fn serve(&mut self) -> Vec<Announced> {
        let verifier = self.verifier.clone();
        let until = self.stopping.clone();
        self.tasks.spawn(async move { verifier.follow_revocations(until).await });
        if let Some(admin) = self.admin.take() {
            tracing::info!(address = %admin.address, "metrics, liveness and readiness");
            let router = admin::router(self.telemetry.clone(), self.reports.clone());
            // Scrapes go on to the end; nothing waits for their connections.
            let stop = Stop { connections: TaskTracker::new(), ..self.stop.clone() };
            self.tasks.spawn(admin.serve_http(router, self.config.http.clone(), stop));
        }
        let mut registrations = Vec::new();
        for started in &mut self.started {
            let Some(readiness) = started.readiness.take() else { continue };
            let ready = readiness.ready();
            self.tasks.spawn(readiness.follow(self.config.clone(), self.stopping.clone()));
            let Some(listener) = self.listeners.remove(started.name) else { continue };
            let address = listener.address;
            tracing::info!(service = started.name, %address, "listening");
            match (started.stacked.clone(), started.http.take()) {
                (_, Some(router)) => {
                    self.tasks.spawn(listener.serve_http(router, self.config.http.clone(), self.stop.clone()));
                }
                (Some(stacked), None) => {
                    self.tasks.spawn(listener.serve_grpc(stacked, self.rpc.server.clone(), self.stop.clone()));
                    let instance = Instance {
                        service: started.name.to_owned(),
                        id: format!("{}-{}", started.name, self.instance),
                        endpoint: advertised(&self.config, address),
                    };
                    registrations.push(Announced::when_ready(
                        Arc::clone(&self.directory),
                        instance,
                        ready,
                        &self.tasks,
                        self.stopping.clone(),
                    ));
                }
                (None, None) => tracing::warn!(service = started.name, "it has a socket and nothing to serve"),
            }
        }
        registrations
    }
}

impl Started {
    /// No call comes any more: finish, and end.
    async fn end(&mut self, deadline: Instant) {
        self.context.shutdown.cancel();
        if let Some(drain) = self.drain.take()
            && tokio::time::timeout_at(deadline, drain).await.is_err()
        {
            tracing::warn!(service = self.name, "its drain is cut: it took too long");
        }
        self.context.tasks.close();
        if tokio::time::timeout_at(deadline, self.context.tasks.wait()).await.is_err() {
            tracing::warn!(
                service = self.name,
                left = self.context.tasks.len(),
                "its tasks are cut: they took too long"
            );
        }
    }
}

/// An instance that is announced as soon as it is ready.
struct Announced(tokio::task::JoinHandle<Option<Registration>>);

impl Announced {
    fn when_ready(
        directory: Arc<dyn Directory>,
        instance: Instance,
        mut ready: tokio::sync::watch::Receiver<bool>,
        tasks: &TaskTracker,
        stopping: CancellationToken,
    ) -> Self {
        let announce = async move {
            ready.wait_for(|ready| *ready).await.ok()?;
            let mut pause = Duration::from_millis(200);
            loop {
                match directory.register(instance.clone()).await {
                    Ok(registration) => return Some(registration),
                    Err(error) => tracing::warn!(service = %instance.service, %error, "could not be registered"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(10));
            }
        };
        Self(tasks.spawn(async move { stopping.run_until_cancelled_owned(announce).await.flatten() }))
    }

    async fn end(self) {
        if let Ok(Some(registration)) = self.0.await {
            registration.end().await;
        }
    }
}

/// The address that others are told.
fn advertised(config: &Config, address: std::net::SocketAddr) -> Endpoint {
    let advertised = format!("{}:{}", config.advertise, address.port()).parse();
    advertised.unwrap_or_else(|_| Endpoint::from(address))
}

fn channels(
    name: &str,
    master: &MasterKey,
    slots: &HashMap<&'static str, LocalSlot>,
    directory: &Arc<dyn Directory>,
    config: &weir_rpc::Config,
) -> Channels {
    Channels::new(Source {
        identity: ServiceIdentity::new(name, master),
        slots: slots.clone(),
        directory: Arc::clone(directory),
        config: config.clone(),
    })
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("instance", &self.instance)
            .field("started", &self.started.len())
            .finish_non_exhaustive()
    }
}
