//! Interleaved rounds of several ways to do the same, so that noise affects all of them.

use std::time::Duration;

use crate::proxies::{Route, processor_time, ticks_per_second};
use crate::report::{Aim, Report, Samples, Unit};

/// One round: the work done, its duration, and the proxy's processor time.
pub(crate) struct Round {
    done: f64,
    elapsed: Duration,
    processor: Duration,
}

impl Round {
    /// The proxy's processor time for each piece of the work.
    pub(crate) fn microseconds_each(&self) -> f64 {
        self.processor.as_secs_f64() * 1e6 / self.done
    }
}

/// The rounds of each way; the first one only warms up.
pub(crate) fn interleaved(
    routes: &[Route],
    rounds: usize,
    mut measure: impl FnMut(&Route) -> (f64, Duration),
) -> Vec<Vec<Round>> {
    let ticks = ticks_per_second();
    let processor = |route: &Route| {
        route
            .pid
            .map_or(Duration::ZERO, |pid| processor_time(pid, ticks))
    };
    let mut measured: Vec<Vec<Round>> = routes.iter().map(|_| Vec::new()).collect();
    for number in 0..=rounds {
        for (route, rounds) in routes.iter().zip(&mut measured) {
            let before = processor(route);
            let (done, elapsed) = measure(route);
            let processor = processor(route).saturating_sub(before);
            if number > 0 {
                rounds.push(Round {
                    done,
                    elapsed,
                    processor,
                });
            }
        }
    }
    measured
}

/// Adds the rate and the processor time of each way; the first one is direct.
pub(crate) fn tell(
    section: &str,
    unit: Unit,
    rounds: &[Vec<Round>],
    routes: &[Route],
    report: &mut Report,
) {
    let rates: Vec<Samples> = rounds
        .iter()
        .map(|rounds| {
            let rate = |round: &Round| round.done / round.elapsed.as_secs_f64();
            Samples::new(rounds.iter().map(rate).collect())
        })
        .collect();
    let direct = rates[0].median();
    for (route, rate) in routes.iter().zip(rates) {
        let ratio = rate.median() / direct;
        report.add(section, route.name, unit, rate);
        let aim = match (unit, route.name) {
            (Unit::MegabytesPerSecond, "multidb") => Aim::AtLeast(0.95),
            _ => Aim::None,
        };
        if route.pid.is_some() {
            report.ratio("of direct", ratio, aim);
        }
    }
    let costs: Vec<Option<Samples>> = routes
        .iter()
        .zip(rounds)
        .map(|(route, rounds)| {
            route.pid?;
            let costs = rounds.iter().map(Round::microseconds_each);
            Some(Samples::new(costs.collect()))
        })
        .collect();
    let (per, yardstick, whose) = match unit {
        Unit::MegabytesPerSecond => ("MB", "haproxy", "of HAProxy's"),
        Unit::HandshakesPerSecond => ("handshake", "pgbouncer", "of PgBouncer's"),
        _ => ("transaction", "haproxy", "of HAProxy's"),
    };
    let other = routes.iter().position(|route| route.name == yardstick);
    let other = other.and_then(|at| costs[at].as_ref().map(Samples::median));
    for (route, cost) in routes.iter().zip(costs) {
        let (Some(cost), Some(other)) = (cost, other) else {
            continue;
        };
        let ratio = cost.median() / other;
        let label = format!("{}, processor time per {per}", route.name);
        report.add(section, &label, Unit::Microseconds, cost);
        let aim = match (unit, route.name) {
            (Unit::TransactionsPerSecond, "multidb") => Aim::AtMost(1.0),
            _ => Aim::None,
        };
        if route.name != yardstick {
            report.ratio(whose, ratio, aim);
        }
    }
}
