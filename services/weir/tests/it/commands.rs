use crate::weir::{Running, directory, output, weir};

#[test]
fn a_command_that_does_not_exist_exits_64_and_help_exits_0() {
    let dir = directory();
    for arguments in [["fly"].as_slice(), &["serve"], &["serve", "nobody"], &["audit", "--settle", "soon"]] {
        let (code, _, errors) = output(weir(dir.path()).args(arguments));
        assert_eq!(code, Some(64), "{arguments:?}: {errors}");
    }
    let (code, text, _) = output(weir(dir.path()).arg("--help"));
    assert_eq!(code, Some(0));
    assert!(text.contains("create-tenant"), "{text}");
}

#[test]
fn the_openapi_document_is_printed() {
    let dir = directory();
    let (code, text, errors) = output(weir(dir.path()).arg("openapi"));
    assert_eq!(code, Some(0), "{errors}");
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    assert!(document["paths"]["/v1/chat/completions"].is_object(), "{text}");
}

#[test]
fn an_audit_without_services_says_who_does_not_answer() {
    let dir = directory();
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    // A port that nobody listens on.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let services = ["auth", "quota", "ai_broker", "usage", "billing"].map(|name| format!("{name} = [\"{closed}\"]\n"));
    std::fs::write(dir.path().join("weir.toml"), format!("[discovery.services]\n{}", services.concat())).unwrap();
    let mut command = weir(dir.path());
    let (code, _, errors) = output(command.args(["audit", "--config", "weir.toml"]).env("WEIR_MASTER_KEY", key));
    assert_eq!(code, Some(69), "{errors}");
    assert!(errors.contains("ai-broker: 127.0.0.1"), "{errors}");
}

#[tokio::test]
async fn the_simulated_provider_serves_until_it_is_interrupted() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = directory();
    let provider = Running::start(weir(dir.path()).arg("simulate"), "\n");
    let url = provider.said.trim().rsplit(' ').next().unwrap().to_owned();
    let body =
        serde_json::json!({"model": "any", "max_tokens": 3, "messages": [{"role": "user", "content": "one two"}]});
    let request = reqwest::Client::new().post(format!("{url}/chat/completions")).bearer_auth("any").json(&body);
    let answer: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!((&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]), (&2.into(), &3.into()));
    assert_eq!(provider.interrupt(), Some(0));
}
