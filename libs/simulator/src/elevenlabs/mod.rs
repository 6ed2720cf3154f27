//! ElevenLabs.

pub(crate) mod errors;
mod speech;

use std::collections::HashMap;

use http::Method;
use http::header::{HeaderMap, HeaderValue};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::json;

use crate::dialect::Dialect;
use crate::ids::Id;
use crate::keys::Headroom;
use crate::route::nowhere;
use crate::service::{Answered, Asking, Call, Output};

/// What a key may have under way where nothing is limited.
const GENEROUS: u64 = 15;
/// The voices that are listed; any name of twenty letters and digits is one.
const VOICES: [(&str, &str); 2] = [("21m00Tcm4TlvDq8ikWAM", "Rachel"), ("JBFqnCBsd6RMkjVDRZzb", "George")];

pub(crate) async fn route(call: &Call, method: &Method, path: &str, body: Incoming) -> Answered {
    if let Some(rest) = path.strip_prefix("/v1/text-to-speech/") {
        let (voice, tail) = rest.split_once('/').unwrap_or((rest, ""));
        return match (method, tail) {
            (&Method::POST, "" | "stream") => speech::answer(call, voice, tail == "stream", body).await,
            _ => Err(nowhere(Dialect::ElevenLabs, method, path, matches!(tail, "" | "stream")).into()),
        };
    }
    match (path, method) {
        ("/v1/models", &Method::GET) => {
            let admitted = call.admit(Asking::of("models", "")).await?;
            let model = |(id, multiplier): (&str, f64)| {
                json!({
                    "model_id": id, "name": id, "can_do_text_to_speech": true,
                    "model_rates": {"character_cost_multiplier": multiplier},
                })
            };
            let models = speech::MODELS.map(|known| model((known.id, if known.half { 0.5 } else { 1.0 })));
            Ok(call.respond(admitted, Output::json(json!(models).to_string())))
        }
        ("/v1/voices", &Method::GET) => {
            let admitted = call.admit(Asking::of("voices", "")).await?;
            let voices = VOICES.map(|(id, name)| json!({"voice_id": id, "name": name, "category": "premade"}));
            Ok(call.respond(admitted, Output::json(json!({"voices": voices}).to_string())))
        }
        ("/v1/user/subscription", &Method::GET) => {
            let admitted = call.admit(Asking::of("subscription", "")).await?;
            let body = json!({
                "tier": "simulated",
                "character_count": call.state.credits.used(&call.secret),
                "character_limit": call.state.options.characters.unwrap_or(u64::from(u32::MAX)),
                "can_extend_character_limit": false,
                "status": "active",
            });
            Ok(call.respond(admitted, Output::json(body.to_string())))
        }
        (path, method) => {
            let exists = matches!(path, "/v1/models" | "/v1/voices" | "/v1/user/subscription");
            Err(nowhere(Dialect::ElevenLabs, method, path, exists).into())
        }
    }
}

/// Sets what every answer carries.
pub(crate) fn set_headers(headers: &mut HeaderMap, id: &Id, headroom: Option<&Headroom>) {
    if let Some(id) = id.header("") {
        headers.insert("request-id", id);
    }
    if let Some(headroom) = headroom {
        let (current, most) = headroom.concurrent.unwrap_or((1, GENEROUS));
        headers.insert("current-concurrent-requests", HeaderValue::from(current));
        headers.insert("maximum-concurrent-requests", HeaderValue::from(most));
    }
}

/// The credits that each key has spent.
#[derive(Debug, Default)]
pub(crate) struct Credits(Mutex<HashMap<Box<str>, u64>>);

impl Credits {
    fn used(&self, secret: &str) -> u64 {
        self.0.lock().get(secret).copied().unwrap_or(0)
    }

    /// Spends credits, or answers how many are left if they are too few.
    fn spend(&self, secret: &str, cost: u64, limit: Option<u64>) -> Result<(), u64> {
        let mut spent = self.0.lock();
        let used = spent.entry(Box::from(secret)).or_default();
        let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(*used));
        if cost > left {
            return Err(left);
        }
        *used += cost;
        Ok(())
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }
}
