use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::weir::{Running, directory, output, weir};

const LAST_LINE: &str = "Ctrl-C stops";

fn start(dir: &Path) -> Running {
    Running::start(weir(dir).args(["dev", "--dir", "home"]), LAST_LINE)
}

fn environment(dir: &Path) -> HashMap<String, String> {
    let text = std::fs::read_to_string(dir.join("home/dev.env")).unwrap();
    text.lines().map(|line| line.split_once('=').unwrap()).map(|(name, value)| (name.into(), value.into())).collect()
}

/// As a client calls it: a 503 is tried again. After a restart of Redis budgets stay closed for some seconds.
async fn chat(environment: &HashMap<String, String>) -> (reqwest::StatusCode, Value) {
    let body = json!({"model": "gpt-4o-mini", "max_tokens": 7, "messages": [{"role": "user", "content": "a b c"}]});
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        let request = reqwest::Client::new().post(format!("{}/v1/chat/completions", environment["WEIR_URL"]));
        let answer = request.bearer_auth(&environment["WEIR_API_KEY"]).json(&body).send().await.unwrap();
        if answer.status() != 503 || Instant::now() > until {
            return (answer.status(), answer.json().await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn audit(dir: &Path) -> Value {
    let mut command = weir(dir);
    let (code, text, errors) =
        output(command.args(["audit", "--json", "--settle", "20s", "--config", "home/weir.toml"]));
    assert_eq!(code, Some(0), "{errors}{text}");
    serde_json::from_str(&text).unwrap()
}

/// Discovery knows one broker more, and it does not answer.
fn with_a_dead_broker(dir: &Path) {
    let path = dir.join("home/weir.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let (before, after) = config.split_once("ai_broker = [").unwrap();
    std::fs::write(path, format!("{before}ai_broker = [\"127.0.0.1:1\", {after}")).unwrap();
}

#[tokio::test]
async fn a_newcomer_gets_a_working_api_whose_books_balance_and_whose_data_stays() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = directory();
    let running = start(dir.path());
    for expected in [
        "/v1",
        "simulated",
        "home/dev.env",
        "curl",
        "Authorization: Bearer $WEIR_API_KEY",
        "audit --config home/weir.toml",
    ] {
        assert!(running.said.contains(expected), "{expected} is missing in {}", running.said);
    }
    let first = environment(dir.path());
    assert!(!running.said.contains(&first["WEIR_API_KEY"]), "a screen is no place for a key");
    for secret in ["home/dev.env", "home/master.key"] {
        assert_eq!(std::fs::metadata(dir.path().join(secret)).unwrap().permissions().mode() & 0o777, 0o600, "{secret}");
    }

    let (status, answer) = chat(&first).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]), (&3.into(), &7.into()));

    let settings = format!("{}/api/v1/result-settings", first["WEIR_URL"]);
    let settings = reqwest::Client::new().get(settings).bearer_auth(&first["WEIR_API_KEY"]).send().await.unwrap();
    assert_eq!(settings.status(), 200, "results have a place");

    let (code, _, errors) = output(weir(dir.path()).args(["dev", "--dir", "home"]));
    assert_eq!(code, Some(64), "{errors}");
    assert!(errors.contains("runs in home already"), "{errors}");

    let report = audit(dir.path());
    assert_eq!((&report["balanced"], &report["settled"]), (&true.into(), &true.into()), "{report}");
    for service in ["quota", "usage", "billing"] {
        assert_eq!(report[service]["events"], 1, "{report}");
        assert_eq!(report[service]["output_tokens"], 7, "{report}");
    }
    with_a_dead_broker(dir.path());
    let report = audit(dir.path());
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(report["brokers"]["answered"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["brokers"]["silent"], json!(["127.0.0.1:1"]), "{report}");
    assert!(report["settlements_since"].is_string() && report["not_compared"] == 0, "{report}");
    assert_eq!(running.interrupt(), Some(0));
    assert!(!dir.path().join("home/postgres/data/postmaster.pid").exists(), "Postgres still runs");

    let running = start(dir.path());
    let again = environment(dir.path());
    assert_eq!(again["WEIR_API_KEY"], first["WEIR_API_KEY"]);
    let (status, answer) = chat(&again).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(audit(dir.path())["usage"]["events"], 2);
    assert_eq!(running.interrupt(), Some(0));
}

#[tokio::test]
async fn a_tenant_can_be_created_beside_the_demo() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = directory();
    let running = start(dir.path());
    let create =
        ["create-tenant", "--name", "Acme", "--email", "a@acme.example", "--plan", "pro", "--scope", "ai.invoke"];
    let mut command = weir(dir.path());
    let (code, text, errors) = output(command.args(create).args(["--json", "--config", "home/weir.toml"]));
    assert_eq!(code, Some(0), "{errors}");
    let created: Value = serde_json::from_str(&text).unwrap();
    let mut credentials = environment(dir.path());
    credentials.insert("WEIR_API_KEY".into(), created["secret"].as_str().unwrap().into());
    let (status, answer) = chat(&credentials).await;
    assert_eq!(status, 200, "{answer}");

    let mut command = weir(dir.path());
    let (code, _, errors) =
        output(command.args(["create-tenant", "--name", "B", "--plan", "nonsense", "--config", "home/weir.toml"]));
    assert_eq!(code, Some(64), "{errors}");
    assert!(errors.contains("nonsense"), "{errors}");
    assert_eq!(running.interrupt(), Some(0));
}

#[tokio::test]
async fn an_operator_changes_plans_and_revokes_and_rotates_keys() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = directory();
    let running = start(dir.path());
    let operate = |arguments: &[&str]| {
        let mut command = weir(dir.path());
        let (code, text, errors) = output(command.args(arguments).args(["--json", "--config", "home/weir.toml"]));
        (code, serde_json::from_str::<Value>(&text).unwrap_or_default(), errors)
    };
    let (_, created, errors) = operate(&["create-tenant", "--name", "Acme"]);
    let organization = created["organization"].as_str().unwrap_or_else(|| panic!("{errors}"));
    let api_key = created["api_key"].as_str().unwrap();
    let mut credentials = environment(dir.path());
    credentials.insert("WEIR_API_KEY".into(), created["secret"].as_str().unwrap().into());
    assert_eq!(chat(&credentials).await.0, 200);

    // By its id alone, too.
    let id = organization.strip_prefix("organizations/").unwrap();
    for name in [organization, id] {
        let (code, answer, errors) = operate(&["set-plan", "--organization", name, "--plan", "pro"]);
        assert_eq!(code, Some(0), "{errors}");
        assert_eq!(answer, json!({"organization": organization, "plan": "plans/pro", "own_limits": []}));
    }
    let (code, _, errors) = operate(&["set-plan", "--organization", organization, "--plan", "nonsense"]);
    assert_eq!(code, Some(64), "{errors}");
    assert!(errors.contains("nonsense"), "{errors}");

    // Whoever holds a token of the old key goes on.
    let (code, before, errors) = operate(&["rotate-signing-key"]);
    assert_eq!(code, Some(0), "{errors}");
    let signs = |keys: &Value| keys["keys"].as_array().unwrap().iter().find(|key| key["current"] == true).cloned();
    let (_, after, _) = operate(&["rotate-signing-key"]);
    assert!(signs(&before).is_some() && signs(&before) != signs(&after), "{before} {after}");
    assert_eq!(chat(&credentials).await.0, 200);

    let (code, answer, errors) = operate(&["revoke-key", api_key]);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(answer, json!({"api_key": api_key, "display_name": "first key"}));
    let until = Instant::now() + Duration::from_secs(60);
    while chat(&credentials).await.0 != 401 {
        assert!(Instant::now() < until, "the revoked key still works");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (code, _, errors) = operate(&["revoke-key", &format!("{organization}/apiKeys/{id}")]);
    assert_eq!(code, Some(64), "{errors}");
    assert_eq!(running.interrupt(), Some(0));
}

#[tokio::test]
async fn a_support_person_is_told_why_a_call_was_refused_and_what_became_of_another() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = directory();
    let running = start(dir.path());
    let quota = |arguments: &[&str]| {
        let mut command = weir(dir.path());
        output(command.arg("quota").args(arguments).args(["--config", "home/weir.toml"]))
    };
    let mut command = weir(dir.path());
    let create = ["create-tenant", "--name", "Acme", "--email", "a@acme.example", "--plan", "free", "--json"];
    let (_, text, errors) = output(command.args(create).args(["--config", "home/weir.toml"]));
    let created: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{errors}"));
    let (organization, user) = (created["organization"].as_str().unwrap(), created["user"].as_str().unwrap());
    let (code, text, errors) = quota(&["explain", "--organization", organization]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(text.contains("Nothing is under way.") && text.contains("Nothing was decided lately."), "{text}");
    let (code, text, _) = quota(&["alerts", "--organization", organization]);
    assert_eq!((code, text.trim()), (Some(0), "No alert has fired."));

    let mut credentials = environment(dir.path());
    credentials.insert("WEIR_API_KEY".into(), created["secret"].as_str().unwrap().into());
    for _ in 0..10 {
        assert_eq!(chat(&credentials).await.0, 200);
    }
    assert_eq!(chat(&credentials).await.0, 429);
    // By the organisation's id alone, and as JSON, until all eleven are written down.
    let id = organization.strip_prefix("organizations/").unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let explained = loop {
        let (code, text, errors) = quota(&["explain", "--organization", id, "--json"]);
        assert_eq!(code, Some(0), "{errors}");
        let explained: Value = serde_json::from_str(&text).unwrap();
        let count =
            |state: &str| explained["decisions"].as_array().unwrap().iter().filter(|one| one["state"] == state).count();
        if count("committed") == 10 && count("refused") > 0 && explained["holders"] == json!([]) {
            break explained;
        }
        assert!(Instant::now() < until, "{explained}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // A call that is refused while another is being settled is decided again: there may be two refusals.
    let reservation = |state: &str| {
        let decisions = explained["decisions"].as_array().unwrap();
        let found = decisions.iter().find(|decision| decision["state"] == state).unwrap();
        found["reservation_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(explained["decisions"][0]["state"], "refused");

    let (_, text, _) = quota(&["explain", "--organization", organization, "--max", "3"]);
    for expected in [
        "Limits now",
        "budget",
        "And requests-per-minute (per user): --user or --api-key shows whose.",
        "Nothing is under way.",
        "Last decisions, newest first",
        "  all by user ",
        "refused by requests-per-minute: 10 of 10 requests used, 1 asked for",
        "There are older ones: --max shows more",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
    }
    let (_, text, _) = quota(&["explain", "--organization", organization, "--user", user]);
    let full = text.lines().find(|line| line.contains("requests-per-minute")).unwrap();
    assert!(full.ends_with("FULL") && full.contains(" in "), "{text}");
    // Whose it is need not be known.
    let (_, text, _) = quota(&["explain", "--reservation", &reservation("refused")]);
    for expected in
        ["and was not admitted:", "as it found them", "REFUSED, try again in ", "had room", &user[user.len() - 36..]]
    {
        assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
    }
    let (_, text, _) = quota(&["explain", "--reservation", &reservation("committed")]);
    for expected in ["It was admitted at ", "It was committed ", "1 request, 1 call.", "with it\n", "10 requests"] {
        assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
    }

    let unknown = weir_types::ReservationId::new_v7().to_string();
    for (arguments, said) in [
        (&["explain", "--reservation", &unknown][..], "nothing is known of reservation"),
        (&["explain", "--reservation", "x"], "--reservation x"),
        (&["explain"], "--reservation"),
        (&["explain", "--user", "x"], "--organization"),
        (&["explain", "--organization", id, "--max", "0"], "1..=500"),
        (&["alerts"], "--organization"),
        (&["alerts", "--organization", "x"], "organization"),
    ] {
        let (code, _, errors) = quota(arguments);
        assert_eq!(code, Some(64), "{arguments:?}: {errors}");
        assert!(errors.contains(said), "{arguments:?}: {errors}");
    }
    assert_eq!(running.interrupt(), Some(0));
    let (code, _, errors) = quota(&["explain", "--organization", id]);
    assert_eq!(code, Some(69), "{errors}");
}
