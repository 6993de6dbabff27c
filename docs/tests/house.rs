//! Architecture as a failing test: who may import whom, which library stands in which crate, and that the
//! documents name what exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Crate, its folder, and the workspace crates that it may depend on. Any other edge fails.
const ARROWS: &[(&str, &str, &[&str])] = &[
    ("host", "store/host", &[]),
    ("base2histogram", "store/histogram", &[]),
    ("cron", "store/cron", &[]),
    ("alike", "store/alike", &[]),
    ("trust", "store/trust", &[]),
    ("kv", "store/kv", &[]),
    ("store", "store", &["host", "kv"]),
    ("schema", "apiserver/schema", &[]),
    (
        "resources",
        "apiserver/resources",
        &["schema", "cel", "cron"],
    ),
    ("auth", "apiserver/auth", &["schema"]),
    ("spdy", "apiserver/spdy", &[]),
    ("cel", "apiserver/cel", &["schema"]),
    (
        "fuzz",
        "apiserver/fuzz",
        &["schema", "resources", "auth", "spdy", "cel"],
    ),
    (
        "apiserver",
        "apiserver",
        &[
            "host",
            "alike",
            "trust",
            "kv",
            "schema",
            "resources",
            "auth",
            "spdy",
            "cel",
        ],
    ),
    ("agent-runtime", "agents/runtime", &["host", "trust"]),
    (
        "controllers",
        "agents/controllers",
        &["host", "cron", "agent-runtime"],
    ),
    (
        "scheduler",
        "agents/scheduler",
        &["host", "agent-runtime", "cel"],
    ),
    (
        "node-agent",
        "agents/node",
        &["agent-runtime", "alike", "trust"],
    ),
    (
        "agents",
        "agents",
        &["agent-runtime", "controllers", "scheduler", "node-agent"],
    ),
    ("kontiki", ".", &["store", "apiserver", "auth", "agents"]),
    (
        "raft-tests",
        "raft-tests",
        &["host", "kv", "store", "apiserver", "auth", "agents"],
    ),
    ("bench", "bench", &["kv", "agent-runtime", "schema"]),
    ("docs", "docs", &[]),
];

/// Third-party crates that only the named crates may use.
const RESERVED: &[(&str, &[&str])] = &[
    ("openraft", &["store"]),
    ("openraft-rt-tokio", &["store"]),
    ("rocksdb", &["store"]),
    ("bincode", &["store"]),
    ("tonic", &["store", "bench", "raft-tests"]),
    ("bollard", &["node-agent"]),
    ("axum", &["apiserver", "node-agent"]),
    ("jsonwebtoken", &["auth"]),
    ("rcgen", &["kontiki", "controllers", "raft-tests", "bench"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("docs is inside the repository")
        .to_path_buf()
}

/// Names in the `[dependencies]` table of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && let Some((name, _)) = line.split_once('=') {
            names.push(name.trim().trim_end_matches(".workspace").to_string());
        }
    }
    names
}

fn manifests() -> BTreeMap<&'static str, Vec<String>> {
    let read = |folder: &str| fs::read_to_string(root().join(folder).join("Cargo.toml"));
    ARROWS
        .iter()
        .filter_map(|(name, folder, _)| Some((*name, dependencies(&read(folder).ok()?))))
        .collect()
}

fn tracked_files() -> Vec<String> {
    let output = std::process::Command::new("git")
        .arg("-C")
        .arg(root())
        .args(["ls-files"])
        .output();
    let listing = output.expect("git runs").stdout;
    String::from_utf8(listing)
        .expect("file names are UTF-8")
        .lines()
        .map(String::from)
        .collect()
}

