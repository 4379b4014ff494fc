//! What every backend must do.

mod appends;
mod change_records;
mod documents;
pub(crate) mod leases;
mod lists;
pub(crate) mod retention;
mod streams;

use std::sync::Arc;

use quell_store::IncidentStore;

/// A store that nobody has used, with the folder that it lives in.
pub(crate) struct Fresh<S: ?Sized> {
    pub(crate) store: Arc<S>,
    pub(crate) _keep: Option<tempfile::TempDir>,
}

/// Runs every case, each on a fresh store.
pub(crate) async fn run<S: IncidentStore + ?Sized + 'static>(fresh: impl AsyncFn() -> Fresh<S>) {
    case("compare and swap", &fresh, appends::compare_and_swap).await;
    case("illegal events change nothing", &fresh, appends::illegal_events_change_nothing).await;
    case("unsound appends are refused", &fresh, appends::unsound_appends_are_refused).await;
    case("claims are all or nothing", &fresh, appends::claims_are_all_or_nothing).await;
    case("claims follow from events", &fresh, appends::claims_follow_from_events).await;
    case("two appends race for one lock", &fresh, appends::two_appends_race_for_one_lock).await;
    case("a message is taken once", &fresh, appends::a_message_is_taken_once).await;
    case("a message is raced for", &fresh, appends::a_message_is_raced_for).await;
    case("changes are told after the commit", &fresh, appends::changes_are_told_after_the_commit).await;
    case("finished incidents can be read and noted on", &fresh, appends::finished_incidents_live_on).await;
    case("an unknown incident is nobody", &fresh, appends::an_unknown_incident_is_nobody).await;
    case("lists", &fresh, lists::a_thousand_incidents).await;
    case("an empty list", &fresh, lists::an_empty_list).await;
    case("rows are cut", &fresh, lists::rows_are_cut).await;
    case("unfinished", &fresh, lists::unfinished_are_neither_closed_nor_merged).await;
    case("the newest incident of an alert", &fresh, lists::the_newest_incident_of_an_alert).await;
    case("received alerts", &fresh, streams::received_alerts_are_read_in_order).await;
    case("received concurrently", &fresh, streams::received_concurrently).await;
    case("the correlated mark", &fresh, streams::the_correlated_mark_is_monotonic).await;
    case("the kill switch", &fresh, streams::the_kill_switch).await;
    case("a lease is claimed and given back", &fresh, leases::one_coordinator).await;
    case("unfinished incidents are claimed in their order", &fresh, leases::unfinished_in_their_order).await;
    case("nothing is claimed by the dead", &fresh, leases::nothing_is_claimed_by_the_dead).await;
    case("appends are fenced", &fresh, leases::appends_are_fenced).await;
    case("the correlated mark is fenced", &fresh, leases::the_correlated_mark_is_fenced).await;
    case("cool-downs", &fresh, streams::cool_downs).await;
    case("documents", &fresh, documents::a_document_is_kept_as_it_was).await;
    case("what is no document", &fresh, documents::what_cannot_be_a_document_is_refused).await;
    case("documents go", &fresh, documents::documents_go_with_their_incident).await;
    case("change records", &fresh, change_records::told_once_and_found_by_their_instants).await;
    case("what is over goes", &fresh, retention::what_is_over_goes_and_what_is_open_stays).await;
    let goes = retention::received_alerts_go_only_when_they_are_correlated_and_old;
    case("received alerts go", &fresh, goes).await;
    case("what still counts is kept", &fresh, retention::cool_downs_and_switches_outlive_what_set_them).await;
    let kept = retention::a_finished_incident_that_was_noted_on_is_kept_from_then_on;
    case("a finished incident is kept from its last event on", &fresh, kept).await;
    case("an alert of a newer incident", &fresh, retention::an_alert_of_a_newer_incident_stays_with_it).await;
}

async fn case<S: IncidentStore + ?Sized, F: Future<Output = ()>>(
    name: &str,
    fresh: &impl AsyncFn() -> Fresh<S>,
    case: impl Fn(Arc<S>) -> F,
) {
    // Shown by the runner when the case fails.
    println!("case: {name}");
    let Fresh { store, _keep } = fresh().await;
    store.health().await.unwrap();
    Box::pin(case(Arc::clone(&store))).await;
    store.health().await.unwrap();
}
