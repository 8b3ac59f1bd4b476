//! De-duplication of two snapshots a day apart.

use multidb_integration_tests::{PlainPostgres, run};
use serde_json::Value;
use tokio::time::Instant;

use super::{import, remove, url};
use crate::client::{Client, DATABASE, Login};
use crate::environment::Environment;
use crate::proxies::{processor_time, ticks_per_second};
use crate::report::{Aim, Report, Samples, Unit};
use crate::say;

/// The least part of the older snapshot that it shares, and the most seconds for a GB.
const SHARED_AIM: f64 = 0.9;
const SECONDS_AIM: f64 = 5.0;
/// A hundredth of the rows is new, a hundredth of them changes where it is newest, and one in ten thousand anywhere.
const DAY: &str = "
    update pgbench_accounts set abalance = abalance + 1
        where aid > (select max(aid) from pgbench_accounts) / 100 * 99 or aid % 10000 = 7;
    insert into pgbench_accounts select max + n, 1, 0, ''
        from (select max(aid) from pgbench_accounts) newest, generate_series(1, max / 100) n;";
/// The clones of each snapshot, whose best time is told.
const CLONES: usize = 5;

/// Measures copies of files, then archives, whose rows are sorted by their primary keys, then scripts, whose rows stay
/// as they are.
pub(super) fn measure(environment: &Environment, server: &PlainPostgres, report: &mut Report) {
    let url = url(server);
    let script = environment.dir().join("dump.sql");
    let file = script.display().to_string();
    let ways = [
        ("physical copies", vec!["--from-url", url.as_str()], false),
        (
            "dumps",
            vec!["--from-url", url.as_str(), "--logical"],
            false,
        ),
        (
            "dumps that are not sorted",
            vec!["--dump", file.as_str()],
            true,
        ),
    ];
    for (name, how, is_script) in ways {
        say(&format!("{name} a day apart"));
        let import_one = |id: &str| {
            if is_script {
                let mut dump = server.client("pg_dump");
                run(dump.arg("--file").arg(&script).arg(DATABASE)).ok();
            }
            import(environment, id, &how);
        };
        import_one("older");
        server.psql(DATABASE, DAY).ok();
        import_one("newer");
        tell(environment, name, report);
        for id in ["older", "newer"] {
            remove(environment, id);
        }
    }
    // There is none if a run ended before.
    let _removed = std::fs::remove_file(&script);
}

fn tell(environment: &Environment, name: &str, report: &mut Report) {
    let section = format!("{name} a day apart ({})", environment.name());
    let before = ["older", "newer"].map(|id| clone_milliseconds(environment, id));
    environment.settle();
    let (pid, ticks) = (
        environment.daemon().pid().cast_unsigned(),
        ticks_per_second(),
    );
    let (spent, begin) = (processor_time(pid, ticks), Instant::now());
    environment.daemon().cli(&["dedup", "run"]).ok();
    let elapsed = begin.elapsed();
    let spent = processor_time(pid, ticks).saturating_sub(spent);
    let after = ["older", "newer"].map(|id| clone_milliseconds(environment, id));
    let shown = environment.daemon().json(&["dedup", "status"]);
    let shown = of_snapshot(&shown, "older");
    let number = |key: &str| {
        let value = shown[key].as_f64();
        value.unwrap_or_else(|| panic!("{key}: {shown}"))
    };
    let mib = |bytes: f64| Samples::new(vec![bytes / f64::from(1 << 20)]);
    let bytes = number("bytes");
    report.add(&section, "the older one", Unit::MiB, mib(bytes));
    let shared = number("bytes_shared");
    report.add(
        &section,
        "  shared with the newer one",
        Unit::MiB,
        mib(shared),
    );
    report.ratio("of its bytes", shared / bytes, Aim::AtLeast(SHARED_AIM));
    report.add(&section, "  saved", Unit::MiB, mib(number("bytes_saved")));
    report.ratio("of its bytes", number("bytes_saved") / bytes, Aim::None);
    report.add(
        &section,
        "de-duplication",
        Unit::Milliseconds,
        Samples::of_times([elapsed]),
    );
    // The bench's own snapshot is compared with the newest one, too.
    let compared = bytes_compared(&environment.daemon().json(&["dedup", "status"]));
    let seconds = elapsed.as_secs_f64() / (compared / 1e9);
    report.ratio("s for a GB", seconds, Aim::AtMost(SECONDS_AIM));
    report.add(
        &section,
        "  its processor time",
        Unit::Milliseconds,
        Samples::of_times([spent]),
    );
    report.ratio(
        "s for a GB",
        spent.as_secs_f64() / (compared / 1e9),
        Aim::None,
    );
    for ((id, before), after) in ["older", "newer"].iter().zip(before).zip(after) {
        let what = format!("clone of the {id} one, before");
        report.add(&section, &what, Unit::Milliseconds, Samples::new(before));
        let (what, samples) = (format!("clone of the {id} one, after"), Samples::new(after));
        report.add(&section, &what, Unit::Milliseconds, samples);
    }
}

/// Makes clones of a snapshot, and says how long each took.
fn clone_milliseconds(environment: &Environment, id: &str) -> Vec<f64> {
    let endpoint = environment.endpoint();
    let clones = (0..CLONES).map(|number| {
        let name = format!("clone-{number}");
        let login = Login::trusted(format!("instance:{name},snapshot:{id}"));
        let (client, _) = Client::first_row(&endpoint, &login)
            .unwrap_or_else(|failure| panic!("{name}: {failure}"));
        client.close();
        let took = environment.clone_milliseconds(&name);
        environment.stop(&name);
        environment.remove(&name);
        took
    });
    clones.collect()
}

/// The bytes of all snapshots but the newest one.
fn bytes_compared(shown: &Value) -> f64 {
    let all = shown["snapshots"].as_array().into_iter().flatten();
    let older = all.filter(|one| one["onto"].is_string());
    older.filter_map(|one| one["bytes"].as_f64()).sum()
}

fn of_snapshot(shown: &Value, id: &str) -> Value {
    let all = shown["snapshots"].as_array().into_iter().flatten();
    let found = all.into_iter().find(|one| one["id"] == id);
    found.unwrap_or_else(|| panic!("{id}: {shown}")).clone()
}
