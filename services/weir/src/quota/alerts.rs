//! `weir quota alerts`

use chrono::{DateTime, Utc};
use serde::Serialize;
use weir_proto::quota::v1::quota_service_client::QuotaServiceClient;
use weir_proto::quota::v1::{Alert, ListAlertsRequest, WatchAlertsRequest};
use weir_quota::words::Quantity;
use weir_rpc::Channel;

use super::table::Table;
use super::times;
use crate::cli::AlertsArguments;
use crate::config::WeirConfig;
use crate::console;
use crate::failure::Failure;
use crate::operator::{Operator, named};
use crate::serve;

#[derive(Serialize)]
struct Listed {
    alerts: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    time: Option<DateTime<Utc>>,
    limit: String,
    scope: String,
    subject: String,
    unit: String,
    percent: i32,
    cap: i64,
    used: i64,
    held: i64,
    refused: bool,
    period_start_time: Option<DateTime<Utc>>,
    period_end_time: Option<DateTime<Utc>>,
}

pub(crate) fn run(config: WeirConfig, arguments: AlertsArguments) -> Result<(), Failure> {
    let organization = arguments.organization.map(|name| named("organizations/", name));
    serve::runtime(1)?.block_on(async {
        let quota = QuotaServiceClient::new(Operator::new(&config)?.channel("quota"));
        match organization {
            _ if arguments.follow => follow(quota, organization.unwrap_or_default(), arguments.json).await,
            Some(organization) => list(quota, organization, arguments.max, arguments.json).await,
            None => Err(Failure::usage("--organization is needed, unless --follow is given")),
        }
    })
}

async fn list(mut quota: QuotaServiceClient<Channel>, parent: String, most: i32, json: bool) -> Result<(), Failure> {
    let request = ListAlertsRequest { parent, page_size: most, page_token: String::new() };
    let answer = quota.list_alerts(request).await;
    let answer = answer.map_err(|status| Failure::refused("listing the alerts", &status))?.into_inner();
    if json {
        console::print_json(&Listed { alerts: answer.alerts.into_iter().map(Shown::from).collect() });
        return Ok(());
    }
    if answer.alerts.is_empty() {
        console::print("No alert has fired.");
        return Ok(());
    }
    let now = Utc::now();
    let mut table =
        Table::new(&["TIME", ">REACHED", "LIMIT", "SCOPE", "WHOSE", ">USED", ">OF", ">HELD", "PERIOD ENDS"]);
    for alert in &answer.alerts {
        let figure = |value| Quantity { unit: &alert.unit, value }.figure();
        table.row(vec![
            times::instant(alert.fire_time).map(|time| times::short(time, now)).unwrap_or_default(),
            format!("{} %", alert.percent),
            alert.limit.clone(),
            alert.scope.clone(),
            if alert.subject.is_empty() { "all".to_owned() } else { alert.subject.clone() },
            figure(alert.used),
            figure(alert.cap),
            figure(alert.held),
            times::instant(alert.period_end_time).map_or_else(|| "-".to_owned(), |time| times::short(time, now)),
        ]);
    }
    console::print(table.to_string().trim_end());
    if !answer.next_page_token.is_empty() {
        console::print("There are older ones: --max shows more, up to 1,000.");
    }
    Ok(())
}

/// Prints each as it fires, until it is interrupted. A stream that breaks goes on where it was.
async fn follow(mut quota: QuotaServiceClient<Channel>, organization: String, json: bool) -> Result<(), Failure> {
    let mut position = String::new();
    loop {
        let request = WatchAlertsRequest { organization: organization.clone(), position: position.clone() };
        let stream = quota.watch_alerts(request).await;
        let mut stream = match stream {
            Ok(stream) => stream.into_inner(),
            // It worked before, so it may again.
            Err(status) if !position.is_empty() && status.code() == tonic::Code::Unavailable => {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                continue;
            }
            Err(status) => return Err(Failure::refused("following the alerts", &status)),
        };
        while let Ok(Some(message)) = stream.message().await {
            position = message.position;
            if let Some(alert) = message.alert {
                if json {
                    console::print_json(&Shown::from(alert));
                } else {
                    console::print(line(&alert));
                }
            }
        }
        if position.is_empty() {
            return Err(Failure::unavailable("quota", &std::io::Error::other("the stream ended before it began")));
        }
    }
}

fn line(alert: &Alert) -> String {
    let quantity = |value| Quantity { unit: &alert.unit, value };
    let whose = if alert.subject.is_empty() { String::new() } else { format!(" of {} {}", alert.scope, alert.subject) };
    let organization = alert.name.split("/alerts/").next().unwrap_or_default();
    let refused = if alert.refused { "; a call was refused" } else { "" };
    format!(
        "{}  {}: {} % of {}{whose}: {} of {}{refused}",
        times::instant(alert.fire_time).map(times::full).unwrap_or_default(),
        organization,
        alert.percent,
        alert.limit,
        quantity(alert.used).figure(),
        quantity(alert.cap),
    )
}

impl From<Alert> for Shown {
    fn from(alert: Alert) -> Self {
        Self {
            time: times::instant(alert.fire_time),
            period_start_time: times::instant(alert.period_start_time),
            period_end_time: times::instant(alert.period_end_time),
            name: alert.name,
            limit: alert.limit,
            scope: alert.scope,
            subject: alert.subject,
            unit: alert.unit,
            percent: alert.percent,
            cap: alert.cap,
            used: alert.used,
            held: alert.held,
            refused: alert.refused,
        }
    }
}
