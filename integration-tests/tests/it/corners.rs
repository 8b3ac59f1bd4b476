//! Corner cases of the protocol: the same bytes are sent to multidb and to the installed Postgres, and
//! their answers are compared.
//!
//! The cases are in `corners/table.rs`, each with the expected result of the comparison. Postgres'
//! answer is not recorded, but multidb's is wherever it differs, since a mere difference
//! would also be true of a mistake.

mod answer;
mod expect;
mod table;

use multidb_integration_tests::PlainPostgres;

use crate::daemon;
use answer::answer;
use table::{Names, cases};

/// Longer than NAMEDATALEN permits.
const LONG: &str = "x23456789012345678901234567890123456789012345678901234567890123456789";

#[test]
fn same_bytes_get_postgres_answer_or_a_documented_difference() {
    let postgres = PlainPostgres::start();
    let daemon = daemon().start();
    // Created beforehand: the first session of a new instance gets a NOTICE.
    daemon.connect("instance:corners,snapshot:monday");
    let to_postgres = cases(&Names {
        user: "postgres",
        other: "nobody",
        long: LONG,
    });
    let to_multidb = cases(&Names {
        user: "instance:corners",
        other: "instance:corners,role:nobody",
        long: &format!("instance:corners,role:{LONG}"),
    });
    let mut wrong = Vec::new();
    for (theirs, ours) in to_postgres.iter().zip(&to_multidb) {
        let expected = answer(postgres.port(), &theirs.steps);
        let found = answer(daemon.port(), &ours.steps);
        let other = ours.expect.ours(postgres.major());
        let must = other.unwrap_or(&expected);
        let what = if other == Some(&expected) {
            "is said to differ from Postgres, which answers the same:"
        } else if found != must {
            "differs"
        } else {
            continue;
        };
        let why = ours.expect.why();
        wrong.push(format!(
            "{}: {what} {why}\n  postgres: {expected}\n  must be:  {must}\n  multidb:  {found}",
            ours.name
        ));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    daemon.connect("instance:corners").one("select 1");
}
