//! What was measured, for people.

use std::collections::BTreeMap;
use std::path::Path;

use quell_diagnose::localise::Calibration;

use super::calibrate::Compared;
use super::rca::Measured;
use super::score::{Score, Share};
use crate::args::RcaArgs;
use crate::output::{Line, Look, Page, Table};

fn share(share: Option<Share>) -> String {
    share.map_or_else(
        || "-".to_owned(),
        |share| format!("{:.3} ({:.2}-{:.2})", share.share, share.low, share.high),
    )
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

pub(super) fn suites(measured: &[Measured], args: &RcaArgs) -> Page {
    let mut page = Page::default();
    for one in measured {
        suite(&mut page, one);
    }
    page.line("");
    page.line(format!("predictions are in {}", args.out.display()));
    page
}

fn append(page: &mut Page, table: &Table) {
    page.0.extend(table.page().0);
}

fn suite(page: &mut Page, one: &Measured) {
    let cases = one.score.as_ref().map(|score| score.cases);
    let cases = cases.map_or_else(String::new, |cases| format!(" {cases} cases"));
    page.heading(Line::new().bold(&one.suite).plain(cases));
    if let Some(score) = &one.score {
        let mut table = Table::new(&["", "AC@1", "AC@3", "AC@5", "AVG@5", "MRR", "BRIER", "AUROC", "ECE"]);
        table.row(Look::Plain, hits("as it was", score, true));
        for moved in &one.moved {
            table.row(Look::Plain, hits(&format!("{:+.0} s", moved.seconds), &moved.score, true));
        }
        if let Some(baseline) = &one.baseline {
            table.row(Look::Dim, hits("RobustScorer", baseline, false));
        }
        append(page, &table);
        page.line(format!("chance: AC@1 {:.3}", score.chance));
        page.line(format!("answers with a confidence under a half: {}", share(score.abstained)));
        let mut table = Table::new(&["CONFIDENCE", "CASES", "SAID", "RIGHT"]);
        for bin in &score.reliability {
            let said = if bin.count > 0 { format!("{:.2}", bin.said) } else { "-".to_owned() };
            let range = format!("{:.1}-{:.1}", bin.from, bin.to);
            table.row(Look::Plain, vec![range, bin.count.to_string(), said, share(bin.right)]);
        }
        append(page, &table);
    }
    if one.calm.windows > 0 {
        page.line(format!(
            "windows without a fault: {}, without a confident answer {}",
            one.calm.windows,
            share(one.calm.specificity)
        ));
    }
    if let Some(compared) = one.calibrated_on_others {
        page.line(format!(
            "with the confidence calibrated on all other suites: Brier {}, before {:.3}; without a confident answer {}",
            number(compared.after),
            compared.before,
            share(compared.specificity)
        ));
    }
    if let Some(chosen) = &one.chosen_on_others {
        let moved = chosen.moved.iter().map(|(name, value)| format!("{name} {value:.2}"));
        let moved = moved.collect::<Vec<_>>().join(", ");
        page.line(format!(
            "with the thresholds chosen on all other suites ({}): AC@1 {}, AC@3 {}, Brier {:.3}, without a confident answer {}",
            if moved.is_empty() { "the shipped ones" } else { &moved },
            share(chosen.score.ac1),
            share(chosen.score.ac3),
            chosen.score.brier,
            share(chosen.specificity)
        ));
    }
    page.line(format!(
        "{:.1} ms for a case, {:.1} ms at the most",
        one.milliseconds.mean, one.milliseconds.most
    ));
}

fn hits(name: &str, score: &Score, has_confidence: bool) -> Vec<String> {
    let sure = |text: String| if has_confidence { text } else { "-".to_owned() };
    vec![
        name.to_owned(),
        share(score.ac1),
        share(score.ac3),
        share(score.ac5),
        format!("{:.3}", score.avg5),
        format!("{:.3}", score.mrr),
        sure(format!("{:.3}", score.brier)),
        sure(number(score.auroc)),
        sure(format!("{:.3}", score.ece)),
    ]
}

pub(super) fn calibration(
    model: &Calibration,
    validated: Compared,
    suites: &BTreeMap<String, Compared>,
    out: &Path,
) -> Page {
    let mut page = Page::default();
    page.line(format!("fitted to {} outcomes", model.outcomes));
    let mut table = Table::new(&["HELD OUT", "OUTCOMES", "BRIER BEFORE", "AFTER"]);
    let mut row = |name: &str, compared: &Compared| {
        let cells =
            [compared.outcomes.to_string(), format!("{:.3}", compared.before), number(compared.after)];
        table.row(Look::Plain, std::iter::once(name.to_owned()).chain(cells).collect());
    };
    row("each fifth", &validated);
    for (suite, compared) in suites {
        row(suite, compared);
    }
    append(&mut page, &table);
    page.line(format!("the model is in {}", out.display()));
    page
}