#[test]
fn arrows_point_where_architecture_says() {
    let crates: Vec<&str> = ARROWS.iter().map(|(name, _, _)| *name).collect();
    let manifests = manifests();
    let mut wrong = Vec::new();
    for (name, _, allowed) in ARROWS {
        for dependency in manifests.get(name).into_iter().flatten() {
            if crates.contains(&dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{name} -> {dependency}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "edges that ARCHITECTURE.md forbids: {wrong:?}"
    );
}

#[test]
fn every_member_of_the_workspace_has_its_arrows() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest
        .lines()
        .find(|line| line.starts_with("members"))
        .expect("members stand on one line");
    let folders: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    let known: Vec<&str> = ARROWS.iter().map(|(_, folder, _)| *folder).collect();
    let unknown: Vec<_> = folders
        .iter()
        .filter(|folder| !known.contains(folder))
        .collect();
    assert!(unknown.is_empty(), "add to ARROWS: {unknown:?}");
}

#[test]
fn a_library_stands_only_in_its_crate() {
    let mut wrong = Vec::new();
    for (name, dependencies) in manifests() {
        for (library, homes) in RESERVED {
            if dependencies.iter().any(|dependency| dependency == library) && !homes.contains(&name)
            {
                wrong.push(format!("{name} uses {library}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Every package that a build of these crates compiles, with its features.
fn compiled(crates: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.current_dir(root());
    command.args(["tree", "--locked", "--offline", "--no-dedupe"]);
    command.args(["-e", "normal,build", "--prefix", "none", "-f", "{p} {f}"]);
    crates.iter().for_each(|name| {
        command.args(["-p", name]);
    });
    let output = command.output().expect("cargo runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let text = String::from_utf8(output.stdout).expect("names are UTF-8");
    text.lines().map(String::from).collect()
}

#[test]
fn the_benchmark_compiles_no_library_of_the_binary_a_second_time() {
    let alone = compiled(&["kontiki"]);
    let together = compiled(&["kontiki", "bench"]);
    let again: Vec<_> = alone.difference(&together).collect();
    assert!(
        alone.len() > 100 && again.is_empty(),
        "with other features: {again:?}"
    );
}

/// The guided driver of the fuzz targets is a workspace of its own, which nobody else builds: its lock goes out of date unseen
/// when a crate below it gets another dependency.
#[test]
fn the_guided_fuzzer_is_locked_to_what_it_needs() {
    const GUIDED: &str = "apiserver/fuzz/guided";
    let lock = fs::read_to_string(root().join(GUIDED).join("Cargo.lock")).unwrap();
    let manifests = manifests();
    let quoted = |line: &str| Some(line.split('"').nth(1)?.split(' ').next()?.to_owned());
    let ours = lock.split("[[package]]").filter_map(|package| {
        let name = quoted(package.lines().find(|line| line.starts_with("name = "))?)?;
        let wanted = manifests.get(name.as_str())?.iter().cloned();
        let wanted: BTreeSet<String> = wanted.collect();
        let listed = package.lines().filter(|line| line.starts_with(" \""));
        let locked: BTreeSet<String> = listed.filter_map(quoted).collect();
        let is_ours = !package.contains("\nsource = ");
        is_ours.then(|| (name, locked == wanted))
    });
    let ours: BTreeMap<String, bool> = ours.collect();
    assert!(ours.contains_key("schema"), "{ours:?}");
    let stale: Vec<_> = ours
        .iter()
        .filter(|(_, is_current)| !**is_current)
        .collect();
    assert!(
        stale.is_empty(),
        "`cargo metadata --manifest-path {GUIDED}/Cargo.toml` locks it anew: {stale:?}"
    );
}

/// Bugs are planted in the store for its tests alone. Whoever would turn that on for others cannot build the product, which
/// refuses it; here it is found before.
#[test]
fn only_raft_tests_can_plant_bugs() {
    let files = tracked_files();
    let manifests = files.iter().filter(|file| file.ends_with("Cargo.toml"));
    let mut lines = Vec::new();
    for file in manifests {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        let named = text.lines().filter(|line| line.contains("mutants"));
        let named = named.filter(|line| !line.starts_with('#'));
        lines.extend(named.map(|line| format!("{file}: {line}")));
    }
    lines.sort();
    let expected = [
        "raft-tests/Cargo.toml: mutants = [\"kv/mutants\"]",
        "store/kv/Cargo.toml: mutants = []",
    ];
    assert_eq!(lines, expected);
    let with_bugs = compiled(&["kontiki", "bench", "raft-tests"]);
    let with_bugs: Vec<_> = with_bugs
        .iter()
        .filter(|line| {
            line.rsplit(' ')
                .any(|part| part.split(',').any(|feature| feature == "mutants"))
        })
        .collect();
    assert!(with_bugs.is_empty(), "{with_bugs:?}");
}

#[test]
fn architecture_names_every_crate() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let missing: Vec<_> = manifests()
        .into_keys()
        .filter(|name| !text.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "not in ARCHITECTURE.md: {missing:?}");
}

#[test]
fn no_module_without_a_name_of_its_own() {
    let nameless = ["util", "utils", "helper", "helpers", "common", "misc"];
    let bad: Vec<_> = tracked_files()
        .into_iter()
        .filter(|file| file.ends_with(".rs"))
        .filter(|file| {
            Path::new(file)
                .file_stem()
                .is_some_and(|stem| nameless.iter().any(|name| stem == *name))
        })
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for file in tracked_files().iter().filter(|file| file.ends_with(".md")) {
        let path = root().join(file);
        let text = fs::read_to_string(&path).unwrap_or_default();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            if !path
                .parent()
                .is_some_and(|folder| folder.join(target).exists())
            {
                broken.push(format!("{file}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn the_readme_has_the_two_commands_and_they_are_targets() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    for target in ["up", "test"] {
        assert!(
            readme.contains(&format!("make {target}")),
            "README lacks `make {target}`"
        );
        assert!(
            makefile.contains(&format!("\n{target}: ##")),
            "Makefile lacks {target}"
        );
    }
}

/// Lines of product code: no comments, and nothing from the tests at the end of a file on. What else is for tests alone
/// counts as code.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let mut pairs = text.lines().zip(text.lines().skip(1));
    let tests = pairs.position(|(mark, head)| {
        mark == "#[cfg(test)]" && head.starts_with("mod ") && head.ends_with('{')
    });
    let product = text.lines().take(tests.unwrap_or(usize::MAX));
    product.filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn code_ends_where_tests_begin() {
    let text = "#[cfg(test)]\nmod tests;\n// no\nuse a;\n    #[cfg(test)]\nfn b() {}\n#[cfg(test)]\nmod tests {\nuse c;\n}";
    let lines: Vec<&str> = code(text).collect();
    assert_eq!(lines[2..], ["use a;", "    #[cfg(test)]", "fn b() {}"]);
}

/// Some of the files, with their product code.
fn product(which: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let mut files = tracked_files();
    files.retain(|file| file.ends_with(".rs") && which(file));
    assert!(!files.is_empty(), "the folders have other names");
    let read = |file: &String| fs::read_to_string(root().join(file)).unwrap_or_default();
    let lines = |text: String| code(&text).collect::<Vec<_>>().join("\n");
    files
        .iter()
        .map(|file| (file.clone(), lines(read(file))))
        .collect()
}

/// Where which of these words are.
fn words(files: &BTreeMap<String, String>, banned: &[&str]) -> Vec<String> {
    let found = files.iter().flat_map(|(file, text)| {
        let used = banned.iter().filter(|word| text.contains(**word));
        used.map(move |word| format!("{file}: {word}"))
    });
    found.collect()
}

/// Where what is done first is drawn.
fn draws(files: &BTreeMap<String, String>) -> Vec<String> {
    let drawn = |text: &str| {
        let mut pairs = text.lines().zip(text.lines().skip(1));
        pairs.any(|(head, first)| head.contains("select! {") && first.trim() != "biased;")
    };
    let drawing = files.iter().filter(|(_, text)| drawn(text));
    drawing
        .map(|(file, _)| format!("{file}: select! without biased"))
        .collect()
}

#[test]
fn the_model_has_no_clock_and_no_hash_order() {
    let files = product(|file| file.starts_with("store/kv/src/"));
    let banned = [
        "SystemTime",
        "Instant::now",
        "HashMap",
        "HashSet",
        "std::thread",
        "tokio",
    ];
    let found = words(&files, &banned);
    assert!(found.is_empty(), "{found:?}");
}

/// As for the store: what API servers and the agents of the control plane do follows from what `host` gives them. What is
/// about sockets, and the node agent, are no part of a simulation.
#[test]
fn a_control_plane_does_nothing_by_chance() {
    const SOCKETS: [&str; 7] = [
        "kubelet",
        "port_forward",
        "serve",
        "spdy",
        "streams",
        "told",
        "websocket",
    ];
    let mut files = BTreeMap::new();
    for folder in [
        "apiserver/src/",
        "agents/runtime/src/",
        "agents/controllers/src/",
        "agents/scheduler/src/",
    ] {
        files.extend(product(|file| {
            let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str());
            let sockets = stem.is_some_and(|stem| SOCKETS.contains(&stem));
            !sockets && file.starts_with(folder)
        }));
    }
    let banned = [
        "rand::random",
        "rand::rng",
        "tokio::spawn",
        "sync::watch",
        "now_utc",
        "SystemTime",
        "new_v4",
    ];
    let mut found = words(&files, &banned);
    found.extend(draws(&files));
    for (file, text) in &files {
        let standard = |line: &str| line.contains("std::collections") && line.contains("Hash");
        if file.starts_with("agents/") && text.lines().any(standard) {
            found.push(format!("{file}: a hash table of the standard library"));
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

/// What a member does beside its clients follows from what comes in by `env` and `host`, so that a simulation can do it
/// again.
#[test]
fn a_member_of_the_store_does_nothing_by_chance() {
    let mut files = BTreeMap::new();
    for folder in ["store/src/", "store/src/raft/", "store/src/peer/"] {
        files.extend(product(|file| {
            let name = file.strip_prefix(folder);
            name.is_some_and(|name| !name.contains('/'))
        }));
    }
    let banned = [
        "rand::random",
        "rand::rng",
        "tokio::spawn",
        "sync::watch",
        "tokio::fs",
        "HashMap",
        "HashSet",
    ];
    let mut found = words(&files, &banned);
    found.extend(draws(&files));
    assert!(found.is_empty(), "{found:?}");
}
