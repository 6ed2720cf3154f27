use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::services::Name;

/// Weir: hard limits and balanced books for products built on AI.
///
/// Exit codes: 0 done, 1 the books do not balance, 64 bad usage or configuration, 69 something needed does not answer.
#[derive(Debug, Parser)]
#[command(name = "weir", version)]
pub(crate) struct Cli {
    /// Configuration on top of the defaults; `WEIR_SECTION__KEY` variables are on top of both.
    #[arg(long, global = true, env = "WEIR_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything in one process, with private servers and a key to try it with.
    Dev(DevArguments),
    /// Serve one, several or all services from this process.
    Serve(ServeArguments),
    /// Create and update roles, schemas and tables of every service; safe to run again.
    Migrate,
    /// Report every problem of the configuration, and exit 64 if there is one.
    CheckConfig(JsonArguments),
    /// Serve a provider that speaks OpenAI's dialect and costs nothing.
    Simulate(weir_simulator::Args),
    /// Prove that quota, usage and billing agree on every request; exit 1 if they do not.
    Audit(AuditArguments),
    /// Print the public API's OpenAPI document.
    Openapi,
    /// Create an organisation with a first user and an API key, which is shown once.
    CreateTenant(CreateTenantArguments),
    /// Put an organisation on a plan from now on; limits of its own stay.
    SetPlan(SetPlanArguments),
    /// Say why calls were admitted or refused, who holds what, and which limits are nearly used up.
    #[command(subcommand)]
    Quota(QuotaCommand),
    /// Revoke an API key everywhere, within seconds.
    RevokeKey(RevokeKeyArguments),
    /// Sign tokens with a new key from now on; those of the old one stay valid until they expire.
    RotateSigningKey(JsonArguments),
}

#[derive(Debug, Args)]
pub(crate) struct DevArguments {
    /// Where data and keys are kept between runs.
    #[arg(long, default_value = ".weir", value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// Which services: their names, or `all`.
    #[arg(required = true, value_name = "SERVICE")]
    pub(crate) services: Vec<Name>,
}

#[derive(Debug, Args)]
pub(crate) struct JsonArguments {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArguments {
    /// How long calls that are just ending may take to appear in every service's books.
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub(crate) settle: Duration,
    /// Only this organisation.
    #[arg(long, value_name = "organizations/ID")]
    pub(crate) organization: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CreateTenantArguments {
    /// The organisation's name, for people.
    #[arg(long)]
    pub(crate) name: String,
    /// The first user's e-mail address; without one the key is the organisation's own.
    #[arg(long)]
    pub(crate) email: Option<String>,
    /// The plan, such as `pro`; without one the default plan applies.
    #[arg(long)]
    pub(crate) plan: Option<String>,
    /// What the key may do; every scope if none is given.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<weir_types::Scope>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SetPlanArguments {
    /// Which organisation: its id or its name.
    #[arg(long, value_name = "organizations/ID")]
    pub(crate) organization: String,
    /// The plan, such as `pro`.
    #[arg(long)]
    pub(crate) plan: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuotaCommand {
    /// Explain a reservation, or the limits, calls under way and last decisions of an organisation or user.
    ///
    /// A reservation's id is also its usage event's, and went to the provider as `x-client-request-id`. Refusals are a sample, kept
    /// for `quota.refusals.retention` (7 days); what was admitted is kept for `quota.settlements.retention` (35 days). Changes nothing.
    Explain(ExplainArguments),
    /// List the soft alerts of an organisation, newest first, or follow them as they fire.
    Alerts(AlertsArguments),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("about").required(true).multiple(true).args(["reservation", "organization"]))]
pub(crate) struct ExplainArguments {
    /// This reservation: which limits applied, how they stood, and how it ended.
    #[arg(long, value_name = "ID")]
    pub(crate) reservation: Option<String>,
    /// Of which organisation: its id or its name. A reservation is found without it.
    #[arg(long, value_name = "organizations/ID")]
    pub(crate) organization: Option<String>,
    /// Only this user: the id or the name.
    #[arg(long, value_name = "ID", requires = "organization")]
    pub(crate) user: Option<String>,
    /// Only this API key: the id or the name.
    #[arg(long, value_name = "ID", requires = "organization")]
    pub(crate) api_key: Option<String>,
    /// At most so many calls under way, and so many decisions.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i32).range(1..=500), value_name = "N")]
    pub(crate) max: i32,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AlertsArguments {
    /// Of which organisation: its id or its name.
    #[arg(long, value_name = "organizations/ID", required_unless_present = "follow")]
    pub(crate) organization: Option<String>,
    /// Print each alert as it fires, of all organisations if none is given, until interrupted.
    #[arg(long)]
    pub(crate) follow: bool,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1_000), value_name = "N")]
    pub(crate) max: i32,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeKeyArguments {
    /// The key's name.
    #[arg(value_name = "organizations/ID/apiKeys/ID")]
    pub(crate) api_key: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn duration(text: &str) -> Result<Duration, weir_config::duration::InvalidDuration> {
    weir_config::duration::parse(text)
}
