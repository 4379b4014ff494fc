//! Templates of log lines, whatever the lines are and in whatever order they come.

mod world;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use quell_diagnose::template::{Miner, Split, TemplateChange, TemplateClass, changes, template};
use quell_incident::evidence::LogLine;
use world::{at, line};

fn split() -> Split {
    Split { from: at(0), fault_from: at(600), to: at(720) }
}

/// As people see them.
fn told(changes: &[TemplateChange]) -> serde_json::Value {
    serde_json::json!(changes)
}

#[test]
fn an_error_is_not_taken_for_what_is_said_all_day() {
    let mut lines = Vec::new();
    for second in 0..720 {
        lines.push(line(
            second,
            "info",
            "orders",
            "",
            format!("request {second} of cart 5 was handled in time"),
        ));
    }
    for second in 700..703 {
        lines.push(line(
            second,
            "error",
            "orders",
            "",
            format!("request {second} of cart 5 was dropped in time"),
        ));
    }
    let found = changes(&lines, split());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].class, TemplateClass::New);
    assert_eq!(found[0].template, "request <n> of cart <n> was dropped in time");
    assert_eq!((found[0].count, found[0].before), (3, 0));
}

#[test]
fn names_in_a_message_do_not_make_it_new() {
    let names =
        ["anna", "bert", "cleo", "dora", "emil", "fred", "gina", "hugo", "ines", "jana", "kurt", "lena"];
    let mut lines = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let second = index as i64 * 60;
        lines.push(line(second, "error", "login", "", format!("{name} could not be found in the directory")));
    }
    let found = changes(&lines, split());
    assert!(found.is_empty(), "{found:?}");
}

/// Words of letters only, so that nothing of them is masked.
fn word(mut number: u64) -> String {
    let mut word = String::new();
    for _ in 0..6 {
        word.push(char::from(b'a' + (number % 26) as u8));
        number = (number / 26) ^ number.wrapping_mul(0x9e37_79b9);
    }
    word
}

#[test]
fn bad_lines_cost_bounded_time_and_memory() {
    let begun = Instant::now();
    let mut lines = Vec::new();
    for text in ["\u{0}\u{1}\u{2}\u{7}\u{1b}[2J".repeat(50_000), "'".repeat(1_000_000), "=".repeat(1_000_000)]
    {
        for second in 600..620 {
            lines.push(line(second, "error", "orders", "", text.clone()));
        }
    }
    lines.push(line(610, "error", "orders", "", "\u{fffd}\u{fffd}\u{85}".repeat(300_000)));
    lines.push(line(610, "error", "", "", String::new()));
    // Each line a template of its own, and each template beside all others in one leaf.
    for number in 0..10_000_u64 {
        let words: Vec<String> = (0..60).map(|place| word(number * 61 + place)).collect();
        lines.push(line(610, "error", "carts", "", format!("begins alike {}", words.join(" "))));
        lines.push(line(611, "info", &word(number), "", words.join(" ")));
    }
    let found = changes(&lines, split());
    assert!(found.len() <= 2_000, "{}", found.len());
    for change in &found {
        assert!(change.template.chars().count() <= 200);
        assert!(!change.template.contains(char::is_control), "{:?}", change.template);
    }
    assert!(
        found.iter().any(|change| change.template.starts_with("<n>") || change.template.starts_with('['))
    );
    // Far more than it takes in a debug build, and far less than the square of the lines would.
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}

#[test]
fn the_same_lines_give_the_same_templates() {
    let lines: Vec<String> =
        (0..2_000).map(|number| format!("{} is {} of 5", word(number), word(number / 9))).collect();
    let mine = || {
        let mut miner = Miner::default();
        let handles: Vec<_> = lines.iter().map(|line| miner.add(line, true)).collect();
        (handles, miner.finish().texts().to_vec())
    };
    assert_eq!(mine(), mine());
}

fn message() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]{1,2}( [a-c0-9=\"'(),/.:-]{1,4}){0,5}",
        "(took|lost|sent) (a|b|c) [0-9]{1,3} ms",
        ".{0,40}",
        any::<Vec<u8>>().prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ]
}

fn log_line() -> impl Strategy<Value = LogLine> {
    (0_i64..800, prop_oneof!["info", "Error"], "[ab]?", "[xy]?", message())
        .prop_map(|(second, level, service, instance, text)| line(second, &level, &service, &instance, text))
}

proptest! {
    #[test]
    fn the_order_of_lines_decides_nothing(
        (lines, shuffled) in proptest::collection::vec(log_line(), 0..80)
            .prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle()))
    ) {
        prop_assert_eq!(told(&changes(&lines, split())), told(&changes(&shuffled, split())));
    }

    #[test]
    fn every_line_is_counted_once(lines in proptest::collection::vec(message(), 0..60)) {
        let mut miner = Miner::default();
        let handles: Vec<_> = lines.iter().map(|line| miner.add(line, true)).collect();
        let mined = miner.finish();
        for (handle, line) in handles.into_iter().zip(&lines) {
            let group = handle.and_then(|handle| mined.group(handle));
            prop_assert!(group.is_some_and(|group| group < mined.texts().len()), "{}", line);
        }
        prop_assert!(mined.texts().iter().all(|text| !text.contains(char::is_control)));
    }

    #[test]
    fn equal_lines_have_one_masked_form(text in message()) {
        let masked = template(&text);
        prop_assert!(masked.chars().count() <= 200);
        prop_assert!(!masked.contains(char::is_control));
        prop_assert!(!masked.contains(|character: char| character.is_ascii_digit()));
    }
}
