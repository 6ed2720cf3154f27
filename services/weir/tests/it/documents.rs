//! What `docs/` says: its examples are accepted by the executable, and what it points to exists.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::deploy::{files, root, unknown_metrics};
use crate::weir::{directory, output, weir};

/// The pages that are ours to keep true.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths = files(&root().join("docs"), "md");
    paths.extend(["CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)));
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The fenced blocks of a language, as `toml` or `toml plans`.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("\n```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

#[test]
fn every_example_of_a_configuration_is_accepted() {
    let dir = directory();
    let mut seen = 0;
    for (path, text) in pages() {
        // Each kind of file, and the configuration that names it.
        for (language, file, config) in [
            ("toml", "weir.toml", ""),
            ("toml plans", "plans.toml", "[billing]\nplans = [\"plans.toml\"]\ndefault_plan = \"free\"\n"),
            ("toml prices", "prices.toml", "[billing]\nprice_books = [\"prices.toml\"]\n"),
        ] {
            for block in blocks(&text, language) {
                std::fs::write(dir.path().join("weir.toml"), config).unwrap();
                std::fs::write(dir.path().join(file), block).unwrap();
                let mut command = weir(dir.path());
                command.args(["check-config", "--config", "weir.toml"]);
                for provider in ["OPENAI", "ANTHROPIC", "ELEVENLABS", "AZURE_OPENAI", "GROQ"] {
                    command.env(format!("{provider}_API_KEY"), "sk-test");
                }
                command.env("FAL_KEY", "sk-test");
                command.env("WEIR_MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
                let (code, _, errors) = output(&mut command);
                assert_eq!(code, Some(0), "{}: {errors}\n{block}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 5, "{seen} examples");
}

#[test]
fn links_lead_somewhere() {
    for (path, text) in pages() {
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let found = std::fs::read_to_string(&target).unwrap();
                let headings = found.lines().filter(|line| line.starts_with('#')).map(slug);
                assert!(headings.into_iter().any(|slug| slug == anchor), "{}: {link}", path.display());
            }
        }
    }
}

/// A heading's anchor, as GitHub makes it.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_')
        .collect::<String>()
        .replace(' ', "-")
}

#[test]
fn metrics_that_are_spoken_of_exist() {
    for (path, text) in pages() {
        assert_eq!(unknown_metrics(&text), BTreeSet::new(), "{}", path.display());
    }
}
