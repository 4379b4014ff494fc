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

use crate::args::EvalCommand;
use crate::context::Context;
use crate::failure::Result;

pub(crate) async fn run(context: &mut Context<'_>, command: EvalCommand) -> Result<()> {
    if let EvalCommand::Calibrate(args) = &command
        && args.predictions.is_none()
    {
        return site::run(context, args).await;
    }
    // Nothing else is under way, and all of it reads files and computes.
    tokio::task::block_in_place(|| match command {
        EvalCommand::Alerts(args) => alerts::run(context, &args),
        EvalCommand::Logs(args) => logs::run(context, &args),
        EvalCommand::Rca(args) => rca::run(context, &args),
        EvalCommand::Calibrate(args) => calibrate::run(context, &args),
    })
}
