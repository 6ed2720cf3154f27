//! Providers, keys and routes that change while calls are under way.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_simulator::{ApiKey, Fault, Options, Simulator};

use crate::scene::{Scene, chat, streamed};

fn provider(name: &str, simulator: &Simulator, keys: &str) -> String {
    format!(
        "[broker.providers.{name}]\nbase_url = \"{}\"\nprice_list = \"simulated\"\nkeys = {{ {keys} }}\n\
         first_byte_timeout = \"10s\"\nmax_wait = \"20s\"\n",
        simulator.base_url()
    )
}

async fn simulator(keys: &[ApiKey]) -> Arc<Simulator> {
    let options = Options { api_keys: keys.to_vec(), rate_window: Duration::from_secs(1), ..Options::default() };
    Arc::new(Simulator::start(options).await.unwrap())
}

#[tokio::test]
async fn what_is_new_serves_new_calls_and_what_is_gone_serves_those_under_way_to_their_end() {
    let (old, new) = (simulator(&[]).await, simulator(&[]).await);
    let scene = Scene::configured(&old, None, &provider("old", &old, "k = \"sk-old\"")).await;
    let mut parts = scene.stream(&streamed(40, "chunk_ms=20")).await.unwrap();
    parts.message().await.unwrap();
    let route = "[broker.routes.extra]\nprovider = \"new\"\nmodel = \"sim-small\"\n";
    scene.reconfigure(&format!("{}{route}", provider("new", &new, "k = \"sk-new\"")));
    scene.eventually("the new route is there", async |scene| scene.models().await.contains(&"extra".to_owned())).await;
    let accounting = scene.invoke(&chat(1, "")).await.unwrap().accounting.unwrap();
    assert_eq!(accounting.provider, "new");
    let mut last = None;
    while let Some(part) = parts.message().await.unwrap() {
        last = part.part;
    }
    let Some(Part::Accounting(accounting)) = last else { panic!("the old stream ends well: {last:?}") };
    assert_eq!((accounting.provider.as_str(), accounting.output_tokens), ("old", 40));
}

#[tokio::test]
async fn a_call_that_waits_in_line_is_served_after_its_providers_settings_have_changed() {
    let provider_of_one = simulator(&[ApiKey::limited("sk-one", 1)]).await;
    let config = provider("sim", &provider_of_one, "k = \"sk-one\"");
    let scene = Scene::configured(&provider_of_one, None, &config).await;
    scene.invoke(&chat(1, "")).await.unwrap();
    let body = chat(1, "");
    let (waited, ()) = tokio::join!(scene.invoke(&body), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        scene.reconfigure(&format!("{config}idle_timeout = \"7s\"\n"));
    });
    assert!(waited.unwrap().accounting.unwrap().queue_position > 0);
    scene.invoke(&chat(1, "")).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_taken_leaves_everything_as_it_was() {
    let sim = simulator(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "sk-file\n").unwrap();
    let config = provider("sim", &sim, &format!("k = \"file:{}\"", file.display()));
    let scene = Scene::configured(&sim, None, &config).await;
    scene.reconfigure_after(
        &format!("{config}[broker.routes.extra]\nprovider = \"sim\"\nmodel = \"sim-small\"\n"),
        || {
            std::fs::remove_file(&file).unwrap();
        },
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!scene.models().await.contains(&"extra".to_owned()));
    scene.invoke(&chat(1, "")).await.unwrap();
    assert!(sim.served().iter().all(|served| served.api_key.ends_with("file")));
}

/// One key is replaced and then revoked, one is at its limit again and again, one is dead: nobody notices.
#[tokio::test]
async fn of_four_claude_keys_one_rotated_one_limited_one_dead_no_request_fails() {
    let keys = ["sk-good", "sk-old1", "sk-new1"].map(ApiKey::new);
    let sim = simulator(&[keys.to_vec(), vec![ApiKey::limited("sk-few1", 3)]].concat()).await;
    let config = |third: &str| {
        let keys = format!("one = \"sk-good\", two = \"sk-few1\", three = \"{third}\", four = \"sk-dead\"");
        let claude = provider("claude", &sim, &keys).replace("\"simulated\"", "\"claude\"\ndialect = \"anthropic\"");
        claude + "[broker.routes.coach]\nprovider = \"claude\"\nmodel = \"sim-claude\"\n"
    };
    let scene = Arc::new(Scene::configured(&sim, None, &config("sk-old1")).await);
    let calls = |count: usize| {
        let scene = Arc::clone(&scene);
        async move {
            for _ in 0..count {
                let mut chat = chat(1, "");
                chat["model"] = "coach".into();
                scene.invoke(&chat).await.unwrap();
            }
        }
    };
    let rotate = async {
        let served = |ending: &str| sim.served().iter().filter(|served| served.api_key.ends_with(ending)).count();
        scene.eventually("the old key is in use", async |_| served("old1") > 5).await;
        scene.reconfigure(&config("sk-new1"));
        scene.eventually("the new key is in use", async |_| served("new1") > 0).await;
        sim.add_fault(Fault {
            api_key: Some("sk-old1".into()),
            simulate: "status=401".parse().unwrap(),
            ..Fault::default()
        });
    };
    tokio::join!(join_all((0..8).map(|_| calls(40))), rotate);
    let answered = sim.served().iter().filter(|served| served.status == 200).count();
    assert_eq!(answered, 320);
    let refused = sim.served().iter().filter(|served| served.status == 401).count();
    assert!(refused <= 16, "the dead key is asked by those who were under way at once: {refused}");
}
