use std::net::TcpListener;

use crate::weir::{directory, output, weir};

const BROKEN: &str = r#"
[telemetry]
log_level = "loud["
[host]
drian = "5s"
[runtime]
worker_threads = "many"
[discovery]
kind = "telepathy"
"#;

#[test]
fn every_problem_is_named_at_once_before_a_port_is_bound() {
    let dir = directory();
    std::fs::write(dir.path().join("weir.toml"), BROKEN).unwrap();
    // Were a port bound before the configuration is judged, this one would be the error.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for arguments in [["serve", "all"].as_slice(), &["serve", "quota"], &["dev"], &["migrate"], &["check-config"]] {
        let mut command = weir(dir.path());
        command.args(arguments).args(["--config", "weir.toml"]).env("WEIR_HOST__LISTEN__FACADE", &address);
        let (code, _, errors) = output(command.env("WEIR_REDIS__CLUSTER", "perhaps"));
        assert_eq!(code, Some(64), "{arguments:?}: {errors}");
        for expected in [
            "telemetry.log_level (weir.toml)",
            "host.drian (weir.toml): is not a known key; did you mean `host.drain`?",
            "runtime.worker_threads (weir.toml): must be an integer, not a string",
            "discovery.kind (weir.toml)",
            "redis.cluster (WEIR_REDIS__CLUSTER): must be true or false",
            "5 problems",
        ] {
            assert!(errors.contains(expected), "{arguments:?}: {expected} is missing in {errors}");
        }
    }
    assert!(!dir.path().join(".weir").exists());
}

#[test]
fn nothing_is_served_without_a_master_key() {
    let dir = directory();
    let (code, _, errors) = output(weir(dir.path()).args(["serve", "all"]));
    assert_eq!(code, Some(64), "{errors}");
    assert!(errors.contains("master_key: is not set") && errors.contains("WEIR_MASTER_KEY"), "{errors}");
    let (code, _, errors) = output(weir(dir.path()).args(["serve", "all"]).env("WEIR_MASTER_KEY", "password"));
    assert_eq!(code, Some(64), "{errors}");
    assert!(errors.contains("32 random bytes") && !errors.contains("password"), "{errors}");
}

#[test]
fn counters_in_memory_of_several_processes_are_a_problem() {
    let dir = directory();
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    for (addresses, code) in [("[\"a:9102\"]", 0), ("[\"a:9102\", \"b:9102\"]", 64)] {
        let text = format!("[quota]\nstore = \"memory\"\n[discovery.services]\nquota = {addresses}\n");
        std::fs::write(dir.path().join("weir.toml"), text).unwrap();
        let mut command = weir(dir.path());
        let (found, _, errors) =
            output(command.args(["check-config", "--config", "weir.toml"]).env("WEIR_MASTER_KEY", key));
        assert_eq!(found, Some(code), "{errors}");
        assert_eq!(errors.contains("discovery.services.quota"), code != 0, "{errors}");
    }
}

#[test]
fn problems_can_be_read_by_programs() {
    let dir = directory();
    std::fs::write(dir.path().join("weir.toml"), BROKEN).unwrap();
    let (code, text, _) = output(weir(dir.path()).args(["check-config", "--json", "--config", "weir.toml"]));
    assert_eq!(code, Some(64));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["problems"].as_array().unwrap().len(), 4, "{text}");

    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let (code, text, errors) = output(weir(dir.path()).args(["check-config", "--json"]).env("WEIR_MASTER_KEY", key));
    assert_eq!(code, Some(0), "{errors}");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["ok"], true, "the defaults alone are a well-formed configuration: {text}");
}
