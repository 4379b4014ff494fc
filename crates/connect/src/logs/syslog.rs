//! Syslog: as it is sent, and as daemons keep it in files.

use jiff::Timestamp;

use super::parse::{Parsed, Reader, parsed};
use super::time::leading;
use super::{NAME_CHARACTERS_MAX, cut, level};

impl Reader {
    /// Syslog as it is sent, with its priority: `<11>1 TIME HOST APP PROCESS ID [DATA] MESSAGE`, or the older form after the priority.
    pub(super) fn prioritised(&self, text: &str, service: &str, depth: usize) -> Option<Parsed> {
        let (priority, rest) = text.strip_prefix('<')?.split_once('>')?;
        let priority: u64 = (priority.len() <= 3).then(|| priority.parse().ok()).flatten()?;
        let severity = level::of_syslog(priority);
        if let Some(rest) = rest.strip_prefix("1 ") {
            return self.numbered(rest, severity, service, depth);
        }
        let mut parsed = self.wrapped(rest, service, depth);
        parsed.line.level = severity.to_owned();
        Some(parsed)
    }

    fn numbered(&self, text: &str, severity: &str, service: &str, depth: usize) -> Option<Parsed> {
        let mut parts = text.splitn(6, ' ');
        let (time, host, program) = (parts.next()?, parts.next()?, parts.next()?);
        let (_process, _id, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let at = match time {
            "-" => None,
            time => Some(leading(time, &self.missing)?.0),
        };
        let message = after_data(rest).trim_start_matches('\u{feff}');
        let named =
            |word: &str, otherwise: &str| if word == "-" { otherwise.to_owned() } else { word.to_owned() };
        let inner = self.wrapped(message, "", depth);
        let message = if inner.structured { &inner.line.message } else { message };
        let mut read = parsed(at, Some(severity), &named(program, service), message);
        read.line.instance = cut(&named(host, ""), NAME_CHARACTERS_MAX);
        read.structured = true;
        Some(read)
    }

    /// Syslog as daemons keep it in files: `Nov 30 14:00:00 host program[42]: message`, newer ones with a whole time.
    pub(super) fn of_daemon(&self, text: &str, service: &str, depth: usize) -> Option<Parsed> {
        let (at, rest) = leading(text, &self.missing)?;
        let is_old = text.starts_with(|first: char| first.is_ascii_alphabetic());
        let rest = rest.strip_prefix(' ')?.trim_start();
        let (first, after) = rest.split_once(' ')?;
        if let Some(read) = self.of_heroku(at, first, after, service, depth) {
            return Some(read);
        }
        let (host, tag, message) = match (is_old, program_of(first, is_old)) {
            (true, Some(_)) => ("", first, after),
            _ => {
                let (second, after) = after.trim_start().split_once(' ').unwrap_or((after.trim_start(), ""));
                (first, second, after)
            }
        };
        let is_host = |c: char| c.is_alphanumeric() || "-._:".contains(c);
        (host.chars().all(is_host) && level::of_word(host).is_none()).then_some(())?;
        let program = program_of(tag, is_old)?;
        let inner = self.wrapped(message.trim_start(), "", depth);
        let message = if inner.structured { inner.line.message.as_str() } else { message.trim_start() };
        let level = Some(inner.line.level.as_str()).filter(|level| !level.is_empty());
        let mut read = parsed(Some(at), level, if program.is_empty() { service } else { program }, message);
        read.line.instance = cut(host, NAME_CHARACTERS_MAX);
        read.structured = true;
        Some(read)
    }

    /// `heroku[router]: at=error code=H12 ...` and `app[web.1]: ...`: a source and its process, and no host.
    fn of_heroku(
        &self,
        at: Timestamp,
        tag: &str,
        message: &str,
        service: &str,
        depth: usize,
    ) -> Option<Parsed> {
        let (source, process) = tag.strip_suffix("]:")?.split_once('[')?;
        let is_process = process.starts_with(|c: char| c.is_ascii_alphabetic());
        (matches!(source, "heroku" | "app") && is_process).then_some(())?;
        let inner = self.wrapped(message, "", depth);
        let said = if inner.structured { inner.line.message.as_str() } else { message };
        let mut read = parsed(
            Some(at),
            Some(inner.line.level.as_str()),
            if service.is_empty() { source } else { service },
            said,
        );
        read.line.instance = cut(process, NAME_CHARACTERS_MAX);
        read.structured = true;
        Some(read)
    }
}

/// `checkout[42]:`, `postfix/smtpd[7]:`, and without a process only where nothing else looks like it.
fn program_of(tag: &str, may_lack_process: bool) -> Option<&str> {
    let name = tag.strip_suffix(':')?;
    let is_name = |c: char| c.is_alphanumeric() || "-_./@+()[]#".contains(c);
    (!name.is_empty() && name.chars().all(is_name)).then_some(())?;
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        // The number of the message, as network devices write it.
        return may_lack_process.then_some("");
    }
    match name.split_once('[') {
        Some((program, process)) => process
            .strip_suffix(']')
            .is_some_and(|process| process.bytes().all(|byte| byte.is_ascii_digit()))
            .then_some(program),
        None => (may_lack_process || name == "kernel").then_some(name),
    }
}

/// What follows the structured data of a syslog message.
fn after_data(text: &str) -> &str {
    if let Some(rest) = text.strip_prefix('-') {
        return rest.trim_start();
    }
    let mut rest = text;
    while let Some(inside) = rest.strip_prefix('[') {
        let mut escaped = false;
        let end = inside.char_indices().find(|(_, character)| {
            let ends = *character == ']' && !escaped;
            escaped = *character == '\\' && !escaped;
            ends
        });
        let Some((end, _)) = end else { return text };
        rest = inside.get(end + 1..).unwrap_or_default();
    }
    rest.trim_start()
}
