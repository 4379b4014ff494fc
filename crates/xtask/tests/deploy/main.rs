//! Everything that deploy/ names exists: paths, ports, flags, variables, commands, services. No container engine is needed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in what tests share")]

mod compose;
mod image;
mod programs;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use compose::{Compose, OWN};

/// The project's folder.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn deploy() -> PathBuf {
    root().join("deploy")
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// The names in `${NAME}`, `${NAME:-x}` and `${NAME:?x}`.
fn substituted(text: &str) -> BTreeSet<String> {
    let names = text.split("${").skip(1);
    names.map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()).collect()
}

/// The `NAME=` lines of an env file.
fn env_example() -> Vec<(String, String)> {
    let text = read("deploy/.env.example");
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn every_path_exists() {
    let compose = Compose::read();
    for (service, definition) in &compose.services {
        for source in compose::mounts(definition).into_iter().map(|mount| mount.source) {
            if source.starts_with('.') {
                assert!(deploy().join(&source).is_file(), "{service} mounts {source}, which is no file");
            } else {
                assert!(compose.document["volumes"].get(&source).is_some(), "{service}: no volume {source}");
            }
        }
        for secret in definition["secrets"].as_array().into_iter().flatten() {
            assert!(
                compose.document["secrets"].get(secret.as_str().unwrap()).is_some(),
                "{service}: {secret}"
            );
        }
        if let Some(build) = definition.get("build") {
            let context = deploy().join(build["context"].as_str().unwrap());
            assert!(context.join("Cargo.toml").is_file());
            assert!(context.join(build["dockerfile"].as_str().unwrap()).is_file());
        }
    }
    let secret_files = read("deploy/alertmanager.yml");
    for file in
        secret_files.lines().filter_map(|line| line.trim().strip_prefix("credentials_file: /run/secrets/"))
    {
        assert!(compose.document["secrets"].get(file).is_some(), "alertmanager.yml reads the secret {file}");
        assert!(compose.services["alertmanager"]["secrets"].as_array().unwrap().contains(&Value::from(file)));
    }
}

#[test]
fn what_a_command_reads_and_writes_is_mounted() {
    let compose = Compose::read();
    for (service, definition) in &compose.services {
        let mounts = compose::mounts(definition);
        let inside = |file: &str| {
            mounts.iter().any(|mount| file == mount.target || file.starts_with(&format!("{}/", mount.target)))
        };
        for word in compose::words(&definition["command"]) {
            let value = word.split_once('=').map_or(word.as_str(), |(_, value)| value);
            if value.starts_with('/') {
                assert!(inside(value), "{service}: nothing is mounted where {value} is");
            }
        }
        // The root is read-only, so what is written has to be a volume.
        if ["coordinator", "resolution"].contains(&service.as_str()) {
            let data = image::environment("QUELL_DATA_DIR");
            assert!(
                mounts.iter().any(|mount| mount.target == data && !mount.read_only),
                "{service} writes {data}"
            );
        }
    }
    let config = yaml(&read("deploy/quell.yaml"));
    let log_files = config["diagnostic"]["log_files"].as_array().unwrap();
    let written = compose::words(&compose.services["simulator"]["command"]);
    for file in log_files {
        assert!(written.iter().any(|word| file == word), "nobody writes {file}");
    }
    let rules = yaml(&read("deploy/prometheus.yml"))["rule_files"][0].as_str().unwrap().to_owned();
    let beside = compose::mounts(&compose.services["prometheus"]);
    assert!(beside.iter().any(|mount| mount.target == format!("/etc/prometheus/{rules}")));
}

#[test]
fn every_command_and_flag_exists() {
    let compose = Compose::read();
    for service in OWN {
        let definition = &compose.services[service];
        let words = match definition.get("entrypoint") {
            Some(entrypoint) => compose::words(entrypoint),
            None => compose::words(&definition["command"]),
        };
        let help = programs::help(&words[0]);
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            let exists = help.split_whitespace().any(|word| word.trim_end_matches(',') == flag);
            assert!(exists, "{} has no {flag}", words[0]);
        }
    }
    let default = image::line("CMD").unwrap();
    assert!(programs::NAMES.iter().any(|name| default.contains(name)), "{default}");
}

