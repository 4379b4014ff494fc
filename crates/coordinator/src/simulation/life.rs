//! One life of a coordinator's process: it runs, it may stand still for a while, and it ends at any of its awaits.

use std::sync::Arc;

use super::told::Told;
use super::world::World;

/// What a process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// As by SIGSTOP: it goes on later and does not know that time has passed.
    Stopped,
    /// As by SIGKILL: nothing of it happens any more.
    Dead,
}

/// One life. Everything that a coordinator does to the world outside passes a [`Life::point`], so whatever its tasks still do in
/// memory after the end has no effect.
pub(super) struct Life {
    pub(super) number: u64,
    world: Arc<World>,
    state: Told<State>,
}

impl Life {
    pub(super) fn begin(number: u64, world: Arc<World>) -> Arc<Self> {
        Arc::new(Self { number, world, state: Told::of(State::Running) })
    }

    /// Waits until it is dead.
    pub(super) async fn died(&self) {
        self.state.wait_for(|state| *state == State::Dead).await;
    }

    /// An instant between two awaits: time passes, the process may be stopped or killed here. What follows without an await happens
    /// at once with the return of this.
    pub(super) async fn point(self: &Arc<Self>, what: &str) {
        self.world.linger().await;
        if self.state.get() == State::Running {
            match self.world.fate() {
                Fate::GoesOn => {}
                Fate::Dies => {
                    self.world.note(|| format!("life {} dies at {what}", self.number));
                    self.state.set(State::Dead);
                }
                Fate::StandsStill(span) => {
                    self.world.note(|| format!("life {} stands still at {what} for {span:?}", self.number));
                    self.state.set(State::Stopped);
                    let life = Arc::clone(self);
                    tokio::spawn(async move {
                        tokio::time::sleep(span).await;
                        if life.state.get() == State::Stopped {
                            life.state.set(State::Running);
                        }
                    });
                }
            }
        }
        if self.state.wait_for(|state| *state != State::Stopped).await == State::Dead {
            std::future::pending::<()>().await;
        }
    }
}

/// What becomes of a process at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    GoesOn,
    Dies,
    StandsStill(std::time::Duration),
}
