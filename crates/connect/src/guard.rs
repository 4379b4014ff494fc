//! What stands between a question and a source: a time for each attempt, a few attempts, and a breaker.
//!
//! **Flow.** An attempt that fails for a reason that may pass is made again after a growing, jittered pause, as long as the caller's
//! deadline allows. After some failures in a row the breaker opens: the source is not asked, and every question is answered at once by
//! [`SourceError::Open`], which says since when and until when. Then one question is let through; its outcome closes the breaker or
//! opens it again.
//!
//! **Guarantees.** Only one question at a time probes an open source. An answer that blames the question (a 400, a body that is too large)
//! is an answer: it neither counts as a failure nor is it asked again. **Assumptions.** What is asked can be asked twice.
//!
//! The breaker is a module of its own since the crates for it count errors over a window or wrap a whole service of `tower`; what is
//! needed here is a counter, two instants and a sentence for people.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use quell_tool::CallContext;
use tokio::time::Instant;

use crate::source::SourceError;

/// How a source is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardOptions {
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How often a failed attempt is made again.
    pub retries_max: usize,
    /// The first pause before that; it doubles, and up to as much again is added to each by chance.
    pub pause: Duration,
    /// After how many failed attempts in a row the source is not asked any more for a while; zero: it is always asked.
    pub failures_max: u32,
    /// How long it is not asked then.
    pub open_for: Duration,
}

impl Default for GuardOptions {
    /// 10 s an attempt, two more of them, from 100 ms on; five failures, 15 s.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            retries_max: 2,
            pause: Duration::from_millis(100),
            failures_max: 5,
            open_for: Duration::from_secs(15),
        }
    }
}

impl GuardOptions {
    /// One attempt within the caller's time, without a breaker.
    pub fn once() -> Self {
        Self { timeout: Duration::MAX, retries_max: 0, failures_max: 0, ..Self::default() }
    }
}

/// The guard of one source; copies share its breaker.
#[derive(Clone, Debug)]
pub struct Guard {
    name: Arc<str>,
    options: GuardOptions,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    until: Instant,
    probing: bool,
    why: String,
}

/// An attempt under way. One that is dropped without an outcome was given up by its caller.
struct Attempt<'a> {
    guard: &'a Guard,
    probe: bool,
    settled: bool,
}

impl Guard {
    /// A guard that calls the source by this name.
    pub fn new(name: &str, options: GuardOptions) -> Self {
        Self { name: name.into(), options, state: Arc::default() }
    }

