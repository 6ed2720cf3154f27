//! `weir quota explain`

use chrono::Utc;
use weir_proto::quota::v1::quota_service_client::QuotaServiceClient;
use weir_proto::quota::v1::{ExplainRequest, Subject};
use weir_types::ReservationId;

use super::json;
use super::report::Report;
use crate::cli::ExplainArguments;
use crate::config::WeirConfig;
use crate::console;
use crate::failure::Failure;
use crate::operator::{Operator, named};
use crate::serve;

pub(crate) fn run(config: WeirConfig, arguments: ExplainArguments) -> Result<(), Failure> {
    let ExplainArguments { reservation, organization, user, api_key, max, json: as_json } = arguments;
    let organization = organization.map(|name| named("organizations/", name));
    let member = |collection: &str, name: Option<String>| match (&organization, name) {
        (_, None) => String::new(),
        (_, Some(name)) if name.starts_with("organizations/") => name,
        (Some(organization), Some(name)) => format!("{organization}/{}", named(collection, name)),
        (None, Some(name)) => name,
    };
    let (user, api_key) = (member("users/", user), member("apiKeys/", api_key));
    if let Some(id) = &reservation {
        // What is no id is told here, before anybody is asked.
        id.parse::<ReservationId>().map_err(|error| Failure::usage(format!("--reservation {id}: {error}")))?;
    }
    let subject =
        organization.clone().map(|organization| Subject { organization, user, api_key, ..Subject::default() });
    let request = ExplainRequest { subject, reservation_id: reservation.clone().unwrap_or_default(), page_size: max };
    serve::runtime(1)?.block_on(async {
        let channel = Operator::new(&config)?.channel("quota");
        let mut quota = QuotaServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let answer = quota.explain(request.clone()).await;
        let answer = answer.map_err(|status| Failure::refused("explaining", &status))?.into_inner();
        if as_json {
            console::print_json(&json::explanation(&answer));
        } else {
            let report = Report {
                answer: &answer,
                about: request.subject.as_ref(),
                alone: reservation.is_some(),
                now: Utc::now(),
            };
            console::print(report.to_string().trim_end());
        }
        Ok(())
    })
}
