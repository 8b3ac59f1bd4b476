//! Drivers at the console, through TLS and SCRAM, with an instance of their user's.

use super::Site;

/// A site whose user has made an instance.
fn site() -> Site {
    let site = Site::open();
    assert_eq!(site.psql(&site.url(), "select 1").ok(), "1");
    assert_eq!(site.daemon.instance("drivers")["created_by"], "alice");
    site
}

#[test]
fn psycopg3_uses_the_console() {
    site().python("console_psycopg3.py");
}

#[test]
fn asyncpg_uses_the_console() {
    site().python("console_asyncpg.py");
}

#[test]
fn jdbc_and_the_queries_of_dbeaver_use_the_console() {
    site().java(&["postgresql"], "ConsoleJdbc.java");
}
