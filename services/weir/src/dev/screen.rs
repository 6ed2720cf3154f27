//! The one screen that a newcomer sees.

use std::net::SocketAddr;

use crate::dev::home::Home;
use crate::dev::provider::Provider;
use crate::dev::servers::Servers;

pub(crate) struct Facts<'a> {
    pub(crate) url: &'a str,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) provider: &'a Provider,
    pub(crate) home: &'a Home,
    pub(crate) servers: &'a Servers,
}

pub(crate) fn text(facts: &Facts<'_>) -> String {
    let environment = facts.home.environment();
    let environment = environment.display();
    let metrics = facts.metrics.map_or_else(|| "off".to_owned(), |address| format!("http://{address}/metrics"));
    // `. dev.env` alone would be looked for in PATH.
    let source =
        if environment.to_string().contains('/') { environment.to_string() } else { format!("./{environment}") };
    format!(
        r#"
Weir is up.

  API        {url}/v1
  provider   {provider}
  key        {environment} (WEIR_URL, WEIR_API_KEY)
  data       {data}
  metrics    {metrics}

Try it in another terminal:

  . {source}
  curl "$WEIR_URL/v1/chat/completions" -H "Authorization: Bearer $WEIR_API_KEY" -H "Content-Type: application/json" \
    -d '{{"model": "gpt-4o-mini", "max_tokens": 32, "messages": [{{"role": "user", "content": "Hello!"}}]}}'

Then ask the services whether their books balance: {weir} audit{option}
Ctrl-C stops everything and keeps the data."#,
        url = facts.url,
        provider = facts.provider.describe(),
        data = facts.servers.describe(),
        option = facts.home.option(),
        weir = std::env::args().next().unwrap_or_else(|| "weir".to_owned()),
    )
}
