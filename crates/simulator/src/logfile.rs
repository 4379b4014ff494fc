//! The log lines of the world in a file, one JSON object per line.

use std::path::{Path, PathBuf};

use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

use crate::world::LogLine;

/// A file that has grown past this is renamed to `<name>.1` and begun anew.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    failing: bool,
}

impl LogFile {
    pub(crate) async fn open(path: &Path) -> std::io::Result<LogFile> {
        let file = OpenOptions::new().create(true).append(true).open(path).await?;
        let bytes = file.metadata().await?.len();
        Ok(LogFile { path: path.to_owned(), file, bytes, failing: false })
    }

    /// Appends lines. A failure is reported once until it works again: the world goes on without its file.
    pub(crate) async fn append(&mut self, lines: &[LogLine]) {
        if lines.is_empty() {
            return;
        }
        let mut text = Vec::new();
        for line in lines {
            match serde_json::to_writer(&mut text, line) {
                Ok(()) => text.push(b'\n'),
                Err(error) => tracing::warn!(%error, "log line cannot be written as json"),
            }
        }
        match self.write(&text).await {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(%error, path = %self.path.display(), "log file cannot be written");
            }
            Err(_) => {}
        }
    }

    async fn write(&mut self, text: &[u8]) -> std::io::Result<()> {
        if self.bytes >= FILE_BYTES_MAX {
            let mut older = self.path.as_os_str().to_owned();
            older.push(".1");
            tokio::fs::rename(&self.path, &older).await?;
            *self = LogFile::open(&self.path).await?;
        }
        self.file.write_all(text).await?;
        self.file.flush().await?;
        self.bytes += text.len() as u64;
        Ok(())
    }
}
