//! A Python with the official A2A SDK; the tests of `quell-sandbox` use it as well.

use std::path::{Path, PathBuf};
use std::process::Command;

const SDK: &str = "a2a-sdk[grpc]==1.3.0";

/// A Python with the SDK: the one that `QUELL_TEST_PYTHON` names, or one in a folder of its own that is
/// filled once.
fn python() -> Result<PathBuf, String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "which Python to use is a matter of the machine that runs the test"
    )]
    if let Some(named) = std::env::var_os("QUELL_TEST_PYTHON") {
        let named = PathBuf::from(named);
        return run(Command::new(&named).args(["-c", "import a2a, grpc"])).map(|_| named);
    }
    let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let ready = home.join("a2a-sdk-1.3.0");
    let python = |folder: &Path| folder.join("bin").join("python");
    if ready.join("filled").exists() {
        return Ok(python(&ready));
    }
    // A virtual environment knows its own path and cannot be moved. Several test runs at once take turns.
    let lock = std::fs::File::create(home.join("a2a-sdk-1.3.0.lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    if !ready.join("filled").exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&ready))?;
        run(Command::new(python(&ready)).args(["-m", "pip", "install", "--quiet", "--no-input", SDK]))?;
        std::fs::write(ready.join("filled"), SDK).map_err(|error| error.to_string())?;
    }
    Ok(python(&ready))
}

pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// None, and a word on it, where there is no Python.
#[expect(clippy::print_stdout, reason = "a test that is skipped has to say so")]
pub(crate) async fn python_or_word() -> Option<PathBuf> {
    match tokio::task::spawn_blocking(python).await.unwrap() {
        Ok(python) => Some(python),
        Err(reason) => {
            println!("skipped: a2a-sdk peer test: {}", reason.lines().last().unwrap_or_default());
            None
        }
    }
}
