//! The journal against real folders and against a simulated disk that fails, fills up and loses power.
#![cfg(test)]

mod commit;
mod damage;
mod history;
mod recovery;
mod round_trip;
mod support;
