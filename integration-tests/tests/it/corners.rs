//! The protocol's corners: the same bytes are sent to multidb and to the installed Postgres, and
//! what both answer is compared.
//!
//! The cases stand in `corners/table.rs`, each with what is expected of the comparison; what
//! Postgres answers is asked of it and written down nowhere. What multidb answers is, where it is
//! another answer: that it differs would be true of any mistake.

mod answer;
mod expect;
mod table;

use multidb_integration_tests::PlainPostgres;

use crate::daemon;
use answer::answer;
use table::{Names, cases};

/// Longer than a role's name can be.
const LONG: &str = "x23456789012345678901234567890123456789012345678901234567890123456789";

#[test]
fn the_same_bytes_get_the_answer_of_postgres_or_another_one_for_a_reason() {
    let postgres = PlainPostgres::start();
    let daemon = daemon().start();
    // Made before, since its first session is told that it is new.
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
