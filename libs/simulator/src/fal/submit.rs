//! `POST /{owner}/{app}/…`: a picture is asked for, and made in its turn.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HOST;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::job::{Job, Phase};
use super::webhook::Webhook;
use super::{errors, urls};
use crate::books::{Entry, Extras};
use crate::dialect::header;
use crate::directive::Break;
use crate::picture::{Picture, size_of};
use crate::refusal::Refusal;
use crate::service::{Answered, Asking, Call, Output, State};

const MOST_PICTURES: u64 = 4;

#[derive(Deserialize)]
struct Body {
    prompt: Option<String>,
    image_size: Option<Value>,
    num_images: Option<u64>,
    seed: Option<u64>,
    #[serde(default)]
    sync_mode: bool,
}

/// What shall be made.
struct Order {
    prompt: String,
    size: (u32, u32),
    pictures: u64,
    seed: u64,
    host: String,
    /// Pictures come in the result itself.
    inline: bool,
    takes: Duration,
    fault: Option<Break>,
}

pub(crate) async fn answer(call: &Call, parts: &[&str], body: Incoming) -> Answered {
    let body = call.read(body).await?;
    let body: Body = serde_json::from_slice(&body)
        .map_err(|error| Refusal::new(422, "json_invalid", error.to_string()).param("body"))?;
    let prompt = body.prompt.ok_or_else(|| errors::missing("prompt"))?;
    let size = size(body.image_size.as_ref())?;
    let pictures = body.num_images.unwrap_or(1);
    if !(1..=MOST_PICTURES).contains(&pictures) {
        return Err(errors::wrong("num_images", "Input should be from 1 to 4").into());
    }
    let webhook = call.query.split('&').find_map(|pair| pair.strip_prefix("fal_webhook="));
    let webhook = webhook.map(|url| Webhook::to(url).ok_or_else(|| errors::wrong("fal_webhook", "Invalid URL")));
    let webhook = webhook.transpose()?;
    let model = parts.join("/");
    if !call.state.model_exists(&model) {
        return Err(Refusal::new(404, "not_found", format!("Application \"{model}\" not found")).into());
    }
    let admitted = call.admit(Asking::of("queue.submit", &model)).await?;
    let id = uuid_of(call.id.as_str());
    let directive = &admitted.directive;
    let order = Order {
        takes: directive.generation.unwrap_or_else(|| drawn(&id, call.state.options.generation)),
        fault: directive.break_after.map(|(_, kind)| kind),
        seed: body.seed.unwrap_or_else(|| hash(&prompt)),
        host: header(&call.headers, HOST.as_str()).unwrap_or("localhost").to_owned(),
        inline: body.sync_mode,
        prompt,
        size,
        pictures,
    };
    let (job, runners) = call.state.queue.enter(id, parts[..2].join("/"), &call.secret);
    let mut answer = urls(call, &job);
    answer["status"] = "IN_QUEUE".into();
    answer["queue_position"] = call.state.queue.position(&job).into();
    let (response, entry) = call.respond_early(admitted, Output::json(answer.to_string()));
    let state = Arc::clone(&call.state);
    call.state.tasks.spawn(async move {
        let stop = state.stop.clone();
        tokio::select! {
            () = run(&state, &job, &runners, &order, entry) => {}
            () = stop.cancelled() => return,
        }
        if let Some(webhook) = webhook {
            tokio::select! {
                () = webhook.deliver(state.queue.signer(), &job) => {}
                () = stop.cancelled() => {}
            }
        }
    });
    Ok(response)
}

/// The job's turn, its time, and its end.
async fn run(state: &State, job: &Job, runners: &Semaphore, order: &Order, entry: Entry) {
    let made = async {
        let _runner = runners.acquire().await;
        state.queue.leave(job);
        job.enter(Phase::Running);
        tokio::time::sleep(order.takes).await;
        if order.fault == Some(Break::Hang) {
            std::future::pending::<()>().await;
        }
    };
    let cancelled = tokio::select! {
        () = made => false,
        () = job.cancel.cancelled() => true,
    };
    state.queue.leave(job);
    if cancelled {
        job.enter(Phase::Failed { status: 499, message: "Request was cancelled", kind: "client_cancelled" });
    } else if order.fault.is_some() {
        job.enter(Phase::Failed { status: 500, message: "Internal server error", kind: "internal_server_error" });
    } else {
        entry.charge(0, 0);
        entry.charge_extras(Extras { images: order.pictures, ..Extras::default() });
        job.enter(Phase::Done { result: Arc::new(order.result()), seconds: order.takes.as_secs_f64() });
    }
    entry.finish();
}

impl Order {
    fn result(&self) -> Value {
        let images: Vec<Value> = (0..self.pictures)
            .map(|nth| {
                let picture = Picture::of_prompt(&self.prompt, nth ^ self.seed, self.size);
                let url = if self.inline {
                    format!("data:image/png;base64,{}", STANDARD.encode(picture.png()))
                } else {
                    format!("http://{}/files/{}", self.host, picture.name())
                };
                json!({
                    "url": url,
                    "width": picture.width,
                    "height": picture.height,
                    "content_type": "image/png",
                })
            })
            .collect();
        let safe = vec![false; images.len()];
        json!({
            "images": images,
            "timings": {"inference": self.takes.as_secs_f64()},
            "seed": self.seed,
            "has_nsfw_concepts": safe,
            "prompt": self.prompt,
        })
    }
}

fn size(asked: Option<&Value>) -> Result<(u32, u32), Refusal> {
    let wrong = || errors::wrong("image_size", "Input should be a preset or an object with width and height");
    match asked {
        None => Ok((1_024, 768)),
        Some(Value::String(preset)) => match preset.as_str() {
            "square_hd" => Ok((1_024, 1_024)),
            "square" => Ok((512, 512)),
            "portrait_4_3" => Ok((768, 1_024)),
            "portrait_16_9" => Ok((576, 1_024)),
            "landscape_4_3" => Ok((1_024, 768)),
            "landscape_16_9" => Ok((1_024, 576)),
            _ => Err(wrong()),
        },
        Some(own) => size_of(&format!("{}x{}", own["width"], own["height"])).ok_or_else(wrong),
    }
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish() >> 32
}

/// Somewhere between the shortest and the longest time, as the id falls.
fn drawn(id: &str, (least, most): (Duration, Duration)) -> Duration {
    let thousandths = u32::try_from(hash(&id) % 1_001).unwrap_or(0);
    least + (most - least) * thousandths / 1_000
}

/// The 32 hexadecimal digits of an id, grouped as a UUID is.
fn uuid_of(id: &str) -> String {
    format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_takes_no_less_and_no_more_than_it_may() {
        let bounds = (Duration::from_secs(20), Duration::from_secs(45));
        let times: Vec<Duration> = (0..200).map(|nth| drawn(&format!("{nth}"), bounds)).collect();
        assert!(times.iter().all(|time| (bounds.0..=bounds.1).contains(time)));
        assert!(times.iter().any(|time| time.as_secs() < 25) && times.iter().any(|time| time.as_secs() > 40));
    }
}
