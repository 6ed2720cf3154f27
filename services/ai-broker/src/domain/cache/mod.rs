//! Which answers may be given again, and to which requests.

mod canonical;
mod texts;

use std::time::Duration;

use http::HeaderMap;

use super::api::Api;
use super::exchange::Exchange;
use super::request::ModelRequest;
use super::said;

use canonical::canonical;
pub(crate) use texts::Texts;

/// What the keys of kept answers are derived for.
pub(crate) const PURPOSE: &str = "answers";

/// What a request is known by that comes again: the SHA-256 of who asks, and of all that he says.
pub(crate) type RequestHash = [u8; 32];

/// Among whom answers are given again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// To the same user (or API key without one).
    User,
    /// Within the organisation.
    #[default]
    Tenant,
    /// Among all organisations that allow it.
    Shared,
}

/// What a route allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RoutePolicy {
    /// How long an answer is given again; zero: never.
    pub(crate) ttl: Duration,
    pub(crate) scope: Scope,
    /// Requests of one organisation that come while the same one is under way get its answer.
    pub(crate) coalesce: bool,
}

/// What an organisation allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TenantPolicy {
    pub(crate) enabled: bool,
    pub(crate) shared: bool,
    pub(crate) max_ttl: Option<Duration>,
}

/// What a request says of kept answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Neither take one nor keep its own.
    pub(crate) no_store: bool,
    /// Take none, and keep its own.
    pub(crate) no_cache: bool,
    /// Take none that is older.
    pub(crate) max_age: Option<Duration>,
    /// What makes requests the same, instead of their bodies.
    pub(crate) key: Option<String>,
}

/// Until when and for whom an answer may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) ttl: Duration,
    pub(crate) scope: Scope,
}

/// On which terms the answer to a request may be kept; none if it may not.
pub(crate) fn terms(route: RoutePolicy, tenant: TenantPolicy, wish: &Wish) -> Option<Terms> {
    let ttl = tenant.max_ttl.map_or(route.ttl, |max| route.ttl.min(max));
    if ttl.is_zero() || !tenant.enabled || wish.no_store {
        return None;
    }
    let scope = match route.scope {
        Scope::Shared if !tenant.shared => Scope::Tenant,
        // What a client names itself means nothing to others.
        Scope::Shared if wish.key.is_some() => Scope::Tenant,
        scope => scope,
    };
    Some(Terms { ttl, scope })
}

/// Whether a request does something at its provider beside being answered.
pub(crate) fn has_effects(request: &ModelRequest, body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Said {
        store: Option<bool>,
    }
    let may_store = matches!(request.api, Api::Chat | Api::Responses) && find!(body, b"\"store\"").is_some();
    may_store && serde_json::from_slice::<Said>(body).is_ok_and(|said| said.store == Some(true))
}

/// Everything that an answer depends on: whom the provider is, what it is told, and how the client wants to hear of it.
pub(crate) struct Question<'a> {
    pub(crate) provider: &'a str,
    pub(crate) request: &'a ModelRequest,
    pub(crate) exchange: &'a Exchange,
    pub(crate) headers: Option<&'a HeaderMap>,
    /// The user who asks, if answers are theirs alone.
    pub(crate) asker: Option<&'a str>,
    pub(crate) wish: &'a Wish,
    /// Which bodies say the same.
    pub(crate) texts: &'a Texts,
}

impl Question<'_> {
    /// Calls `name` with the parts of the question, in their order.
    pub(crate) fn named<T>(&self, name: impl FnOnce(&[&[u8]]) -> T) -> T {
        let apis = format!("{:?} {:?}", self.request.api, self.exchange.api);
        let shape = [self.request.stream, self.request.include_usage, self.asker.is_some()].map(u8::from);
        let mut parts: Vec<&[u8]> = vec![
            self.provider.as_bytes(),
            apis.as_bytes(),
            self.exchange.suffix.as_bytes(),
            &shape,
            self.asker.unwrap_or_default().as_bytes(),
        ];
        if let Some(key) = &self.wish.key {
            parts.extend([b"key".as_slice(), self.request.model.as_bytes(), key.as_bytes()]);
            return name(&parts);
        }
        let none = HeaderMap::new();
        let headers = self.headers.unwrap_or(&none);
        said::add_headers(&mut parts, headers);
        let text = match said::form(headers) {
            Some(boundary) => {
                parts.push(b"form");
                said::add_form(&mut parts, &self.exchange.body, boundary);
                return name(&parts);
            }
            None => self.texts.hash(&self.exchange.body),
        };
        parts.extend([b"json".as_slice(), &text]);
        name(&parts)
    }
}

/// The answer with `"cached":true` in it, if it is a JSON object.
pub(crate) fn marked(body: &[u8]) -> Option<Vec<u8>> {
    let open = body.iter().position(|byte| !byte.is_ascii_whitespace()).filter(|at| body[*at] == b'{')? + 1;
    let rest = &body[open..];
    let empty = rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
    let mark: &[u8] = if empty { b"\"cached\":true" } else { b"\"cached\":true," };
    Some([&body[..open], mark, rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn route_tenant_and_request_must_all_allow_it() {
        let route = RoutePolicy { ttl: HOUR, scope: Scope::Shared, coalesce: false };
        let tenant = TenantPolicy { enabled: true, shared: true, max_ttl: None };
        let wish = Wish::default();
        assert_eq!(terms(route, tenant, &wish), Some(Terms { ttl: HOUR, scope: Scope::Shared }));
        assert_eq!(terms(RoutePolicy::default(), tenant, &wish), None);
        assert_eq!(terms(route, TenantPolicy::default(), &wish), None);
        assert_eq!(terms(route, tenant, &Wish { no_store: true, ..Wish::default() }), None);
        let own = Some(Terms { ttl: HOUR, scope: Scope::Tenant });
        assert_eq!(terms(route, TenantPolicy { shared: false, ..tenant }, &wish), own);
        assert_eq!(terms(route, tenant, &Wish { key: Some("k".into()), ..Wish::default() }), own);
        let minute = Duration::from_secs(60);
        let short = terms(route, TenantPolicy { max_ttl: Some(minute), ..tenant }, &wish);
        assert_eq!(short.map(|terms| terms.ttl), Some(minute));
        let user = RoutePolicy { scope: Scope::User, ..route };
        assert_eq!(terms(user, tenant, &wish).map(|terms| terms.scope), Some(Scope::User));
    }

    #[test]
    fn json_objects_are_marked_and_nothing_else() {
        let of = |body: &str| marked(body.as_bytes()).map(|body| String::from_utf8(body).expect("text"));
        assert_eq!(of(r#" {"id":1}"#).as_deref(), Some(r#" {"cached":true,"id":1}"#));
        assert_eq!(of("{ }").as_deref(), Some("{\"cached\":true }"));
        assert_eq!([of("[1]"), of("ID3"), of("")], [None, None, None]);
    }
}
