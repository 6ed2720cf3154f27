//! Sends a recorded hour through the public API, and holds everybody's books against the file.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use http::HeaderValue;
use indicatif::{ProgressBar, ProgressStyle};

use crate::books::{self, Books};
use crate::chat::Chat;
use crate::client::{Ending, Observed, Request};
use crate::deployment::{Audited, Deployment, Mode, Options};
use crate::latency::Quantiles;
use crate::load::{self, Outcome, Plan};
use crate::prices::Prices;
use crate::report::{Balance, estimated, say};
use crate::tenants::{Tenant, UNLIMITED};
use crate::totals::Totals;
use crate::trace::{Row, Trace};

/// Two models of different prices, both with exact and with rounded costs.
const MODELS: [&str; 2] = ["gpt-4o-mini", "gpt-4o"];
/// How long a request that was turned away is tried again.
const PATIENCE: Duration = Duration::from_secs(30);
/// Everything must be settled and rated so soon after the last answer.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// Of failures, so many are told.
const TOLD: usize = 10;

/// `weir-integration-tests replay`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The trace: a CSV file with the columns TIMESTAMP, ContextTokens, GeneratedTokens.
    #[arg(long, default_value_os_t = Trace::default_path())]
    pub trace: PathBuf,
    /// 1 is the pace of the recording, 10 is ten times that, `max` as fast as it is answered.
    #[arg(long, default_value = "max")]
    pub speed: Speed,
    /// How many tenants share the requests.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub tenants: u16,
    /// How many connections the clients hold.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub connections: u16,
    /// Run Weir as one process or each service as its own.
    #[arg(long, default_value = "one")]
    pub mode: Mode,
    /// Only the first so many requests.
    #[arg(long)]
    pub rows: Option<usize>,
    /// Milliseconds that the provider takes before its first byte.
    #[arg(long, default_value_t = 0)]
    pub latency_ms: u64,
}

/// How fast a trace is replayed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// As fast as it is answered.
    Max,
    /// So many times the recording's pace.
    Times(f64),
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self::Max),
            text => match text.parse() {
                Ok(times) if times > 0.0 && f64::is_finite(times) => Ok(Self::Times(times)),
                _ => Err("expected `max` or a number above 0, such as 1 or 10".to_owned()),
            },
        }
    }
}

/// How the rows of a trace become requests: by number, so that it can be computed again.
#[derive(Debug, Clone)]
pub struct Workload<'a> {
    /// The requests.
    pub rows: &'a [Row],
    authorizations: Vec<HeaderValue>,
    speed: Speed,
}

impl<'a> Workload<'a> {
    /// Spreads rows over tenants; each tenant streams half of its requests and asks two models in turn.
    ///
    /// # Errors
    /// A tenant's secret is no header value.
    pub fn new(rows: &'a [Row], tenants: &[Tenant], speed: Speed) -> anyhow::Result<Self> {
        Ok(Self { rows, authorizations: tenants.iter().map(Tenant::authorization).collect::<Result<_, _>>()?, speed })
    }

    /// The model that a row asks for.
    #[must_use]
    pub fn model(&self, number: usize) -> &'static str {
        MODELS[number / self.authorizations.len() / 2 % MODELS.len()]
    }

    /// The request of a row.
    #[must_use]
    pub fn request(&self, number: usize) -> Request {
        let row = &self.rows[number];
        let streamed = (number / self.authorizations.len()).is_multiple_of(2);
        let chat = Chat { model: self.model(number), input: row.input, output: row.output, streamed, simulate: "" };
        Request {
            path: "/v1/chat/completions",
            authorization: self.authorizations[number % self.authorizations.len()].clone(),
            body: chat.body(),
            streamed,
            headers: Vec::new(),
        }
    }

    /// When a row is to be sent; at its turn, if that is none.
    #[must_use]
    pub fn due(&self, number: usize) -> Option<Duration> {
        match self.speed {
            Speed::Max => None,
            Speed::Times(times) => Some(self.rows[number].at.div_f64(times)),
        }
    }

    /// What the file adds up to.
    ///
    /// # Errors
    /// A model has no price.
    pub fn file_totals(&self, prices: &Prices) -> anyhow::Result<Totals> {
        let rows = self.rows.iter().enumerate();
        rows.map(|(number, row)| {
            prices.request(self.model(number), i64::try_from(row.input)?, i64::try_from(row.output)?)
        })
        .sum()
    }

    /// What the clients saw: the usage in the answers that came completely.
    ///
    /// # Errors
    /// A model has no price.
    pub fn client_totals(&self, outcome: &Outcome, prices: &Prices) -> anyhow::Result<Totals> {
        let complete = outcome.answers.iter().filter(|(.., observed)| observed.ending == Ending::Complete);
        complete
            .filter_map(|(number, _, observed)| observed.usage.map(|usage| (number, usage)))
            .map(|(number, (input, output))| prices.request(self.model(*number), input, output))
            .sum()
    }
}

/// A replay that is over.
#[derive(Debug)]
pub struct Replayed {
    /// The books side by side.
    pub balance: Balance,
    /// What the services say.
    pub books: Books,
    /// Every answer.
    pub outcome: Outcome,
    /// From the last answer until everything was settled and rated.
    pub settled_after: Duration,
    /// What the services say about each other.
    pub audited: Audited,
}

