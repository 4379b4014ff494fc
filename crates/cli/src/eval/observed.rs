//! From a recorded failure to what the engines look at: windows of time around the alert, and windows in which nothing was wrong.

use std::collections::BTreeMap;

use quell_diagnose::localise::{
    Alerting, Observed, Phase, Quantity, Record, Sample, ServiceSeries, Span, Symptom,
};

use super::suite::{Case, Metrics, Telling};

/// How long the fault is looked at after the alert, in seconds; at least so many steps.
const FAULT_SECONDS: f64 = 240.0;
const FAULT_STEPS: f64 = 2.0;
/// Lines and spans of the last seconds before the alert are taken for neither: the fault may have begun.
const GUARD_SECONDS: f64 = 60.0;
/// Values just before the fault, by which a drift is told from a fault.
const BEFORE: usize = 2;
/// Rows of a window without a fault, and how many windows of one case are looked at.
const CALM_ROWS: usize = 5;
const CALM_WINDOWS_MAX: usize = 24;

/// Which rows are of which window.
struct Windows<'a> {
    normal: (&'a Metrics, Vec<usize>),
    before: Vec<usize>,
    fault: (&'a Metrics, Vec<usize>),
}

impl Case {
    /// What the engines see when the alert comes so many seconds after the fault, or before it.
    pub(crate) fn observed(&self, shift_seconds: f64) -> Observed {
        let alert = self.description.inject_time + shift_seconds;
        let step = self.description.step_s;
        let end = alert + FAULT_SECONDS.max(FAULT_STEPS * step);
        let rows = |wanted: &dyn Fn(f64) -> bool| -> Vec<usize> {
            let times = self.metrics.times.iter().enumerate();
            times.filter(|(_, at)| wanted(**at)).map(|(row, _)| row).collect()
        };
        let earlier = rows(&|at| at <= alert - step);
        let before = earlier.iter().rev().take(BEFORE).rev().copied().collect();
        let fault = rows(&|at| at > alert - step && at <= end);
        let normal = match &self.normal {
            Some(normal) => (&**normal, (0..normal.times.len()).collect()),
            None => (&self.metrics, earlier),
        };
        let mut observed = self.of_windows(&Windows { normal, before, fault: (&self.metrics, fault) });
        if let Some(reference) = &self.reference {
            self.add_telling(&mut observed, reference, 0, |_| Some(Phase::Normal));
        }
        self.add_telling(&mut observed, &self.own, 1, |at| {
            let is_fault = at >= alert && at <= end;
            let is_normal = at < alert - GUARD_SECONDS;
            if is_fault { Some(Phase::Fault) } else { is_normal.then_some(Phase::Normal) }
        });
        observed
    }

    /// Windows cut from what is normal, each with the rest as its normal: nothing was wrong, so that nothing should be said.
    pub(crate) fn calm(&self) -> Vec<Observed> {
        let shared = self.normal.as_deref();
        let metrics = shared.unwrap_or(&self.metrics);
        let end = if shared.is_some() { f64::INFINITY } else { self.description.inject_time };
        let rows: Vec<usize> =
            metrics.times.iter().enumerate().filter(|(_, at)| **at < end).map(|(row, _)| row).collect();
        // Three windows have to be left to know what is normal.
        let possible = (rows.len() / CALM_ROWS).saturating_sub(3);
        let stride = possible.div_ceil(CALM_WINDOWS_MAX).max(1);
        let from = rows.len() - possible * CALM_ROWS;
        let starts = (0..possible).step_by(stride).map(|window| from + window * CALM_ROWS);
        starts.map(|start| self.calm_window(metrics, &rows, start)).collect()
    }

    fn calm_window(&self, metrics: &Metrics, rows: &[usize], start: usize) -> Observed {
        let part = |from: usize, to: usize| rows.get(from..to).unwrap_or_default().to_vec();
        let fault = part(start, start + CALM_ROWS);
        let normal = [part(0, start), part(start + CALM_ROWS, rows.len())].concat();
        let before = part(start.saturating_sub(BEFORE), start);
        let mut observed =
            self.of_windows(&Windows { normal: (metrics, normal), before, fault: (metrics, fault) });
        if let Some(reference) = &self.reference {
            let times =
                reference.logs.iter().map(|row| row.at).chain(reference.spans.iter().map(|row| row.at));
            let mut times: Vec<f64> = times.collect();
            times.sort_by(f64::total_cmp);
            if let Some(middle) = times.get(times.len() / 2).copied() {
                let phase = |at| Some(if at < middle { Phase::Normal } else { Phase::Fault });
                self.add_telling(&mut observed, reference, 0, phase);
            }
        }
        observed
    }

    fn of_windows(&self, windows: &Windows<'_>) -> Observed {
        let mut observed = Observed { step_seconds: self.description.step_s, ..Observed::default() };
        let columns = |metrics: &Metrics| -> BTreeMap<(String, String), usize> {
            metrics.columns.iter().cloned().enumerate().map(|(place, column)| (column, place)).collect()
        };
        let normals = columns(windows.normal.0);
        let (faults, rows) = &windows.fault;
        for ((service, metric), values) in faults.columns.iter().zip(&faults.values) {
            let service = index_of(&mut observed.services, service);
            let at = |row: &usize| values.get(*row).copied().unwrap_or(f64::NAN);
            let fault = rows
                .iter()
                .filter_map(|row| Some(Sample { at: faults.times.get(*row).copied()?, value: at(row) }));
            let fault = fault.filter(|sample| sample.value.is_finite()).collect();
            let name = (observed.services.get(service).cloned().unwrap_or_default(), metric.clone());
            let normal = normals.get(&name).and_then(|place| windows.normal.0.values.get(*place));
            let normal = normal.map_or_else(Vec::new, |values| {
                windows.normal.1.iter().filter_map(|row| values.get(*row)).copied().collect()
            });
            observed.series.push(ServiceSeries {
                service,
                metric: metric.clone(),
                quantity: Quantity::of(metric),
                normal,
                before: windows.before.iter().map(at).collect(),
                fault,
            });
        }
        for (caller, callee) in self.calls.iter() {
            // What is known by its name only can neither be seen to be at fault nor be ruled out.
            let place = |name: &String| observed.services.iter().position(|service| service == name);
            if let (Some(caller), Some(callee)) = (place(caller), place(callee)) {
                observed.calls.push((caller, callee));
            }
        }
        observed.alerting = self.description.target.as_ref().and_then(|target| {
            let service = observed.services.iter().position(|service| *service == target.node)?;
            let symptom = target.metric.as_deref().and_then(symptom);
            Some(Alerting { service, symptom })
        });
        observed
    }

    /// Adds lines and spans; `source` keeps ids of the folders apart.
    fn add_telling(
        &self,
        observed: &mut Observed,
        telling: &Telling,
        source: u64,
        phase: impl Fn(f64) -> Option<Phase>,
    ) {
        let apart = |id: u64| 2 * id + source;
        let mut places: BTreeMap<String, usize> =
            observed.services.iter().cloned().enumerate().map(|(place, name)| (name, place)).collect();
        let mut place = |services: &mut Vec<String>, name: &str| match places.get(name) {
            Some(place) => *place,
            None => {
                services.push(name.to_owned());
                places.insert(name.to_owned(), services.len() - 1);
                services.len() - 1
            }
        };
        for row in &telling.logs {
            let Some(phase) = phase(row.at) else { continue };
            let service = place(&mut observed.services, &row.service);
            let is_error = is_error(&row.message);
            let (trace, message) = (row.trace.map(apart), row.message.clone());
            observed.records.push(Record { service, phase, trace, is_error, message });
        }
        for row in &telling.spans {
            let Some(phase) = phase(row.at) else { continue };
            observed.spans.push(Span {
                service: place(&mut observed.services, &row.service),
                phase,
                trace: apart(row.trace),
                id: apart(row.id),
                parent: row.parent.map(apart),
                operation: row.operation.clone(),
                milliseconds: row.milliseconds,
            });
        }
    }
}

fn index_of(services: &mut Vec<String>, name: &str) -> usize {
    services.iter().position(|service| service == name).unwrap_or_else(|| {
        services.push(name.to_owned());
        services.len() - 1
    })
}

fn symptom(metric: &str) -> Option<Symptom> {
    let metric = metric.to_ascii_lowercase();
    let holds = |parts: &[&str]| parts.iter().any(|part| metric.contains(part));
    if holds(&["latency", "duration"]) {
        Some(Symptom::Latency)
    } else if holds(&["avail", "error", "success"]) {
        Some(Symptom::Errors)
    } else {
        None
    }
}

/// The level stands at the beginning of a message.
fn is_error(message: &str) -> bool {
    let word = message.split(|c: char| !c.is_ascii_alphabetic()).find(|word| !word.is_empty());
    word.is_some_and(|word| {
        ["error", "fatal", "critical", "severe"].iter().any(|level| word.eq_ignore_ascii_case(level))
    })
}
