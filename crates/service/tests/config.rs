//! The configuration: what is read, in which order, and what is said when it cannot be.

#![allow(clippy::unwrap_used, reason = "a test may panic; the exemption does not reach its helpers")]

use std::path::PathBuf;

use quell_service::config::{Autonomy, VARIABLES};
use quell_service::{Config, ConfigError, Daemon, Environment, Loading, Scope};

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load_for(None, text, variables)
}

fn load_for(daemon: Option<Daemon>, text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = Environment::of(variables.iter().copied());
    Loading { daemon, file: None, environment }.load_text(text, |_| ())
}

fn refused(text: &str, variables: &[(&str, &str)]) -> String {
    load(text, variables).unwrap_err().to_string()
}

#[test]
fn nothing_at_all_is_the_demo_and_does_nothing_to_anyone() {
    let config = load("", &[]).unwrap();
    assert_eq!(config, Config::default());
    assert!(!config.use_real_data);
    assert!(!config.agents.resolution.execute_real_commands);
    assert!(config.agents.resolution.require_approval && config.agents.resolution.dry_run);
    assert_eq!(config.coordinator.autonomy, Autonomy::Approve);
    assert!(config.notices().is_empty());
}

#[test]
fn the_names_that_users_know_are_taken() {
    let text = r#"
infrastructure:
  monitoring: {prometheus: {url: "http://p:9090", alert_manager_url: "http://a:9093"}}
  logging: {elasticsearch: {url: "http://e:9200", index_pattern: "logs-*"}, splunk: {url: "https://s:8089", api_key: k, username: u, password: p}, loki: {url: "http://l:3100"}}
  visualization: {grafana: {url: "http://g:3000", api_key: k}}
automation:
  deployment: {ansible: {inventory_file: i.ini, playbook_dir: plays}, kubernetes: {kubeconfig: kube.conf}}
  remediation: {ssh: {username: ops, private_key: id, timeout: 30}, terraform: {state_dir: tf, auto_approve: false}}
agents:
  diagnostic: {use_ml_model: true, ml_model_path: m.json, use_rules_engine: true}
  resolution: {execute_real_commands: false, require_approval: true, dry_run: true}
ticketing: {jira: {enabled: true, url: "https://j", username: u, token: t}}
"#;
    let config = load(text, &[]).unwrap();
    assert_eq!(config.automation.remediation.ssh.timeout.get().as_secs(), 30);
    insta::assert_snapshot!(config.notices().join("\n"), @r#"
    `automation.deployment.ansible` is set, but this version of Quell does not use it yet
    `automation.remediation.ssh` is set, but this version of Quell does not use it yet
    `automation.remediation.terraform` is set, but this version of Quell does not use it yet
    `ticketing.jira` is set, but this version of Quell does not use it yet
    `infrastructure.logging.elasticsearch` is set, but not asked: `use_real_data` is false, so the simulator is looked at
    `infrastructure.logging.splunk` is set, but not asked: `use_real_data` is false, so the simulator is looked at
    `infrastructure.logging.loki` is set, but not asked: `use_real_data` is false, so the simulator is looked at
    `infrastructure.visualization.grafana` is set, but not asked: `use_real_data` is false, so the simulator is looked at
    `automation.deployment.kubernetes` is set, but not asked: `use_real_data` is false, so the simulator is looked at
    "#);
    let asked = load(&format!("use_real_data: true\n{text}"), &[]).unwrap();
    assert!(!asked.notices().iter().any(|notice| notice.contains("not asked")), "{:?}", asked.notices());
    let no_place = load("", &[("SPLUNK_API_KEY", "k")]).unwrap();
    insta::assert_snapshot!(no_place.notices().join("\n"), @"`infrastructure.logging.splunk` is set, but not its `url`: it is not asked");
}

#[test]
fn the_effective_configuration_hides_secrets_and_reads_back() {
    let text = r#"
infrastructure: {monitoring: {prometheus: {url: "http://me:hunter2@p:9090"}}}
ticketing: {jira: {token: hunter2}}
agents: {diagnostic: {token: hunter2-one}, resolution: {token: hunter2-two}}
coordinator:
  database_url: postgres://quell:hunter2@db/quell
  tokens: [{name: am, token: hunter2-webhook, scopes: [webhook]}]
  autonomy_overrides: [{service: email, level: auto}]
"#;
    let config = load(text, &[("HOME", "/home/quell")]).unwrap();
    let shown = config.render_effective().unwrap();
    assert!(!shown.contains("hunter2"), "{shown}");
    insta::assert_snapshot!(shown);
    // A configuration without secrets reads back as it is; one with masks in their place is refused.
    let plain = load("", &[]).unwrap().render_effective().unwrap();
    assert_eq!(load(&plain, &[]).unwrap(), Config::default());
    insta::assert_snapshot!(load(&shown, &[]).unwrap_err(), @"quell.yaml:6:12: `***` stands where a secret was hidden; put in the secret itself");
}

#[test]
fn unknown_keys_name_the_place_and_the_nearest_key() {
    insta::assert_snapshot!(refused("coordinator:\n  listn: 127.0.0.1:1\n", &[]), @"quell.yaml:2:3: unknown key `listn`; did you mean `listen`?");
    insta::assert_snapshot!(refused("tenant: a\nUse-Real-Data: true\n", &[]), @"quell.yaml:2:1: unknown key `Use-Real-Data`; did you mean `use_real_data`?");
    insta::assert_snapshot!(refused("coordinator:\n  workflow: {settle: 5s, coolness: 1s}\n", &[]), @"quell.yaml:2:26: unknown key `coolness`; known here are settle, settle_p0, diagnosis, planning, approval, step, verification_grace, quiet_before_close, cool_down, attempts_max, step_tries_max, confidence_min, remind_escalated, alert_pipeline_delay, check_patience, approvals_needed, step_grace, probe, agent_backoff, verify_interval, hold_look_again, hold_max, agent_retries_max");
    insta::assert_snapshot!(refused("logging: {loki: {url: \"http://l\"}}\n", &[]), @"quell.yaml:1:1: unknown key `logging`; it belongs to `infrastructure`");
    insta::assert_snapshot!(refused("coordinator:\n  tokens:\n  - {name: a, tken: b, scopes: []}\n", &[]), @"quell.yaml:3:15: unknown key `tken`; did you mean `token`?");
    insta::assert_snapshot!(
        refused("simulator: {url: \"${U}\", tokn: x}\n", &[("U", "http://u")]),
        @"quell.yaml:1:26: unknown key `tokn`; did you mean `token`?"
    );
}

#[test]
fn malformed_values_name_the_place() {
    insta::assert_snapshot!(refused("coordinator:\n  listen: here\n", &[]), @"quell.yaml:2:11: `here` is not an address to listen on; write it like `127.0.0.1:5000`");
    insta::assert_snapshot!(refused("coordinator:\n  workflow:\n    settle: soon\n", &[]), @"quell.yaml:3:13: `soon` is not a length of time; write it like `5s`, `10m` or `1h 30m`");
    insta::assert_snapshot!(refused("use_real_data: yes\n", &[]), @"quell.yaml:1:16: invalid boolean (true or false expected)");
    insta::assert_snapshot!(refused("simulator: {url: localhost}\n", &[]), @"quell.yaml:1:18: `localhost` is not an address like `http://host:9090`");
    insta::assert_snapshot!(refused("coordinator: {autonomy: full}\n", &[]), @"quell.yaml:1:25: unknown variant `full`, expected one of observe, suggest, approve, auto");
    insta::assert_snapshot!(refused("coordinator:\n  tokens: [{name: a, token: b, scopes: [root]}]\n", &[]), @"quell.yaml:2:41: unknown variant `root`, expected one of webhook, read, operate, approve, agent");
    insta::assert_snapshot!(refused("coordinator:\n  body_bytes_max: many\n", &[]), @"quell.yaml:2:19: a whole number in range is expected here");
    insta::assert_snapshot!(refused("tenant: a\ntenant: b\n", &[]), @"quell.yaml:2:1: duplicate mapping key: tenant not allowed here");
    insta::assert_snapshot!(refused("tenant: [\n", &[]), @"quell.yaml:1:9: expected string scalar");
    insta::assert_snapshot!(refused("simulator: {url: ${U}}\n", &[("U", "http://u")]), @r#"quell.yaml:1:18: `$` is not an address like `http://host:9090`; inside { } and [ ] write "${NAME}" in quotes"#);
}

#[test]
fn variables_are_substituted_in_plain_and_quoted_values() {
    let text = r#"
use_real_data: ${REAL:-false}
tenant: "${TENANT}"
simulator: {url: "http://${HOST:-localhost}:8000", token: 'pa$$word$1'}
coordinator:
  body_bytes_max: ${BYTES}
  workflow: {settle: "${SETTLE:-7}"}
  data_dir: "${NOWHERE:-}"
ticketing: {jira: {url: "${JIRA:-}", token: "${JIRA_SECRET:-${OTHER_SECRET:-none}}"}}
# a comment with ${UNSET} and $stray
"#;
    let config = load(text, &[("TENANT", "acme: ${BYTES}"), ("BYTES", "4096"), ("OTHER_SECRET", "s: {x}")])
        .map_err(|e| e.to_string());
    // The value is not YAML and is not substituted again; as a name of a tenant it is refused.
    assert_eq!(
        config.unwrap_err(),
        "`tenant`: `acme: ${BYTES}` is no name; use 1 to 64 letters, digits, `-`, `_`, `.`"
    );

    let config =
        load(text, &[("TENANT", "acme"), ("BYTES", "4096"), ("REAL", "true"), ("OTHER_SECRET", "s: {x}")])
            .unwrap();
    assert!(config.use_real_data);
    assert_eq!(config.coordinator.body_bytes_max, 4096);
    assert_eq!(config.coordinator.workflow.settle.get().as_secs(), 7);
    assert_eq!(config.simulator.url.as_str(), "http://localhost:8000");
    assert_eq!(config.simulator.token.unwrap().expose(), "pa$word$1");
    assert_eq!(config.coordinator.data_dir, None);
    assert_eq!(config.ticketing.jira.url, None);
    assert_eq!(config.ticketing.jira.token.unwrap().expose(), "s: {x}");
}

#[test]
fn evidence_may_come_from_both_worlds() {
    let of = |text: &str| {
        let config = load(text, &[]).unwrap();
        (config.has_real_metrics(), config.has_real_logs())
    };
    assert_eq!(of(""), (false, false));
    assert_eq!(of("use_real_data: true\n"), (true, true));
    assert_eq!(of("diagnostic: {sources: {logs: configured}}\n"), (false, true));
    assert_eq!(of("use_real_data: true\ndiagnostic: {sources: {logs: simulator}}\n"), (true, false));
}

#[test]
fn settings_of_sources_that_do_not_fit_are_named() {
    let check = |more: &str| {
        refused(&format!("diagnostic: {{health_checks: [{{name: a, url: \"http://a\"{more}}}]}}\n"), &[])
    };
    insta::assert_snapshot!(check(", expected_status: 42"), @"`diagnostic.health_checks[0].expected_status`: 42 is not a status; it takes 100 to 599");
    insta::assert_snapshot!(check(", timeout: 0"), @"`diagnostic.health_checks[0].timeout`: 0s is out of range; it takes 10ms to 720h");
    insta::assert_snapshot!(check("}, {name: a, url: \"http://b\""), @"`diagnostic.health_checks[1].name`: `a` is another dependency's too");
    let half = "infrastructure: {logging: {loki: {url: \"http://l\", username: me}}}\n";
    insta::assert_snapshot!(refused(half, &[]), @"`infrastructure.logging.loki.password`: is not set, and `username` is; set both or none");
}

#[test]
fn an_unset_variable_without_a_default_is_an_error() {
    insta::assert_snapshot!(refused("tenant: a\nsimulator:\n  token: ${SIM_TOKEN}\n", &[]), @"quell.yaml:3:10: the environment variable SIM_TOKEN is not set; set it, or give a default by ${SIM_TOKEN:-...}");
    insta::assert_snapshot!(
        refused("simulator: {url: \"${A}\", token: \"${SIM_TOKEN:?the token of the simulator}\"}\n", &[("A", "http://a")]),
        @"quell.yaml:1:33: the environment variable SIM_TOKEN is not set; set it, or give a default by ${SIM_TOKEN:-...} (the token of the simulator)"
    );
}

#[test]
fn a_message_never_shows_what_was_substituted() {
    for text in
        ["use_real_data: ${S}\n", "coordinator: {listen: \"${S}\"}\n", "coordinator: {autonomy: \"${S}\"}\n"]
    {
        let message = refused(text, &[("S", "hunter2")]);
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn every_variable_of_the_table_sets_something() {
    let flags = ["USE_REAL_DATA", "EXECUTE_REAL_REMEDIATION"];
    for variable in VARIABLES {
        let value = match variable.name {
            name if flags.contains(&name) => "yes",
            "REQUIRE_APPROVAL_FOR_CHANGES" | "DRY_RUN_MODE" | "ENABLE_WEBHOOKS" => "0",
            "WEBHOOK_HOST" => "127.0.0.2",
            "WEBHOOK_PORT" | "METRICS_PORT" => "7000",
            "QUELL_AUTONOMY" => "observe",
            name if name.ends_with("_LISTEN") => "127.0.0.1:7001",
            name if name.ends_with("_URL") => "http://elsewhere:7002",
            _ => "something",
        };
        let config = load("", &[(variable.name, value)]).unwrap();
        assert_ne!(config, Config::default(), "{}", variable.name);
    }
}

#[test]
fn the_environment_comes_before_the_file_and_flags_before_both() {
    let environment = Environment::of([("WEBHOOK_PORT", "7000"), ("DRY_RUN_MODE", "no"), ("JIRA_TOKEN", "")]);
    let loading = Loading { daemon: None, file: None, environment };
    let text = "coordinator: {listen: \"127.0.0.1:6000\"}\nticketing: {jira: {token: kept}}\n";
    let config = loading.load_text(text, |_| ()).unwrap();
    assert_eq!(config.coordinator.listen.port(), 7000);
    assert!(!config.agents.resolution.dry_run);
    assert_eq!(config.ticketing.jira.token.as_ref().unwrap().expose(), "kept");
    let config = loading.load_text(text, |config| config.coordinator.listen.set_port(8000)).unwrap();
    assert_eq!(config.coordinator.listen.port(), 8000);
}

#[test]
fn a_bad_variable_is_named_with_what_is_accepted() {
    insta::assert_snapshot!(refused("", &[("DRY_RUN_MODE", "maybe")]), @"the environment variable DRY_RUN_MODE cannot be used for `agents.resolution.dry_run`: `maybe` is not a switch; accepted are true, false, 1, 0, yes, no");
    insta::assert_snapshot!(refused("", &[("WEBHOOK_PORT", "http")]), @"the environment variable WEBHOOK_PORT cannot be used for `coordinator.listen`: `http` is not a port; accepted are 0 to 65535");
    insta::assert_snapshot!(refused("", &[("WEBHOOK_HOST", "quell.example")]), @"the environment variable WEBHOOK_HOST cannot be used for `coordinator.listen`: `quell.example` is not an IP address; accepted are addresses such as 127.0.0.1 or 0.0.0.0, and localhost");
    insta::assert_snapshot!(refused("", &[("PROMETHEUS_URL", "prometheus:9090")]), @"the environment variable PROMETHEUS_URL cannot be used for `infrastructure.monitoring.prometheus.url`: `prometheus:9090` is not an address like `http://host:9090`");
    insta::assert_snapshot!(refused("", &[("QUELL_AUTONOMY", "full")]), @"the environment variable QUELL_AUTONOMY cannot be used for `coordinator.autonomy`: `full` is no level; accepted are observe, suggest, approve, auto");
    insta::assert_snapshot!(refused("", &[("METRICS_PORT", "65534")]), @"the environment variable METRICS_PORT cannot be used for `simulator.url` and `simulator.metrics_urls`: the ports that follow it would be over 65535");
}

#[test]
fn the_first_port_of_the_simulator_moves_the_others() {
    let config = load("", &[("METRICS_PORT", "9100")]).unwrap();
    assert_eq!(config.simulator.url.as_str(), "http://127.0.0.1:9100");
    let pages: Vec<_> = config.simulator.metrics_urls.iter().map(|url| url.as_str()).collect();
    assert_eq!(
        pages,
        ["http://127.0.0.1:9100/metrics", "http://127.0.0.1:9101/metrics", "http://127.0.0.1:9102/metrics"]
    );
}

#[test]
fn without_tokens_only_this_machine_may_call() {
    insta::assert_snapshot!(refused("", &[("WEBHOOK_HOST", "0.0.0.0")]), @"`coordinator.listen`: 0.0.0.0:5000 can be reached from other machines, and nobody would have to show a token; set `coordinator.tokens`, or listen on 127.0.0.1");
    insta::assert_snapshot!(refused("resolution: {listen: \"[::]:50053\"}\n", &[]), @"`resolution.listen`: [::]:50053 can be reached from other machines, and nobody would have to show a token; set `resolution.tokens`, or listen on 127.0.0.1");
    // Each daemon looks at its own addresses only: the tokens of another may not be there.
    assert!(load_for(Some(Daemon::Diagnostic), "", &[("WEBHOOK_HOST", "0.0.0.0")]).is_ok());
    let text = "coordinator: {tokens: [{name: am, token: a-long-token, scopes: [webhook]}]}\n";
    assert!(load(text, &[("WEBHOOK_HOST", "0.0.0.0")]).is_ok());
    assert!(load("coordinator: {listen: \"[::ffff:127.0.0.1]:1\"}\n", &[]).is_ok());
}

#[test]
fn tokens_are_read_from_files_by_the_daemon_that_needs_them() {
    let folder = tempfile::tempdir().unwrap();
    let (good, empty) = (folder.path().join("token"), folder.path().join("empty"));
    std::fs::write(&good, "token-of-alertmanager\n").unwrap();
    std::fs::write(&empty, " \n").unwrap();
    let text = |file: &PathBuf| {
        format!(
            "coordinator: {{tokens: [{{name: am, token_file: \"{}\", scopes: [webhook, read]}}]}}\n",
            file.display()
        )
    };

    let config = load(&text(&good), &[]).unwrap();
    let entry = &config.coordinator.tokens[0];
    assert_eq!(entry.token.as_ref().unwrap().expose(), "token-of-alertmanager");
    assert_eq!(entry.scopes, [Scope::Webhook, Scope::Read]);

    let missing = folder.path().join("missing");
    for file in [&empty, &missing] {
        let message = refused(&text(file), &[]);
        assert!(message.starts_with("`coordinator.tokens[0].token_file`: "), "{message}");
        assert!(load_for(Some(Daemon::Resolution), &text(file), &[]).is_ok());
    }
}

#[test]
fn anchors_need_a_file_and_a_key() {
    insta::assert_snapshot!(refused("coordinator: {audit: {anchor_file: a.jsonl}}", &[]), @"`coordinator.audit.signing_key_file`: is not set, and `coordinator.audit.anchor_file` is; set both or none");
    insta::assert_snapshot!(refused("coordinator: {audit: {signing_key_file: a.key}}", &[]), @"`coordinator.audit.anchor_file`: is not set, and `coordinator.audit.signing_key_file` is; set both or none");
}

#[test]
fn tokens_that_cannot_be_told_apart_or_guessed_too_easily_are_refused() {
    let with = |entries: &str| refused(&format!("coordinator:\n  tokens: [{entries}]\n"), &[]);
    insta::assert_snapshot!(with("{name: a, scopes: [read]}"), @"`coordinator.tokens[0]`: the caller `a` has neither `token` nor `token_file`");
    insta::assert_snapshot!(with("{name: a, token: short, scopes: [read]}"), @"`coordinator.tokens[0].token`: the token of `a` needs at least 8 visible ASCII characters");
    insta::assert_snapshot!(with("{name: a, token: long-enough, scopes: []}"), @"`coordinator.tokens[0].scopes`: is empty; give some of webhook, read, operate, approve, agent");
    insta::assert_snapshot!(with("{name: a, token: long-enough, token_file: x, scopes: [read]}"), @"`coordinator.tokens[0].token_file`: is set together with `coordinator.tokens[0].token`; set one of them");
    let same_token =
        "{name: a, token: long-enough, scopes: [read]}, {name: b, token: long-enough, scopes: [read]}";
    insta::assert_snapshot!(with(same_token), @"`coordinator.tokens[1].token`: `b` has the token of another caller; give it one of its own");
    let same_name =
        "{name: a, token: long-enough-1, scopes: [read]}, {name: a, token: long-enough-2, scopes: [read]}";
    insta::assert_snapshot!(with(same_name), @"`coordinator.tokens[1].name`: `a` is the name of two callers; records could not tell them apart");
}

#[test]
fn ranges_are_checked() {
    insta::assert_snapshot!(refused("coordinator: {workflow: {approval: 0s}}\n", &[]), @"`coordinator.workflow.approval`: 0s is out of range; it takes 10ms to 720h");
    insta::assert_snapshot!(refused("coordinator: {workflow: {confidence_min: 70}}\n", &[]), @"`coordinator.workflow.confidence_min`: 70 is out of range; it takes 0 to 1");
    insta::assert_snapshot!(refused("coordinator: {workflow: {confidence_min: .nan}}\n", &[]), @"`coordinator.workflow.confidence_min`: NaN is out of range; it takes 0 to 1");
    insta::assert_snapshot!(refused("coordinator: {workflow: {attempts_max: 0}}\n", &[]), @"`coordinator.workflow.attempts_max`: 0 is out of range; it takes 1 to 10");
    insta::assert_snapshot!(refused("coordinator: {body_bytes_max: 10}\n", &[]), @"`coordinator.body_bytes_max`: 10 is out of range; it takes 1024 to 1073741824");
    insta::assert_snapshot!(refused("diagnostic: {scrape_interval: 5s, history: 1s}\n", &[]), @"`diagnostic.history`: 1s is out of range; it takes 5s to 720h");
    insta::assert_snapshot!(refused("coordinator: {listen: \"127.0.0.1:50051\"}\n", &[]), @"`coordinator.grpc_listen`: 127.0.0.1:50051 is the address of `coordinator.listen` too; take another port");
    insta::assert_snapshot!(refused("simulator: {metrics_urls: []}\n", &[]), @"`simulator.metrics_urls`: is empty, and nothing else is measured while `use_real_data` is false");
    insta::assert_snapshot!(refused("tenant: \"\"\n", &[]), @"`tenant`: `` is no name; use 1 to 64 letters, digits, `-`, `_`, `.`");
}

#[test]
fn data_folders_follow_the_environment() {
    let folders = |variables: &[(&str, &str)]| {
        let config = load("", variables).unwrap();
        (config.coordinator_data_dir().unwrap().to_owned(), config.resolution_data_dir().unwrap().to_owned())
    };
    let both = |base: &str| (PathBuf::from(base).join("coordinator"), PathBuf::from(base).join("resolution"));
    assert_eq!(folders(&[("HOME", "/home/q")]), both("/home/q/.local/state/quell"));
    assert_eq!(folders(&[("HOME", "/home/q"), ("XDG_STATE_HOME", "/state")]), both("/state/quell"));
    assert_eq!(folders(&[("HOME", "/home/q"), ("QUELL_DATA_DIR", "/data")]), both("/data"));
    let named = load("coordinator: {data_dir: /mine}\n", &[("HOME", "/home/q")]).unwrap();
    assert_eq!(named.coordinator_data_dir().unwrap(), PathBuf::from("/mine"));
    insta::assert_snapshot!(load("", &[]).unwrap().coordinator_data_dir().unwrap_err(), @"`coordinator.data_dir`: is not set, and neither XDG_STATE_HOME nor HOME says where data belongs; set it, or QUELL_DATA_DIR");
}

#[test]
fn files_are_found_and_faults_in_them_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quell.yaml");
    let by_flag = Loading { daemon: None, file: Some(file.clone()), environment: Environment::default() };
    let message = by_flag.load(|_| ()).unwrap_err().to_string();
    assert!(
        message.starts_with(&format!("cannot read the configuration file {}: ", file.display())),
        "{message}"
    );

    std::fs::write(&file, "tenant: acme\n").unwrap();
    assert_eq!(by_flag.load(|_| ()).unwrap().tenant, "acme");
    let environment = Environment::of([("QUELL_CONFIG", file.display().to_string())]);
    let by_variable = Loading { daemon: None, file: None, environment };
    assert_eq!(by_variable.load(|_| ()).unwrap().tenant, "acme");

    std::fs::write(&file, "tenat: acme\n").unwrap();
    let message = by_flag.load(|_| ()).unwrap_err().to_string();
    assert_eq!(message, format!("{}:1:1: unknown key `tenat`; did you mean `tenant`?", file.display()));

    std::fs::write(&file, " ".repeat((1 << 20) + 1)).unwrap();
    assert!(by_flag.load(|_| ()).unwrap_err().to_string().ends_with("it is larger than 1048576 bytes"));
}

#[test]
fn what_has_no_effect_is_said() {
    let text = "use_real_data: true\nagents: {resolution: {execute_real_commands: true}}\n";
    let environment = Environment::of([("QUELL_DRYRUN", "false"), ("QUELL_LOG", "debug")]);
    let loading = Loading { daemon: None, file: None, environment };
    let config = loading.load_text(text, |_| ()).unwrap();
    insta::assert_snapshot!(loading.notices(&config).join("\n"), @r#"
    `agents.resolution.dry_run` is true, so nothing is executed although `agents.resolution.execute_real_commands` is true
    `use_real_data` is true, but `infrastructure.monitoring.prometheus.url` is not set: there are no metrics to look at
    the environment variable QUELL_DRYRUN is not one that Quell knows; it has no effect
    "#);
}

#[test]
fn an_override_of_the_autonomy_names_what_it_is_for() {
    let said =
        refused("coordinator: {autonomy_overrides: [{target: db-1, level: approve}, {level: auto}]}\n", &[]);
    assert!(
        said.contains("coordinator.autonomy_overrides[1]") && said.contains("`coordinator.autonomy`"),
        "{said}"
    );
    let many = vec!["{service: s, level: auto}"; 201].join(", ");
    let said = refused(&format!("coordinator: {{autonomy_overrides: [{many}]}}\n"), &[]);
    assert!(said.contains("more than 200"), "{said}");
}

#[test]
fn each_agent_has_a_credential_of_its_own() {
    let both = "agents: {diagnostic: {token: one-and-the-same}, resolution: {token: one-and-the-same}}\n";
    assert_eq!(
        refused(both, &[]),
        "`agents.resolution.token`: is the token of `agents.diagnostic.token` too; give each agent one of its own"
    );
    assert!(
        refused(
            "",
            &[("QUELL_DIAGNOSTIC_TOKEN", "one-and-the-same"), ("QUELL_RESOLUTION_TOKEN", "one-and-the-same")]
        )
        .starts_with("`agents.resolution.token`")
    );
    let entry = "tokens: [{name: coordinator, token: one-and-the-same, scopes: [agent]}]";
    assert_eq!(
        refused(&format!("diagnostic: {{{entry}}}\nresolution: {{{entry}}}\n"), &[]),
        "`resolution.tokens[0].token`: is a token of `diagnostic.tokens` too; give each agent one of its own"
    );
    let apart =
        load("agents: {diagnostic: {token: the-first-one}, resolution: {token: the-other-one}}\n", &[])
            .unwrap();
    assert_eq!(apart.agents.resolution.token.unwrap().expose(), "the-other-one");
    for key in ["", "00", &"0".repeat(63), &"g".repeat(64)] {
        let text = format!("agents: {{resolution: {{coordinator_public_keys: [\"{key}\"]}}}}\n");
        let why = refused(&text, &[]);
        assert!(why.contains("--print-public-key"), "{why}");
    }
}
