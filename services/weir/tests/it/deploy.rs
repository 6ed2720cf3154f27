//! The files under `deploy/`: well-formed, accepted by the executable itself, and about things that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use yaml_rust2::{Yaml, YamlLoader};

use crate::weir::{directory, output, weir};

const SERVICES: [&str; 6] = ["ai-broker", "auth", "billing", "facade", "quota", "usage"];

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// All files below `dir` with this extension.
pub(crate) fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target" && name != "secrets") {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn yaml(path: impl AsRef<Path>) -> Vec<Yaml> {
    YamlLoader::load_from_str(&text(path.as_ref()))
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// `map[key]`, also where it comes from a merged anchor (`<<`).
fn get<'a>(map: &'a Yaml, key: &str) -> &'a Yaml {
    if map[key].is_badvalue() { &map["<<"][key] } else { &map[key] }
}

fn strings(list: &Yaml) -> Vec<&str> {
    list.as_vec().into_iter().flatten().filter_map(Yaml::as_str).collect()
}

fn assert_accepted(dir: &Path, config: &Path, environment: &BTreeMap<String, String>, whose: &str) {
    let mut command = weir(dir);
    let (code, said, errors) = output(command.args(["check-config", "--config"]).arg(config).envs(environment));
    assert_eq!(code, Some(0), "{whose}: {said}{errors}");
}

#[test]
fn every_yaml_and_json_file_is_well_formed() {
    let deploy = root().join("deploy");
    let documents: Vec<_> = files(&deploy, "yaml").iter().flat_map(yaml).collect();
    assert!(documents.len() > 30, "{}", documents.len());
    for path in files(&deploy, "json") {
        serde_json::from_str::<serde_json::Value>(&text(&path)).unwrap();
    }
}

/// A copy of `deploy/compose` with its secrets made, the compose file, and each container's environment from its files.
fn compose(openai_key: Option<&str>) -> (tempfile::TempDir, Yaml, BTreeMap<String, BTreeMap<String, String>>) {
    let dir = directory();
    for file in ["setup", "compose.yaml", "weir.toml"] {
        std::fs::copy(root().join("deploy/compose").join(file), dir.path().join(file)).unwrap();
    }
    for again in [false, true] {
        let mut setup = Command::new(dir.path().join("setup"));
        setup.env_remove("OPENAI_API_KEY").envs(openai_key.map(|key| ("OPENAI_API_KEY", key)));
        let (code, said, errors) = output(&mut setup);
        assert_eq!(code, Some(0), "{errors}");
        assert_eq!(said.contains("made"), !again, "secrets that are there are kept: {said}");
    }
    let file = yaml("deploy/compose/compose.yaml").remove(0);
    let environments = file["services"].as_hash().unwrap().iter().map(|(name, service)| {
        let files = strings(get(service, "env_file"));
        let lines =
            files.iter().map(|file| std::fs::read_to_string(dir.path().join(file)).unwrap()).collect::<String>();
        let pairs = lines.lines().map(|line| line.split_once('=').unwrap());
        (name.as_str().unwrap().to_owned(), pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    });
    let environments = environments.collect();
    (dir, file, environments)
}

#[test]
fn compose_gives_each_process_a_configuration_that_it_accepts_and_no_secret_that_it_does_not_need() {
    for key in [None, Some("sk-test")] {
        let (dir, file, environments) = compose(key);
        let mut served = Vec::new();
        for (name, environment) in &environments {
            let command = strings(&file["services"][name.as_str()]["command"]);
            match command.as_slice() {
                ["serve", service] => {
                    assert_eq!(service, name);
                    served.push(*service);
                }
                ["migrate"] => {}
                _ => continue,
            }
            assert_accepted(dir.path(), &dir.path().join("weir.toml"), environment, name);
            let knows = |start: &str| environment.keys().any(|variable| variable.starts_with(start));
            assert_eq!(knows("WEIR_DATABASE_URL"), name == "migrate", "{name}");
            assert_eq!(knows("WEIR_REDIS_URL"), ["ai-broker", "quota"].contains(&name.as_str()), "{name}");
            assert_eq!(knows("WEIR_BROKER__PROVIDERS"), name == "ai-broker", "{name}");
        }
        assert_eq!(served, SERVICES);
        for secret in files(&dir.path().join("secrets"), "env") {
            assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o077, 0, "{}", secret.display());
        }
        let simulated = std::fs::read_to_string(dir.path().join(".env")).unwrap().contains("simulated");
        assert_eq!(simulated, key.is_none(), "the simulated provider stands in for a real one only");
    }
    assert!(text("deploy/compose/.gitignore").lines().any(|line| line == "/secrets/"));
}

