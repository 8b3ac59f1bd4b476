//! Several ways to do the same, in turns, so that noise meets all of them.

use std::time::Duration;

use crate::proxies::{Route, processor_time, ticks_per_second};
use crate::report::{Aim, Report, Samples, Unit};

/// One turn: the work done, its duration, and the proxy's processor time.
pub(crate) struct Turn {
    done: f64,
    elapsed: Duration,
    processor: Duration,
}

/// The turns of each way; the first round only warms up.
pub(crate) fn in_turns(
    routes: &[Route],
    rounds: usize,
    mut turn: impl FnMut(&Route) -> (f64, Duration),
) -> Vec<Vec<Turn>> {
    let ticks = ticks_per_second();
    let processor = |route: &Route| {
        route
            .pid
            .map_or(Duration::ZERO, |pid| processor_time(pid, ticks))
    };
    let mut turns: Vec<Vec<Turn>> = routes.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        for (route, turns) in routes.iter().zip(&mut turns) {
            let before = processor(route);
            let (done, elapsed) = turn(route);
            let processor = processor(route).saturating_sub(before);
            if round > 0 {
                turns.push(Turn {
                    done,
                    elapsed,
                    processor,
                });
            }
        }
    }
    turns
}

/// Adds the rate and the processor time of each way; the first one is direct.
pub(crate) fn tell(
    section: &str,
    unit: Unit,
    turns: &[Vec<Turn>],
    routes: &[Route],
    report: &mut Report,
) {
    let rates: Vec<Samples> = turns
        .iter()
        .map(|turns| {
            let rate = |turn: &Turn| turn.done / turn.elapsed.as_secs_f64();
            Samples::new(turns.iter().map(rate).collect())
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
        .zip(turns)
        .map(|(route, turns)| {
            route.pid?;
            let cost = |turn: &Turn| turn.processor.as_secs_f64() * 1e6 / turn.done;
            Some(Samples::new(turns.iter().map(cost).collect()))
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
