//! What the documents say is checked here as far as it can be: paths exist, links lead somewhere.

use std::path::{Path, PathBuf};

use crate::root;

/// The documents of the repository.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in [root(), root().join("docs")] {
        let entries = std::fs::read_dir(&directory).unwrap().flatten().map(|entry| entry.path());
        found.extend(entries.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    found
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Words in backquotes that are paths of the repository: their first part is one of its folders.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|word| {
        let mut parts = word.split('/');
        let first = parts.next().unwrap_or_default();
        let folders = ["bin", "crates", "docs", "nano", "packaging", "tests", "xtask"];
        folders.contains(&first)
            && parts.next().is_some_and(|next| !next.is_empty())
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
    })
}

/// Targets of links that lead to files.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://") && !target.starts_with('#'))
}

#[test]
fn every_path_that_the_architecture_names_exists() {
    let text = text(&root().join("ARCHITECTURE.md"));
    let named: Vec<_> = paths(&text).collect();
    assert!(named.len() > 20, "only {named:?}");
    let missing: Vec<_> = named.into_iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names what is not there: {missing:?}");
}

#[test]
fn every_crate_and_program_is_in_the_architecture() {
    let text = text(&root().join("ARCHITECTURE.md"));
    for folder in ["crates", "bin"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap().flatten() {
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            assert!(text.contains(&path), "ARCHITECTURE.md says nothing of {path}");
        }
    }
}

#[test]
fn every_link_leads_to_a_file() {
    for path in documents() {
        let text = text(&path);
        for link in links(&text) {
            let target = link.split('#').next().unwrap_or_default();
            let target = path.parent().unwrap().join(target);
            assert!(target.exists(), "{} links to {link}, which is not there", path.display());
        }
    }
}

#[test]
fn every_page_is_reached_from_the_readme() {
    let readme = text(&root().join("README.md"));
    for path in documents().iter().filter(|path| path.parent() != Some(&root())) {
        let name = format!("docs/{}", path.file_name().unwrap().to_string_lossy());
        assert!(readme.contains(&name), "README.md does not lead to {name}");
    }
}

#[test]
fn every_test_of_a_known_attack_exists() {
    let page = text(&root().join("docs/threat-model.md"));
    let named: Vec<_> =
        page.split('`').filter(|word| word.starts_with("cve_")).map(str::to_string).collect();
    assert!(named.len() >= 4, "{named:?}");
    let mut sources = String::new();
    let mut places = vec![root().join("tests"), root().join("crates")];
    while let Some(place) = places.pop() {
        for entry in std::fs::read_dir(&place).unwrap().flatten() {
            let path = entry.path();
            match path.extension() {
                _ if path.is_dir() => places.push(path),
                Some(end) if end == "rs" => sources.push_str(&text(&path)),
                _ => {}
            }
        }
    }
    for name in named {
        assert!(sources.contains(&format!("fn {name}(")), "{name} is no test");
    }
}
