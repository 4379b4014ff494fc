//! `quell rule`: the rules of the diagnosis, explained, checked and tried without any daemon.

mod explain;
mod files;

use std::path::PathBuf;

use quell_diagnose::{RuleSet, RuleTestResult, RuleTests, check_files};
use serde_json::json;

use crate::args::{Files, RuleCommand};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Line, Look, Page, Stream, Table, shorten};

/// A list of actions in a table at the most, in characters.
const ACTIONS_CHARACTERS_MAX: usize = 40;

/// The shipped rules, and those of these files over them.
pub(crate) fn with_site_rules(files: &[PathBuf]) -> Result<RuleSet> {
    files::rules(&files::read(files)?.0)
}

pub(crate) fn run(context: &mut Context<'_>, command: RuleCommand) -> Result<()> {
    // Nothing else is under way.
    tokio::task::block_in_place(|| match command {
        RuleCommand::List { files } => list(context, &files),
        RuleCommand::Explain(args) => explain::run(context, &args),
        RuleCommand::Check(files) => check(context, &files),
        RuleCommand::Test { files, rule } => test(context, &files, rule.as_deref()),
    })
}

fn list(context: &mut Context<'_>, files: &[PathBuf]) -> Result<()> {
    let (rules, _) = files::read(files)?;
    let all = files::rules(&rules)?.list();
    if context.output.is_json() {
        return Ok(context.output.json(&json!(all))?);
    }
    let mut table = Table::new(&["RULE", "CAUSE", "BASE", "EVIDENCE", "ACTIONS", "FILE"]);
    for one in all {
        let actions = shorten(&one.recommended_actions.join(", "), ACTIONS_CHARACTERS_MAX);
        let base = format!("{:.2}", one.base_confidence);
        table.row(Look::Plain, vec![one.name, one.cause, base, one.groups.join(", "), actions, one.file]);
    }
    Ok(context.output.page(Stream::Out, &table.page())?)
}

fn check(context: &mut Context<'_>, args: &Files) -> Result<()> {
    let (rules, tests) = files::read(&args.files)?;
    let sources: Vec<_> = rules.iter().chain(&tests).cloned().collect();
    let mut mistakes = check_files(&sources);
    if args.shipped || sources.is_empty() {
        mistakes.extend(RuleTests::shipped().err().map(|found| found.0).unwrap_or_default());
    }
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    if context.output.is_json() {
        context.output.json(&json!({"files": names, "mistakes": mistakes}))?;
    } else {
        let mut page = Page::default();
        mistakes.iter().for_each(|mistake| page.line(mistake.to_string()));
        if mistakes.is_empty() {
            let what =
                if names.is_empty() { "the shipped rules and tests".to_owned() } else { names.join(", ") };
            page.line(format!("no mistake in {what}"));
        }
        context.output.page(Stream::Out, &page)?;
    }
    match mistakes.len() {
        0 => Ok(()),
        1 => Err(Failure::failed("1 mistake")),
        count => Err(Failure::failed(format!("{count} mistakes"))),
    }
}

fn test(context: &mut Context<'_>, args: &Files, only: Option<&str>) -> Result<()> {
    let (site, tests) = files::read(&args.files)?;
    let rules = files::rules(&site)?;
    let mut suites = vec![RuleTests::load(&tests).map_err(|mistakes| files::refused(&mistakes))?];
    if args.shipped || args.files.is_empty() {
        suites.push(RuleTests::shipped().map_err(|mistakes| files::refused(&mistakes))?);
    }
    let results: Vec<RuleTestResult> = suites.iter().flat_map(|suite| suite.run(&rules, only)).collect();
    if results.is_empty() {
        let what = only.map_or_else(
            || "there is no case in the files".to_owned(),
            |rule| format!("there is no case for {rule}"),
        );
        return Err(Failure::not_possible(what).next("name a file of the schema quell/rule-tests/v1"));
    }
    // Rules of the site's own that nothing tries.
    let of_site = |name: &str| {
        rules
            .list()
            .iter()
            .any(|rule| rule.name == name && site.iter().any(|source| source.name == rule.file))
    };
    let untested: Vec<(String, &str)> = suites
        .first()
        .map(|suite| suite.untested(&rules).into_iter().filter(|(name, _)| of_site(name)).collect())
        .unwrap_or_default();
    let failed = results.iter().filter(|one| !one.passed()).count();
    if context.output.is_json() {
        let document = json!({
            "cases": results.len(),
            "failed": failed,
            "results": results,
            "untested": untested.iter().map(|(rule, why)| json!({"rule": rule, "why": why})).collect::<Vec<_>>(),
        });
        context.output.json(&document)?;
    } else {
        context.output.page(Stream::Out, &page(&results, failed))?;
    }
    for (rule, why) in &untested {
        context.output.note(format!("{rule} has {why}"))?;
    }
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::failed(format!("{failed} of {} cases failed", results.len())))
    }
}

fn page(results: &[RuleTestResult], failed: usize) -> Page {
    let mut page = Page::default();
    for one in results {
        let (look, word) = if one.passed() { (Look::Good, "ok    ") } else { (Look::Bad, "FAILED") };
        let line = Line::new().with(look, word).plain(format!(" {:.2}  ", one.confidence)).bold(&one.rule);
        page.line(line.plain(format!(": {}", one.name)));
        for failure in &one.failures {
            page.line(format!("        {}:{}: {failure}", one.file, one.line));
        }
    }
    if failed == 0 {
        page.line(format!("{} cases passed", results.len()));
    }
    page
}