/// The objects of `deploy/kubernetes`, by kind and name.
fn objects() -> BTreeMap<(String, String), Yaml> {
    let documents = files(&root().join("deploy/kubernetes"), "yaml").into_iter().flat_map(yaml);
    let named = documents.filter_map(|document| {
        let key = (document["kind"].as_str()?.to_owned(), document["metadata"]["name"].as_str()?.to_owned());
        Some((key, document))
    });
    named.collect()
}

/// What a pod's container gets: its own variables and those of every service, with values in the place of secrets.
fn environment(containers: &[&Yaml]) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for variable in containers.iter().flat_map(|container| container["env"].as_vec().into_iter().flatten()) {
        let name = variable["name"].as_str().unwrap();
        let secret = &variable["valueFrom"]["secretKeyRef"];
        let value = match (secret["name"].as_str(), variable["value"].as_str()) {
            (Some("weir"), None) => "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            (Some("weir-migrate"), None) => "postgres://admin:x@db:5432/weir",
            (Some("weir-redis"), None) => "redis://:x@redis:6379",
            (Some("weir-providers"), None) => "sk-test",
            (None, None) => "a-pod",
            (None, Some(literal)) => {
                let is_secret =
                    ["KEY", "PASSWORD", "TOKEN", "DATABASE_URL", "REDIS_URL"].iter().any(|part| name.contains(part));
                assert!(!is_secret, "{name} has to be a reference to a Secret");
                literal
            }
            other => panic!("{name}: {other:?}"),
        };
        if name != "WEIR_CONFIG" {
            variables.insert(name.to_owned(), value.to_owned());
        }
    }
    variables
}

fn container(workload: &Yaml) -> &Yaml {
    &workload["spec"]["template"]["spec"]["containers"][0]
}

#[test]
fn kubernetes_gives_each_process_a_configuration_that_it_accepts() {
    let (dir, objects) = (directory(), objects());
    let find = |kind: &str, name: &str| {
        objects.get(&(kind.to_owned(), name.to_owned())).unwrap_or_else(|| panic!("there is no {kind} {name}"))
    };
    let config = root().join("deploy/kubernetes/weir.toml");
    let every = container(find("Deployment", "every-service"));
    for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(every[probe]["httpGet"]["path"].as_str(), Some(path));
    }
    let settings: toml::Table = std::fs::read_to_string(&config).unwrap().parse().unwrap();
    for name in SERVICES {
        let own = container(find("Deployment", name));
        assert_eq!(strings(&own["args"]), ["serve", name]);
        assert!(own["resources"]["requests"]["cpu"].as_str().is_some(), "{name}");
        assert_accepted(dir.path(), &config, &environment(&[every, own]), name);
        find("PodDisruptionBudget", name);

        let service = find("Service", name);
        let port = own["ports"][0]["containerPort"].as_i64().unwrap();
        assert_eq!(service["spec"]["ports"][0]["targetPort"], own["ports"][0]["name"], "{name}");
        let key = name.replace('-', "_");
        assert_eq!(settings["host"]["listen"][&key].as_str().unwrap(), format!("0.0.0.0:{port}"));
        if name != "facade" {
            assert_eq!(settings["discovery"]["services"][&key][0].as_str().unwrap(), format!("{name}:{port}"));
            assert_eq!(service["spec"]["clusterIP"].as_str(), Some("None"), "{name} is headless");
        }
    }
    assert_accepted(dir.path(), &config, &environment(&[container(find("Job", "weir-migrate"))]), "weir-migrate");
    for name in ["facade", "ai-broker"] {
        let spec = &find("HorizontalPodAutoscaler", name)["spec"];
        assert_eq!((spec["minReplicas"].as_i64(), spec["maxReplicas"].as_i64()), (Some(2), Some(10)));
        assert!(find("Deployment", name)["spec"]["replicas"].is_badvalue(), "{name}: the autoscaler decides");
    }
}

