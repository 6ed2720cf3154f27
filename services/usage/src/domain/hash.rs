//! The payload hash: tells a repeated event from another event under the same id.

use ring::digest::{Context, SHA256};
use uuid::Uuid;

use super::Event;

/// Precedes the number of requests. Other than what an id begins with.
const REQUESTS: u8 = 2;

/// SHA-256 of an event's payload, cut to 16 bytes: nobody who could collide it on purpose may record events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadHash(pub [u8; 16]);

impl PayloadHash {
    /// The hash of everything in `event` but `estimated`, which says how sure the amounts are, not what they are.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        // Names its version, so that a later encoding can't be mistaken for this one.
        let mut bytes = b"weir.usage.v1".to_vec();
        bytes.reserve(384);
        id(&mut bytes, Some(event.id.as_uuid()));
        text(&mut bytes, &event.source);
        id(&mut bytes, Some(event.organization.as_uuid()));
        id(&mut bytes, event.user.as_ref().map(weir_types::UserId::as_uuid));
        id(&mut bytes, event.api_key.as_ref().map(weir_types::ApiKeyId::as_uuid));
        text(&mut bytes, &event.provider);
        text(&mut bytes, &event.model);
        text(&mut bytes, &event.operation);
        number(&mut bytes, event.event_time.timestamp_micros());
        number(&mut bytes, event.input_tokens);
        number(&mut bytes, event.cached_input_tokens);
        number(&mut bytes, event.output_tokens);
        bytes.extend_from_slice(&(event.quantities.len() as u64).to_be_bytes());
        for (unit, amount) in &event.quantities {
            text(&mut bytes, unit);
            number(&mut bytes, *amount);
        }
        number(&mut bytes, event.cost_nano_usd);
        text(&mut bytes, &event.price_version);
        number(&mut bytes, i64::from(event.outcome.code()));
        number(&mut bytes, event.latency_ms);
        number(&mut bytes, event.first_byte_ms);
        text(&mut bytes, &event.request_id);
        // Only where there is one: the others hash as they did before there were any.
        if let Some(key) = &event.provider_key {
            id(&mut bytes, Some(key.as_uuid()));
        }
        if event.requests != 1 {
            bytes.push(REQUESTS);
            number(&mut bytes, event.requests);
        }
        let mut context = Context::new(&SHA256);
        context.update(&bytes);
        let mut hash = [0; 16];
        hash.copy_from_slice(&context.finish().as_ref()[..16]);
        Self(hash)
    }
}

// Lengths and tags come first, so that no two events share an encoding.
fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

fn number(bytes: &mut Vec<u8>, number: i64) {
    bytes.extend_from_slice(&number.to_be_bytes());
}

fn id(bytes: &mut Vec<u8>, id: Option<&Uuid>) {
    bytes.push(u8::from(id.is_some()));
    if let Some(id) = id {
        bytes.extend_from_slice(id.as_bytes());
    }
}