/// Starts a deployment, replays, and reports. Answers whether the books balance.
///
/// # Errors
/// Something does not start, or a service does not answer.
pub async fn run(args: &Args) -> anyhow::Result<bool> {
    let trace = Trace::read(&args.trace)?;
    let trace = trace.take(args.rows.unwrap_or(usize::MAX));
    let latency = args.latency_ms.to_string();
    let options = Options { provider_args: vec!["--latency-ms".to_owned(), latency], ..Options::new(args.mode) };
    let deployment = Deployment::start(options).await?;
    say(format!(
        "{} requests of {} through {} ({}), {} tenants, {} connections",
        trace.rows.len(),
        trace.path.file_name().unwrap_or_default().to_string_lossy(),
        deployment.facade(),
        args.mode,
        args.tenants,
        args.connections
    ))?;
    let bar = progress_bar(trace.rows.len())?;
    let replayed =
        replay(&deployment, &trace.rows, args.speed, args.tenants, usize::from(args.connections), |_| bar.inc(1)).await;
    bar.finish_and_clear();
    let replayed = match replayed {
        Ok(replayed) => replayed,
        Err(error) => return Err(error.context(format!("the logs are in {}", deployment.keep_logs().display()))),
    };
    deployment.stop().await?;
    tell(&replayed)?;
    Ok(replayed.balance.balanced() && replayed.audited.clean)
}

/// Makes the tenants, sends the rows, waits until everything is settled, and asks everybody.
///
/// # Errors
/// A service does not answer, or does not settle.
pub async fn replay(
    deployment: &Deployment,
    rows: &[Row],
    speed: Speed,
    tenants: u16,
    connections: usize,
    progress: impl Fn(&Observed),
) -> anyhow::Result<Replayed> {
    let (siblings, prices) = (&deployment.siblings, deployment.prices().await?);
    let mut all = Vec::new();
    for number in 1..=tenants {
        all.push(Tenant::create(siblings, &format!("Tenant {number}"), UNLIMITED, Vec::new()).await?);
    }
    let workload = Workload::new(rows, &all, speed)?;
    let plan = Plan { address: deployment.facade(), connections, requests: rows.len(), patience: PATIENCE };
    let outcome = load::send(plan, |n| workload.request(n), |n| workload.due(n), progress).await;

    let settled_after = books::settle(siblings, SETTLED_WITHIN).await?;
    let organizations: Vec<String> = all.iter().map(|tenant| tenant.organization.clone()).collect();
    let books = Books::of(siblings, &organizations).await?;
    let provider = books::provider_book(&deployment.provider, &prices).await?;
    let client = workload.client_totals(&outcome, &prices)?;
    let balance = Balance::of(workload.file_totals(&prices)?, client, provider, &books);
    let audited = deployment.audit().await?;
    Ok(Replayed { balance, books, outcome, settled_after, audited })
}

fn tell(replayed: &Replayed) -> anyhow::Result<()> {
    let Replayed { balance, books, outcome, settled_after, audited } = replayed;
    tell_pace(outcome)?;
    say(format!("settled and rated {:.1} s after the last answer\n", settled_after.as_secs_f64()))?;
    say(balance.text())?;
    for (name, book) in [("quota", &books.quota), ("usage", &books.usage), ("billing", &books.billing)] {
        estimated(name, book).map_or(Ok(()), say)?;
    }
    if !audited.clean {
        say(&audited.text)?;
    }
    say(balance.json())
}

/// A bar on standard error, drawn only on a terminal.
///
/// # Errors
/// The template is wrong.
pub fn progress_bar(requests: usize) -> anyhow::Result<ProgressBar> {
    let template = "{wide_bar} {pos}/{len}  {per_sec}  {eta} left";
    let style = ProgressStyle::with_template(template).context("the progress bar's template")?;
    Ok(ProgressBar::new(requests as u64).with_style(style))
}

fn tell_pace(outcome: &Outcome) -> anyhow::Result<()> {
    let seconds = outcome.took.as_secs_f64();
    let requests = outcome.answers.len();
    say(format!("{requests} answers in {seconds:.1} s, {:.0} a second", requests as f64 / seconds.max(1e-9)))?;
    let of = |time: fn(&(usize, Duration, Observed)) -> Duration| Quantiles::of(outcome.answers.iter().map(time));
    say(format!("whole answer  {}", of(|(_, late, observed)| *late + observed.total)))?;
    say(format!("first byte    {}", of(|(_, late, observed)| *late + observed.first_byte)))?;
    for (reason, times) in &outcome.turned_away {
        say(format!("{times} requests were turned away and sent again: {reason}"))?;
    }
    let failed = || outcome.answers.iter().filter(|(.., observed)| observed.ending != Ending::Complete);
    for (number, _, observed) in failed().take(TOLD) {
        say(format!("request {number} failed with status {}: {:?}", observed.status, observed.ending))?;
    }
    if failed().count() > TOLD {
        say(format!("... and {} more", failed().count() - TOLD))?;
    }
    if requests == 0 {
        bail!("nothing was sent");
    }
    Ok(())
}