/// The names that follow `prefix` in the sources of the libraries and services.
fn after(prefix: &str) -> BTreeSet<String> {
    let sources = ["libs", "services"].into_iter().flat_map(|dir| files(&root().join(dir), "rs"));
    let mut names = BTreeSet::new();
    for source in sources.filter(|path| !path.components().any(|part| part.as_os_str() == "tests")) {
        for rest in std::fs::read_to_string(source).unwrap().split(prefix).skip(1) {
            names.extend(rest.split_once('"').map(|(name, _)| name.to_owned()));
        }
    }
    names
}

/// The metrics that `text` speaks of and that no code counts.
pub(crate) fn unknown_metrics(text: &str) -> BTreeSet<String> {
    let mut known: BTreeSet<String> = after("counter!(\"").union(&after("gauge!(\"")).cloned().collect();
    for histogram in after("histogram!(\"") {
        known.extend(["", "_bucket", "_sum", "_count"].map(|part| format!("{histogram}{part}")));
    }
    assert!(known.len() > 30, "{known:?}");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metrics =
        words.filter(|word| word.starts_with("weir_") && word.matches('_').count() > 1 || *word == "weir_ready");
    metrics.filter(|word| !known.contains(*word)).map(str::to_owned).collect()
}

#[test]
fn alerts_and_dashboards_ask_for_metrics_that_exist() {
    for path in ["deploy/prometheus/alerts.yaml", "deploy/grafana/dashboards/weir.json"] {
        let text = text(path);
        assert!(text.contains("weir_ready"), "{path}");
        assert_eq!(unknown_metrics(&text), BTreeSet::new(), "{path}");
    }
}

#[test]
fn each_alert_has_its_section_in_the_manual() {
    let manual = text("docs/operations.md");
    let alerts = yaml("deploy/prometheus/alerts.yaml").remove(0);
    let rules = alerts["groups"][0]["rules"].as_vec().unwrap();
    assert!(rules.len() > 20);
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        let runbook = format!("docs/operations.md#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook"].as_str(), Some(runbook.as_str()));
        assert!(manual.contains(&format!("\n### {name}\n")), "{name} is not in docs/operations.md");
    }
}

#[test]
fn every_test_that_a_scenarios_figure_names_is_there() {
    let page = text("docs/scenarios.md");
    let sources = files(&root().join("integration-tests/tests/it"), "rs");
    let sources: String = sources.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    // Names of tests are sentences; what else stands in such marks is shorter.
    let names: BTreeSet<&str> = page.split('`').filter(|name| name.matches('_').count() >= 4).collect();
    assert!(names.len() > 15, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !sources.contains(&format!("fn {name}()"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for scenario in std::fs::read_dir(root().join("deploy/scenarios")).unwrap() {
        let readme = format!("../deploy/scenarios/{}/README.md", scenario.unwrap().file_name().display());
        assert!(page.contains(&readme), "{readme}");
    }
}

#[test]
fn every_scenario_has_a_configuration_that_is_accepted() {
    let scenarios: Vec<PathBuf> = files(&root().join("deploy/scenarios"), "toml")
        .into_iter()
        .filter(|file| file.file_name().is_some_and(|name| name == "weir.toml"))
        .collect();
    assert!(!scenarios.is_empty());
    let keys = [
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY_1",
        "ANTHROPIC_API_KEY_2",
        "ANTHROPIC_API_KEY_3",
        "ELEVENLABS_API_KEY",
        "FAL_KEY",
        "AGENTS_API_KEY",
    ]
    .map(|name| (name, "sk-test"));
    let master = ("WEIR_MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let environment =
        keys.into_iter().chain([master]).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for file in scenarios {
        assert_accepted(file.parent().unwrap(), &file, &environment, &file.display().to_string());
    }
}
