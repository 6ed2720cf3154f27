//! The span of a provider request, as an OpenTelemetry backend that knows generative AI reads it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use crate::scene::{Scene, chat, streamed};

type Fields = BTreeMap<String, String>;

/// Keeps the fields of provider requests' spans, as they end.
#[derive(Clone, Default)]
struct Ended(Arc<Mutex<Vec<Fields>>>);

struct Reader<'a>(&'a mut Fields);

impl tracing::field::Visit for Reader<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Ended {
    fn on_new_span(&self, attributes: &tracing::span::Attributes<'_>, id: &tracing::Id, context: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Reader(&mut fields));
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &tracing::Id, values: &tracing::span::Record<'_>, context: Context<'_, S>) {
        if let Some(fields) = context.span(id).unwrap().extensions_mut().get_mut::<Fields>() {
            values.record(&mut Reader(fields));
        }
    }

    fn on_close(&self, id: tracing::Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        if span.metadata().target() == "weir_broker" {
            self.0.lock().push(span.extensions().get::<Fields>().unwrap().clone());
        }
    }
}

#[tokio::test]
async fn provider_requests_are_spans_of_generative_ai() {
    let ended = Ended::default();
    // Of this test's thread, on which all of it runs.
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(ended.clone()));
    let scene = Scene::with(&["sk-one"], "max_attempts = 1\ndrain = \"50ms\"").await;
    scene.invoke(&chat(3, "cached_tokens=2")).await.unwrap();
    scene.stream_whole(&streamed(4, "latency_ms=20")).await;
    scene.invoke(&chat(3, "status=500")).await.unwrap_err();
    let (_, _, cut) = scene.stream_whole(&streamed(8, "cut_after=2")).await;
    cut.unwrap();
    scene.eventually("four spans", async |_| ended.0.lock().len() == 4).await;

    scene.ends().await;
    let spans = ended.0.lock().clone();
    let cost = |at: usize| {
        let recorded = scene.siblings.recorded.lock();
        recorded[&spans[at]["weir.reservation.id"]].cost_nano_usd.to_string()
    };
    let has = |at: usize, expected: &[(&str, &str)]| {
        for (name, value) in expected {
            assert_eq!(spans[at].get(*name).map(String::as_str), Some(*value), "{name} of {:?}", spans[at]);
        }
    };
    has(
        0,
        &[
            ("otel.name", "chat sim-small"),
            ("otel.kind", "client"),
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "sim"),
            ("gen_ai.request.model", "sim-small"),
            ("gen_ai.request.max_tokens", "3"),
            ("gen_ai.usage.input_tokens", "5"),
            ("gen_ai.usage.output_tokens", "3"),
            ("weir.usage.cached_input_tokens", "2"),
            ("weir.cost_nano_usd", &cost(0)),
            ("weir.stream", "false"),
            ("weir.estimated", "false"),
            ("weir.queue_ms", "0"),
        ],
    );
    assert!(!spans[0].contains_key("error.type"));
    has(1, &[("weir.stream", "true"), ("gen_ai.usage.output_tokens", "4"), ("weir.cost_nano_usd", &cost(1))]);
    assert!(spans[1]["weir.first_byte_ms"].parse::<u32>().unwrap() >= 20);
    has(2, &[("error.type", "500"), ("otel.status_code", "error")]);
    assert!(!spans[2].contains_key("weir.cost_nano_usd"), "nothing was used");
    has(
        3,
        &[
            ("error.type", "broken"),
            ("otel.status_code", "error"),
            ("weir.cost_nano_usd", &cost(3)),
            ("weir.estimated", "true"),
        ],
    );
}
