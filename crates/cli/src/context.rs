//! What every command works with.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use jiff::Timestamp;
use secrecy::ExposeSecret as _;

use crate::args::Global;
use crate::clock::Clock;
use crate::failure::Result;
use crate::output::Output;
use crate::rest::{Rest, Service};

/// An answer typed by a person is not longer than this.
const ANSWER_BYTES_MAX: u64 = 1024;

pub(crate) struct Context<'a> {
    pub(crate) coordinator: Rest,
    pub(crate) global: Global,
    pub(crate) output: &'a mut Output,
    pub(crate) clock: Clock,
    /// Whether a person can be asked.
    pub(crate) terminal: bool,
}

impl<'a> Context<'a> {
    pub(crate) fn new(mut global: Global, output: &'a mut Output) -> Result<Self> {
        // An empty variable is how some environments say that there is none.
        global.token = global.token.filter(|token| !token.expose_secret().is_empty());
        let coordinator = Rest::new(Service::Coordinator, &global.url, global.token.clone())?;
        let clock = global.now.map_or(Clock::System, Clock::Fixed);
        let terminal = global.assume_terminal || std::io::stdin().is_terminal();
        Ok(Self { coordinator, global, output, clock, terminal })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// One line from standard input, empty at its end. Nothing else is under way while a person thinks, so this may block.
    pub(crate) fn read_answer(&self) -> Result<String> {
        let mut answer = String::new();
        std::io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }
}