#[test]
fn every_variable_is_known() {
    let compose = Compose::read();
    let of_daemons: BTreeSet<_> =
        quell_service::config::VARIABLES.iter().map(|variable| variable.name).collect();
    let of_config = substituted(&read("deploy/quell.yaml"));
    for service in OWN {
        let definition = &compose.services[service];
        let command = definition.get("entrypoint").unwrap_or(&definition["command"]);
        let help = programs::help(&compose::words(command)[0]);
        for name in definition["environment"].as_object().into_iter().flatten().map(|(name, _)| name) {
            // Options say in their help which variable sets them.
            let of_options = help.contains(&format!("[env: {name}"));
            let is_daemon = !["quell", "simulator"].contains(&service);
            let of_file = is_daemon && (of_daemons.contains(name.as_str()) || of_config.contains(name));
            assert!(of_options || of_file, "{service} has no use for {name}");
        }
    }
    assert!(of_daemons.contains("QUELL_DATA_DIR"), "the image sets it");
}

#[test]
fn every_variable_of_the_env_file_is_used_and_every_used_one_is_in_it() {
    let mut used = substituted(&read("deploy/docker-compose.yml"));
    for secret in Compose::read().document["secrets"].as_object().unwrap().values() {
        used.insert(secret["environment"].as_str().unwrap().to_owned());
    }
    let offered: BTreeSet<_> = env_example().into_iter().map(|(name, _)| name).collect();
    assert_eq!(offered, used);
}

#[test]
fn every_image_is_pinned() {
    let compose = Compose::read();
    let mut images: Vec<_> = compose
        .services
        .values()
        .map(|definition| definition["image"].as_str().unwrap().to_owned())
        .collect();
    images.extend(image::bases());
    assert!(images.len() > 5);
    for image in images {
        let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{image} has no tag"));
        assert!(tag.starts_with(|c: char| c.is_ascii_digit() || c == 'v') && tag.contains('.'), "{image}");
    }
}

#[test]
fn the_image_holds_every_program_and_runs_as_nobody_in_particular() {
    let text = read("deploy/Dockerfile");
    for name in programs::NAMES {
        assert!(text.contains(&format!("--bin {name} ")), "{name} is not built");
        assert!(text.contains(&format!("target/dist/{name} ")), "{name} is not copied");
    }
    let (user, group) =
        image::line("USER").unwrap().split_once(':').map(|(u, g)| (u.to_owned(), g.to_owned())).unwrap();
    assert!(user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0);
    assert!(text.contains(&format!("--uid {user} ")) && text.contains(&format!("--gid {group} ")));
    // What is copied from the project exists; COPY of everything aside.
    for line in text.lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from")) {
        let source = line.split_whitespace().filter(|word| !word.starts_with("--")).nth(1).unwrap();
        assert!(root().join(source).exists(), "{line}");
    }
    let version = text.lines().find_map(|line| line.strip_prefix("FROM rust:")).unwrap();
    let wanted = manifest_value(&read("Cargo.toml"), "rust-version");
    assert!(version.starts_with(&wanted), "the image builds with {version}, Cargo.toml wants {wanted}");
    let tag = Compose::read().services["coordinator"]["image"].as_str().unwrap().to_owned();
    assert_eq!(tag, format!("quell:{}", env!("CARGO_PKG_VERSION")));
}

/// The first `key = "value"` of a manifest.
fn manifest_value(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).unwrap();
    line.trim_matches('"').to_owned()
}

#[test]
fn ports_are_those_that_are_listened_on() {
    let compose = Compose::read();
    let defaults = programs::default_ports();
    let listened = programs::ports_of(&yaml(&read("deploy/quell.yaml")));
    assert_eq!(listened, programs::ports_of(&yaml(&programs::effective("quell-coordinator", None))));
    assert_eq!(image::exposed(), defaults.values().flatten().copied().collect::<BTreeSet<_>>());
    for (service, definition) in &compose.services {
        let own: Vec<u16> = match service.as_str() {
            "prometheus" => vec![9090],
            "alertmanager" => vec![9093],
            "grafana" => vec![3000],
            "quell" => Vec::new(),
            own => defaults[own].clone(),
        };
        for published in compose::words(&definition["ports"]) {
            let (outside, inside) = published.rsplit_once(':').unwrap();
            assert!(own.contains(&inside.parse().unwrap()), "{service} does not listen on {inside}");
            assert!(
                outside.starts_with("127.0.0.1:"),
                "{service} is reachable from elsewhere by {published}"
            );
        }
        let test = compose::words(&definition["healthcheck"]["test"]);
        if service == "quell" {
            continue;
        }
        let looked_at = test.iter().find_map(|word| {
            let port = word
                .strip_prefix("http://127.0.0.1:")
                .map_or(word.as_str(), |rest| rest.split('/').next().unwrap());
            port.parse::<u16>().ok()
        });
        assert!(looked_at.is_some_and(|port| own.contains(&port)), "{service} is looked at by {test:?}");
    }
}

