//! The exclusive bytes of instances.

use std::thread;
use std::time::Duration;

use multidb_integration_tests::eventually;

use crate::environment::Environment;
use crate::report::{Aim, Report, Samples, Unit};
use crate::say;

/// The limits in MiB: of an unchanged instance, and of a used one.
const FRESH_MIB_AIM: f64 = 0.5;
const USED_MIB_AIM: f64 = 1.0;
/// The limit of an instance with a hundredth of its rows changed, as a part of its data.
const UPDATED_AIM: f64 = 0.02;
const UPDATE: &str = "update pgbench_accounts set abalance = abalance + 1 \
    where aid <= (select max(aid) from pgbench_accounts) / 100; checkpoint";
const USE: &str = "select count(*) from pgbench_branches; create table notes as select 1 as n";

/// An instance is measured again within this time after it has stopped.
const MEASURED_AGAIN: Duration = Duration::from_secs(5);

/// Measures three instances, each after it has been stopped.
pub(super) fn measure(environment: &Environment, report: &mut Report) {
    say("bytes of instances");
    let section = format!("bytes of an instance's own ({})", environment.name());
    let whole = environment.snapshot()["bytes"].as_f64();
    let whole = whole.expect("a snapshot has bytes");
    for (what, sql, of, aim) in [
        (
            "started and stopped",
            None,
            f64::from(1 << 20),
            FRESH_MIB_AIM,
        ),
        ("used", Some(USE), f64::from(1 << 20), USED_MIB_AIM),
        (
            "a hundredth of its rows updated",
            Some(UPDATE),
            whole,
            UPDATED_AIM,
        ),
    ] {
        let bytes = own_bytes(environment, sql);
        let samples = Samples::new(vec![bytes / f64::from(1 << 20)]);
        report.add(&section, what, Unit::MiB, samples);
        let unit = if of < whole { "MiB" } else { "of the data" };
        report.ratio(unit, bytes / of, Aim::AtMost(aim));
    }
}

fn own_bytes(environment: &Environment, sql: Option<&str>) -> f64 {
    let name = "measured";
    environment.first_row(name).0.close();
    if let Some(sql) = sql {
        let user = format!("instance:{name}");
        environment.daemon().psql(&user, sql).ok();
    }
    environment.stop(name);
    environment.settle();
    thread::sleep(MEASURED_AGAIN);
    let mut bytes = None;
    eventually("the bytes are measured", Duration::from_secs(60), || {
        bytes = environment.instance(name)["exclusive_bytes"].as_f64();
        bytes.is_some()
    });
    environment.remove(name);
    bytes.expect("they were measured")
}
