use weir_audit::{Instance, Options, Services};

use crate::cli::AuditArguments;
use crate::config::WeirConfig;
use crate::console;
use crate::failure::Failure;
use crate::operator::Operator;
use crate::serve;

/// `weir audit`
pub(crate) fn run(config: WeirConfig, arguments: AuditArguments) -> Result<(), Failure> {
    serve::runtime(1)?.block_on(async {
        let operator = Operator::new(&config)?;
        let brokers = operator.instances("ai-broker").await.into_iter();
        let services = Services {
            quota: operator.channel("quota"),
            usage: operator.channel("usage"),
            billing: operator.channel("billing"),
            brokers: brokers.map(|(name, channel)| Instance { name, channel }).collect(),
        };
        let options = Options { settle: arguments.settle, organization: arguments.organization };
        let report = weir_audit::audit(&services, &options)
            .await
            .map_err(|error| Failure::unavailable("the audit proves nothing", &error))?;
        if arguments.json {
            console::print_json(&report);
        } else {
            console::print(&report);
        }
        if report.balanced { Ok(()) } else { Err(Failure::drift()) }
    })
}