#[test]
fn every_address_names_a_service_and_its_port() {
    let compose = Compose::read();
    let mut ports = programs::default_ports();
    ports.extend(
        [("prometheus", vec![9090]), ("alertmanager", vec![9093]), ("grafana", vec![3000])]
            .map(|(name, ports)| (name.to_owned(), ports)),
    );
    let mut seen = 0;
    for file in
        ["quell.yaml", "prometheus.yml", "alertmanager.yml", "grafana/datasources.yml", "docker-compose.yml"]
    {
        let text = read(&format!("deploy/{file}"));
        // The tag of an image looks like a port.
        let text: String =
            text.lines().filter(|line| !line.contains("image:")).map(|line| format!("{line}\n")).collect();
        for service in ports.keys() {
            for (at, _) in text.match_indices(&format!("{service}:")) {
                let digits: String =
                    text[at + service.len() + 1..].chars().take_while(char::is_ascii_digit).collect();
                let before = text[..at].chars().next_back();
                if digits.is_empty() || before.is_some_and(|c| c.is_ascii_alphanumeric()) {
                    continue;
                }
                assert!(ports[service].contains(&digits.parse().unwrap()), "{file}: {service}:{digits}");
                seen += 1;
            }
        }
        for (at, _) in text.match_indices("http://") {
            let host: String =
                text[at + 7..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
            let known = compose.services.contains_key(&host) || host == "127.0.0.1";
            assert!(known, "{file}: no service is called {host}");
        }
    }
    assert!(seen > 10, "only {seen} addresses were looked at");
}

#[test]
fn the_configuration_is_accepted_by_every_daemon_with_what_it_is_given() {
    let compose = Compose::read();
    for service in ["coordinator", "diagnostic", "resolution"] {
        let environment = compose::environment(&compose.services[service]);
        let program = format!("quell-{service}");
        let mut command = Command::new(programs::find(&program));
        command.env_clear().envs(&environment).env("QUELL_DATA_DIR", "/var/lib/quell");
        let output = command.args(["--check", "--config"]).arg(deploy().join("quell.yaml")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {said}");
        assert!(!said.contains("QUELL_"), "{program} has no use for a variable: {said}");
        let effective = yaml(&String::from_utf8_lossy(&output.stdout));
        let switches = &effective["agents"]["resolution"];
        assert_eq!(switches["execute_real_commands"], false, "nothing is executed unless somebody says so");
        assert_eq!(switches["dry_run"], true);
        // Without its own token it would refuse its address, so an empty one cannot slip through.
        let without = Command::new(programs::find(&program))
            .env_clear()
            .env("QUELL_DATA_DIR", "/var/lib/quell")
            .args(["--check", "--config"])
            .arg(deploy().join("quell.yaml"))
            .output()
            .unwrap();
        assert!(!without.status.success(), "{program} accepts empty tokens");
    }
}

#[test]
fn the_health_check_and_the_webhook_are_really_there() {
    let coordinator = programs::Running::start(
        "quell-coordinator",
        &["--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"],
    );
    let port = coordinator.address("http").port().to_string();
    let healthy = |arguments: &[&str]| {
        Command::new("bash").arg(deploy().join("healthy")).args(arguments).status().unwrap().success()
    };
    assert!(healthy(&[&port]));
    assert!(!healthy(&[&port, "/no-such-page"]));
    let resolution = programs::Running::start("quell-resolution", &["--listen", "127.0.0.1:0"]);
    assert!(healthy(&[&resolution.address("grpc").port().to_string()]));

    let alertmanager = yaml(&read("deploy/alertmanager.yml"));
    let receivers = alertmanager["receivers"].as_array().unwrap();
    let hook = receivers.iter().find_map(|one| one["webhook_configs"][0]["url"].as_str()).unwrap();
    let (_, path) = hook.split_once("coordinator:5000").unwrap();
    // An empty object is no alert, and is refused as such; another path would not be there at all.
    assert_eq!(coordinator.post(path, "{}"), 400);
    assert_eq!(coordinator.post("/webhooks/nobody", "{}"), 404);
}
