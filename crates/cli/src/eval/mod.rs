//! `quell eval`: how good the diagnosis is, measured on recorded failures that are read from a folder, and what a site's own resolved
//! incidents teach.

mod alerts;
mod calibrate;
mod choose;
mod lines;
mod logs;
mod observed;
mod page;
mod rca;
mod score;
mod site;
mod suite;

use tokio::task::block_in_place;

use crate::args::EvalCommand;
use crate::context::Context;
use crate::failure::Result;

pub(crate) async fn run(context: &mut Context<'_>, command: EvalCommand) -> Result<()> {
    // Nothing else is under way, and nearly all of it reads files and computes.
    match command {
        EvalCommand::Alerts(args) => block_in_place(|| alerts::run(context, &args)),
        EvalCommand::Logs(args) => block_in_place(|| logs::run(context, &args)),
        EvalCommand::Rca(args) => block_in_place(|| rca::run(context, &args)),
        EvalCommand::Calibrate(args) => match &args.predictions {
            Some(predictions) => block_in_place(|| calibrate::run(context, &args, predictions)),
            None => site::run(context, &args).await,
        },
    }
}
