//! The journal against real folders and against a simulated disk that fails, fills up and loses power.
#![cfg(test)]

mod commit;
mod copy;
mod damage;
mod drop;
mod history;
mod recovery;
mod round_trip;
mod support;
