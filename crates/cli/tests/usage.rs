//! Help, wrong usage, a coordinator that is not there, and a reader that goes away.

mod support;

use std::process::{Command, Stdio};

use insta::assert_snapshot;
use support::{Coordinator, World, fixtures, quell};

#[tokio::test]
async fn help() {
    let ran = quell(&["--help"], None).await;
    assert_snapshot!(ran.out, @r##"
    Incidents, approvals, agents and the simulator of Quell

    Usage: quell [OPTIONS] <COMMAND>

    Commands:
      incident     See, open, approve, follow and end incidents [alias: incidents]
      sim          Break the simulated infrastructure; without a subcommand a menu
      agent        The agents that the coordinator works with [alias: agents]
      tool         Look with the diagnostic agent's own tools: metrics, logs, health, platform [alias:
                   tools]
      kill-switch  Stop everything that would be carried out
      selftest     Try on this machine that Quell loses nothing and does nothing twice
      audit        Whether a data folder or a database is what was written, and what is in it
      store        Move a store to another place or backend, record by record
      eval         Measure the diagnosis on recorded failures
      rule         The rules of the diagnosis: see, explain, check and test them [alias: rules]
      backtest     What edited rules would have said of past incidents
      completions  Write the completions of a shell
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --url <URL>             Address of the coordinator [env: QUELL_URL] [default:
                                  http://127.0.0.1:5000]
          --token <TOKEN>         Bearer token for the coordinator, if it asks for one [env:
                                  QUELL_TOKEN]
          --grpc-url <HOST:PORT>  gRPC address of the coordinator, in place of the one that its agent
                                  card names [env: QUELL_GRPC_URL]
      -o, --output <FORMAT>       Tables for people, or JSON as the API gave it [default: table]
                                  [possible values: table, json]

    Examples:
      quell incident list --status active
          What is going on now.
      quell incident show 3f2a9c
          All that is known of one incident: cause, plan, actions, timeline. The start or the end of its
          id is enough.
      quell incident approve 3f2a9c
          See the plan that waits for approval, and approve exactly that plan.
      quell kill-switch on --why "database move"
          Nothing is carried out from now on.
      quell sim
          The menu of the simulated infrastructure: break something, and watch it being repaired.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found or not possible now, 4 tampered with or
    damaged (quell audit verify).
    "##);
}

#[tokio::test]
async fn every_command_helps() {
    let groups = ["incident", "sim", "agent", "kill-switch", "audit", "store", "rule", "completions"];
    for group in groups {
        let ran = quell(&[group, "--help"], None).await;
        assert_eq!(ran.code, 0, "{group}");
        assert!(ran.out.contains("Usage: quell "), "{}", ran.out);
    }
    let ran = quell(&["incident", "approve", "--help"], None).await;
    assert!(ran.out.contains("Examples:\n  quell incident approve 3f2a9c\n"), "{}", ran.out);
}

#[tokio::test]
async fn a_coordinator_that_is_not_there() {
    let ran = quell(&["--url", "http://127.0.0.1:1", "incident", "list"], None).await;
    assert_snapshot!(format!("exit {}\n{}", ran.code, ran.error), @r##"
    exit 1
    error: the coordinator at http://127.0.0.1:1 cannot be reached: Connection refused (os error 111)
      start it with `quell-coordinator`, or name another one with --url or QUELL_URL
    "##);
    let ran = quell(&["--url", "http://127.0.0.1:1", "incident", "create", "--template", "disk"], None).await;
    assert_snapshot!(format!("exit {}\n{}", ran.code, ran.error), @r##"
    exit 1
    error: the coordinator at http://127.0.0.1:1 cannot be reached: Connection refused (os error 111)
      start it with `quell-coordinator`, or name another one with --url or QUELL_URL
      or give its gRPC address with --grpc-url or QUELL_GRPC_URL
    "##);
}

#[tokio::test]
async fn a_grpc_port_that_is_not_there() {
    let coordinator = Coordinator::start(World::default()).await;
    let arguments =
        ["--grpc-url", "127.0.0.1:1", "incident", "create", "--title", "x", "--message-id", "m-1"];
    let ran = coordinator.quell(&arguments).await;
    assert_snapshot!(ran.told(&coordinator), @r##"
    exit 1
    --- out
    --- error
    error: the gRPC port of the coordinator at 127.0.0.1:1 cannot be reached: Connection refused (os error 111)
      that address was given with --grpc-url or QUELL_GRPC_URL; without it the one on its agent card is taken
      whether it was opened is not known; with --message-id m-1 it is not opened twice
    "##);
}

#[tokio::test]
async fn an_address_that_is_none() {
    let ran = quell(&["--url", "coordinator:5000", "incident", "list"], None).await;
    assert_snapshot!(format!("exit {}\n{}", ran.code, ran.error), @r##"
    exit 2
    error: "coordinator:5000" is not an address of the coordinator: it has to begin with http:// or https://
      write it like http://127.0.0.1:5000 in --url or QUELL_URL
    "##);
}

#[tokio::test]
async fn another_server_is_no_coordinator() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let page = axum::Router::new().route("/api/incidents", axum::routing::get(|| async { "<html>" }));
    tokio::spawn(async move { axum::serve(listener, page).await });
    let url = format!("http://{address}");
    let page = quell(&["--url", &url, "incident", "list"], None).await;
    assert_snapshot!(page.error.replace(&url, "[URL]"), @r##"
    error: [URL] does not look like a coordinator: it answered 200 OK, and not with JSON
      start it with `quell-coordinator`, or name another one with --url or QUELL_URL
    "##);
    let missing = quell(&["--url", &url, "agent", "list"], None).await;
    assert_snapshot!(missing.error.replace(&url, "[URL]"), @r##"
    error: [URL] does not look like a coordinator: there is nothing at the address of its API
      start it with `quell-coordinator`, or name another one with --url or QUELL_URL
    "##);
}

#[tokio::test]
async fn wrong_usage_ends_with_two() {
    let cases: [&[&str]; 6] = [
        &["incident", "frobnicate"],
        &["incident", "list", "--status", "broken"],
        &["incident", "create"],
        &["incident", "create", "--template", "flood"],
        &["sim", "trigger", "disk_full", "--duration", "soon"],
        &["incident", "list", "-o", "xml"],
    ];
    for arguments in cases {
        assert_eq!(quell(arguments, None).await.code, 2, "{arguments:?}");
    }
}

#[tokio::test]
async fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = quell(&["completions", shell], None).await;
        assert_eq!(ran.code, 0, "{shell}");
        assert!(ran.out.contains("take-over") && ran.out.contains("kill-switch"), "{shell}");
    }
}

/// A reader such as `head` that goes away is no failure, and nothing panics.
#[tokio::test]
async fn a_closed_pipe_ends_quietly() {
    let many = (0..3000).map(|number| {
        let mut incident = fixtures::memory();
        incident["id"] = format!("01969000-0000-7000-8000-{number:012x}").into();
        incident
    });
    let coordinator = Coordinator::start(World { incidents: many.collect(), ..World::default() }).await;
    for format in ["table", "json"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_quell"))
            .args(["--url", &coordinator.url, "incident", "list", "--limit", "3000", "-o", format])
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Closed before anything is written: more than a pipe holds comes, so the writer notices.
        drop(child.stdout.take());
        let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{format}");
        assert_eq!(output.status.code(), Some(0), "{format}");
    }
}

/// Whoever calls a service by an address with a password in it does not find that on the screen, or in a log of it.
#[tokio::test]
async fn no_address_is_shown_with_what_may_be_a_secret_in_it() {
    const SECRET: &str = "hunter2";
    let at = |scheme: &str, port: u16| format!("{scheme}://quell:{SECRET}@127.0.0.1:{port}/?token={SECRET}");
    let (http, postgres) = (at("http", 1), at("postgres", 1));
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new").display().to_string();
    let commands: [&[&str]; 9] = [
        &["--url", &http, "incident", "list"],
        &["--url", &http, "incident", "create", "--title", "x"],
        &["--url", "hunter2@127.0.0.1", "incident", "list"],
        &["--grpc-url", &http, "incident", "create", "--title", "x"],
        &["--grpc-url", "https://quell:hunter2@127.0.0.1", "incident", "create", "--title", "x"],
        &["sim", "list", "--simulator-url", &http],
        &["tool", "list", "--agent", &http],
        &["audit", "verify", "--database-url", &postgres],
        &["store", "copy", "--from", &postgres, "--to", &new],
    ];
    for command in commands {
        let ran = quell(command, None).await;
        assert!(ran.code == 1 || ran.error.contains("write it like"), "{command:?}: {}", ran.error);
        assert!(!ran.error.is_empty(), "{command:?}");
        assert!(!ran.out.contains(SECRET) && !ran.error.contains(SECRET), "{command:?}: {}", ran.error);
    }
    let variables = [
        ("QUELL_URL", http.as_str()),
        ("QUELL_GRPC_URL", &http),
        ("QUELL_TOKEN", SECRET),
        ("SIMULATOR_URL", &http),
        ("SIMULATOR_TOKEN", SECRET),
        ("QUELL_DIAGNOSTIC_URL", &http),
        ("DATABASE_URL", &postgres),
    ];
    for command in
        [&["--help"][..], &["sim", "--help"], &["tool", "list", "--help"], &["audit", "verify", "--help"]]
    {
        let ran = support::quell_in(&variables, command, None).await;
        assert_eq!(ran.code, 0, "{command:?}");
        assert!(!ran.out.contains(SECRET), "{command:?}: {}", ran.out);
    }
}
