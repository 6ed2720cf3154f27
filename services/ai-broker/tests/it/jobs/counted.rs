//! What operators see of jobs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;

use super::House;

/// Keeps gauges by name and labels, as `name state`. Before they are set they are no number.
#[derive(Default)]
struct Gauges(Mutex<HashMap<String, Arc<AtomicU64>>>);

impl Gauges {
    fn get(&self, name: &str) -> Option<f64> {
        let value = f64::from_bits(self.0.lock().get(name)?.load(Ordering::Relaxed));
        (!value.is_nan()).then_some(value)
    }
}

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let labels = key.labels().map(metrics::Label::value);
        let name = std::iter::once(key.name()).chain(labels).collect::<Vec<_>>().join(" ");
        let nothing = || Arc::new(AtomicU64::new(f64::NAN.to_bits()));
        Gauge::from_arc(Arc::clone(self.0.lock().entry(name).or_insert_with(nothing)))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn jobs_are_counted_by_state() {
    let gauges = Gauges::default();
    // Of this test's thread, on which all of it runs.
    let _guard = metrics::set_default_local_recorder(&gauges);
    let house = House::new().await;
    house.scene.eventually("the jobs are counted", async |_| gauges.get("weir_jobs ready").is_some()).await;
    let names = ["weir_jobs delayed", "weir_jobs ready", "weir_jobs processing", "weir_jobs_oldest_ready_seconds"];
    assert_eq!(names.map(|name| gauges.get(name)), [Some(0.0); 4]);
}
