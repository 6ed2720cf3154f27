//! What must not be in any log, whatever happens and however much is logged.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use weir_simulator::{Fault, Options, Simulator};

use crate::scene::Scene;

/// Keeps everything that is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const PROMPT: &str = "xyzzy-what-the-patient-said";
/// The provider's errors repeat it, as real ones do.
const KEYS: [&str; 2] = ["sk-plugh-first-secret", "sk-plugh-other-secret"];

#[tokio::test]
async fn keys_that_callers_bring_are_in_no_log_whatever_becomes_of_them() {
    use crate::own_keys::{broker, first_master, secret, served};
    let kept = Kept::default();
    let writer = kept.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let admin = crate::database::database().await;
    let sim = Arc::new(Simulator::start(Options::default()).await.unwrap());
    let mut scene = broker(&sim, crate::database::connect(&admin.url).await, &first_master()).await;
    let user = weir_types::UserId::new_v7();
    scene.bearer = scene.member(user);
    let limits = weir_proto::broker::v1::ProviderKeyLimits::default();
    let key = scene.store(&scene.bearer, Some(user), &secret("aaaa"), limits).await.unwrap();
    scene.store(&scene.bearer, Some(user), &secret("bbbb"), limits).await.unwrap_err();
    scene.store(&scene.bearer, Some(user), "sk-plugh has spaces", limits).await.unwrap_err();
    for simulate in ["", "status=401", "status=500", "status=429", "status=422", "reset=before"] {
        drop(scene.invoke(&crate::scene::chat(1, simulate)).await);
    }
    scene.rotate(&scene.bearer, &key.name, &secret("cccc")).await.unwrap();
    scene.invoke(&crate::scene::chat(1, "")).await.unwrap();
    scene.delete(&scene.bearer, &key.name).await.unwrap();
    assert_eq!(served(&sim).last().unwrap(), "cccc");
    scene.shut_down().await;
    let log = String::from_utf8_lossy(&kept.0.lock()).into_owned();
    assert!(log.contains("a call to the provider failed"), "the log is there");
    let line = log.lines().find(|line| line.contains("plugh"));
    assert!(line.is_none(), "{}", line.unwrap_or_default());
}

#[tokio::test]
async fn keys_prompts_and_answers_are_in_no_log() {
    let kept = Kept::default();
    let writer = kept.clone();
    // Of this test's thread, on which all of it runs.
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let sim = Arc::new(Simulator::start(Options::default()).await.unwrap());
    let config = format!(
        "max_attempts = 2\nrests.failed = \"1ms\"\nrests.failed_most = \"1ms\"\n[broker.providers.sim]\nbase_url = \"{}\"\nprice_list = \"simulated\"\n\
         keys = {{ a = \"{}\", b = \"{}\" }}\nfirst_byte_timeout = \"2s\"\nidle_timeout = \"1s\"\nmax_wait = \"0s\"\n",
        sim.base_url(),
        KEYS[0],
        KEYS[1],
    );
    let scene = Scene::configured(&sim, None, &config).await;
    let mut answers = Vec::new();
    for simulate in ["", "status=500", "status=422", "body=malformed", "reset=before", "hang=1", "cut_after=2"] {
        for stream in [false, true] {
            let body = json!({
                "model": "sim-small", "max_tokens": 6, "stream": stream, "metadata": {"simulate": simulate},
                "messages": [{"role": "user", "content": PROMPT}],
            });
            if stream {
                if let Ok(mut parts) = scene.stream(&body).await {
                    while let Ok(Some(_)) = parts.message().await {}
                }
            } else if let Ok(answer) = scene.invoke(&body).await {
                answers.push(answer);
            }
        }
    }
    for key in KEYS {
        sim.add_fault(Fault { api_key: Some(key.into()), simulate: "status=401".parse().unwrap(), ..Fault::default() });
    }
    scene.invoke(&crate::scene::chat(1, "")).await.unwrap_err();
    scene.reconfigure(&config.replace(KEYS[1], "sk-plugh-third-secret"));
    scene.invoke_raw(format!("{{\"model\": \"sim-small\", \"messages\": \"{PROMPT}\"}}")).await.unwrap_err();
    scene.shut_down().await;

    let log = String::from_utf8_lossy(&kept.0.lock()).into_owned();
    assert!(log.contains("the provider refused a key"), "the log is there");
    let answer: serde_json::Value = serde_json::from_slice(&answers[0].body).unwrap();
    let said = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(said.len() > 8, "{said}");
    for secret in [PROMPT, "plugh", &said] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret}: {}", line.unwrap_or_default());
    }
}