    /// Asks, perhaps several times.
    ///
    /// # Errors
    /// That of the last attempt, or [`SourceError::Open`].
    pub async fn run<T, F>(
        &self,
        context: &CallContext,
        mut ask: impl FnMut() -> F + Send,
    ) -> Result<T, SourceError>
    where
        F: Future<Output = Result<T, SourceError>> + Send,
    {
        let backoff = ExponentialBuilder::default().with_min_delay(self.options.pause).with_jitter();
        let mut pauses = backoff.with_max_times(self.options.retries_max).build();
        loop {
            let attempt = self.enter()?;
            let within = context.remaining().min(self.options.timeout);
            let answer = tokio::time::timeout(within, ask()).await.unwrap_or(Err(SourceError::TimedOut));
            let Err(error) = answer else {
                attempt.succeeded();
                return answer;
            };
            match error.is_fault() {
                true => attempt.failed(&error),
                false => attempt.succeeded(),
            }
            match pauses.next() {
                Some(pause) if error.may_pass() && pause < context.remaining() => {
                    tokio::time::sleep(pause).await;
                }
                _ => return Err(error),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is a few assignments, so nothing is half done behind a poisoned lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> Result<Attempt<'_>, SourceError> {
        let now = Instant::now();
        let mut state = self.state();
        let probe = match &mut state.open {
            None => false,
            Some(open) if now < open.until || open.probing => {
                return Err(SourceError::Open {
                    what: self.name.to_string(),
                    seconds: now.saturating_duration_since(open.since).as_secs(),
                    // Rounded up: "in 0 seconds" would be now.
                    again_in_seconds: open.until.saturating_duration_since(now).as_secs() + 1,
                    why: open.why.clone(),
                });
            }
            Some(open) => {
                open.probing = true;
                true
            }
        };
        Ok(Attempt { guard: self, probe, settled: false })
    }
}

impl Attempt<'_> {
    fn succeeded(mut self) {
        self.settled = true;
        let mut state = self.guard.state();
        state.failures = 0;
        if state.open.take().is_some() {
            tracing::info!(source = &*self.guard.name, "the source answers again");
        }
    }

    fn failed(mut self, error: &SourceError) {
        self.settled = true;
        self.note(error.to_string());
    }

    fn note(&self, why: String) {
        let (options, now) = (&self.guard.options, Instant::now());
        let mut state = self.guard.state();
        let failures = state.failures.saturating_add(1);
        state.failures = failures;
        match &mut state.open {
            // Of attempts that began before it opened, nothing new is learned.
            Some(open) if self.probe => {
                (open.until, open.probing, open.why) = (now + options.open_for, false, why);
            }
            Some(_) => {}
            None if options.failures_max > 0 && failures >= options.failures_max => {
                tracing::warn!(
                    source = &*self.guard.name,
                    failures,
                    why,
                    "the source is not asked for a while"
                );
                let until = now + options.open_for;
                state.open = Some(Open { since: now, until, probing: false, why });
            }
            None => {}
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        // Otherwise a probe that its caller gave up would keep the source closed for ever.
        if self.probe && !self.settled {
            self.note("the last attempt was given up before it was answered".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn context() -> CallContext {
        CallContext::within(Duration::from_secs(60))
    }

    fn refused() -> SourceError {
        SourceError::Unreachable { what: "logs:9200".to_owned(), why: "connection refused".to_owned() }
    }

    /// Asks with these outcomes one after the other, and counts the attempts.
    async fn asked(guard: &Guard, outcomes: &[Result<u8, SourceError>]) -> (Result<u8, SourceError>, usize) {
        let attempts = AtomicUsize::new(0);
        let context = context();
        let answer = guard.run(&context, || {
            let attempt = attempts.fetch_add(1, Ordering::Relaxed);
            let outcome = outcomes.get(attempt).or(outcomes.last()).cloned();
            async move { outcome.unwrap_or(Ok(0)) }
        });
        let answer = answer.await;
        (answer, attempts.into_inner())
    }

    fn busy() -> SourceError {
        SourceError::Answered { status: 503, body: "busy".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_asked_again_and_nothing_else() {
        let guard = Guard::new("logs", GuardOptions::default());
        assert_eq!(asked(&guard, &[Err(refused()), Err(busy()), Ok(7)]).await, (Ok(7), 3));
        assert_eq!(asked(&guard, &[Err(refused())]).await, (Err(refused()), 3));
        for error in [
            SourceError::Answered { status: 400, body: "no".to_owned() },
            SourceError::TooLarge { bytes_max: 1 },
            SourceError::Malformed { why: "no".to_owned() },
            SourceError::TimedOut,
        ] {
            assert_eq!(asked(&guard, &[Err(error.clone())]).await, (Err(error), 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_end_with_the_callers_time() {
        let guard =
            Guard::new("logs", GuardOptions { pause: Duration::from_secs(90), ..GuardOptions::default() });
        let began = Instant::now();
        assert_eq!(asked(&guard, &[Err(refused())]).await, (Err(refused()), 1));
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_has_its_own_time() {
        let guard = Guard::new("logs", GuardOptions::default());
        let began = Instant::now();
        let answer: Result<u8, _> = guard.run(&context(), std::future::pending).await;
        assert_eq!(answer, Err(SourceError::TimedOut));
        assert_eq!(began.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_lets_one_through_later() {
        let options = GuardOptions { retries_max: 0, failures_max: 3, ..GuardOptions::default() };
        let guard = Guard::new("logs", options);
        for outcome in [Err(refused()), Err(refused()), Ok(1), Err(refused()), Err(refused()), Err(refused())]
        {
            assert_eq!(asked(&guard, &[outcome]).await.1, 1);
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        let (answer, attempts) = asked(&guard, &[Ok(1)]).await;
        assert_eq!(attempts, 0);
        let said = answer.unwrap_err().to_string();
        assert_eq!(
            said,
            "logs is not asked since 5 s, and tried again in 11 s, because it failed repeatedly; the last time: cannot reach logs:9200: connection refused"
        );
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(asked(&guard, &[Err(refused())]).await.1, 1, "one is let through");
        assert_eq!(asked(&guard, &[Ok(1)]).await.1, 0, "and it opened again");
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(asked(&guard, &[Ok(1)]).await, (Ok(1), 1));
        assert_eq!(asked(&guard, &[Ok(2)]).await, (Ok(2), 1), "closed");
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_probes_and_one_that_is_given_up_blocks_nobody() {
        let options = GuardOptions { retries_max: 0, failures_max: 1, ..GuardOptions::default() };
        let guard = Guard::new("logs", options);
        assert!(asked(&guard, &[Err(refused())]).await.0.is_err());
        tokio::time::advance(Duration::from_secs(15)).await;
        let probing = guard.clone();
        let probe = tokio::spawn(async move {
            let never: Result<u8, _> = probing.run(&context(), std::future::pending).await;
            never
        });
        while !guard.state().open.as_ref().is_some_and(|open| open.probing) {
            tokio::task::yield_now().await;
        }
        assert_eq!(asked(&guard, &[Ok(1)]).await.1, 0, "another one probes");
        probe.abort();
        assert!(probe.await.is_err());
        assert_eq!(asked(&guard, &[Ok(1)]).await.1, 0, "as if it had failed");
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(asked(&guard, &[Ok(1)]).await, (Ok(1), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_question_says_nothing_against_the_source() {
        let options = GuardOptions { failures_max: 1, ..GuardOptions::default() };
        let guard = Guard::new("logs", options);
        let wrong = SourceError::Answered { status: 400, body: "no".to_owned() };
        for _ in 0..5 {
            assert_eq!(asked(&guard, &[Err(wrong.clone())]).await.1, 1);
        }
        let always = Guard::new("logs", GuardOptions::once());
        for _ in 0..20 {
            assert_eq!(asked(&always, &[Err(refused())]).await.1, 1);
        }
    }
}
