//! The statements of texts, in one table.

use super::*;

fn name(text: &str) -> Argument<InstanceName> {
    Argument::Given(text.parse().unwrap())
}

fn explain(gitref: &str, project: Option<&str>) -> Statement {
    Statement::Explain {
        gitref: Argument::Given(gitref.to_owned()),
        project: project.map(|project| Argument::Given(project.parse().unwrap())),
    }
}

#[test]
fn statements_of_the_contract_are_read() {
    use InstanceCommand::{Drop, Pin, Reset, Start, Stop, Unpin};
    let show = Statement::ShowInstance;
    for (text, expected) in [
        ("SHOW INSTANCES", Statement::List(Listing::Instances)),
        ("show snapshots;", Statement::List(Listing::Snapshots)),
        (
            "Show  Connections ;;",
            Statement::List(Listing::Connections),
        ),
        ("SHOW\nJOBS", Statement::List(Listing::Jobs)),
        ("SHOW STATUS -- now", Statement::List(Listing::Status)),
        (
            "/* a /* nested */ one */ SHOW LIMITS",
            Statement::List(Listing::Limits),
        ),
        ("SHOW HELP", Statement::Help),
        ("SHOW INSTANCE testdb", show(name("testdb"))),
        ("SHOW INSTANCE PR-12.x_y", show(name("PR-12.x_y"))),
        ("SHOW INSTANCE 7", show(name("7"))),
        ("SHOW INSTANCE instances", show(name("instances"))),
        ("SHOW INSTANCE \"a--b\"", show(name("a--b"))),
        ("SHOW INSTANCE 'a-b'--comment", show(name("a-b"))),
        ("SHOW INSTANCE $1", show(Argument::Parameter(1))),
        ("EXPLAIN GITREF 'feature/x'", explain("feature/x", None)),
        ("EXPLAIN GITREF 'it''s'", explain("it's", None)),
        (
            "explain gitref main project shop",
            explain("main", Some("shop")),
        ),
        (
            "EXPLAIN GITREF $2 PROJECT $1",
            Statement::Explain {
                gitref: Argument::Parameter(2),
                project: Some(Argument::Parameter(1)),
            },
        ),
        ("START INSTANCE a", Statement::Command(Start, name("a"))),
        ("STOP INSTANCE a", Statement::Command(Stop, name("a"))),
        ("RESET INSTANCE a", Statement::Command(Reset, name("a"))),
        ("drop instance a", Statement::Command(Drop, name("a"))),
        ("PIN INSTANCE a", Statement::Command(Pin, name("a"))),
        ("UNPIN INSTANCE a", Statement::Command(Unpin, name("a"))),
    ] {
        assert_eq!(parse(text).expect(text), [expected], "{text}");
    }
}

#[test]
fn statements_of_drivers_are_read() {
    let set = |name: &str, value: &str| Statement::Set(name.to_owned(), value.to_owned());
    let nothing = Statement::Nothing;
    for (text, expected) in [
        ("BEGIN", Statement::Begin),
        (
            "begin isolation level serializable read only",
            Statement::Begin,
        ),
        ("START TRANSACTION READ WRITE", Statement::Begin),
        ("COMMIT WORK", Statement::Commit),
        ("END", Statement::Commit),
        ("ROLLBACK", Statement::Rollback),
        ("SET extra_float_digits = 3", set("extra_float_digits", "3")),
        (
            "SET application_name = 'DBeaver 25 - Main <postgres>'",
            set("application_name", "DBeaver 25 - Main <postgres>"),
        ),
        (
            "SET client_encoding TO 'UTF8'",
            set("client_encoding", "UTF8"),
        ),
        ("SET DateStyle TO ISO, MDY", set("datestyle", "ISO,MDY")),
        ("SET TIME ZONE 'UTC'", set("time", "UTC")),
        ("SET NAMES 'utf-8'", set("names", "utf-8")),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            nothing("SET"),
        ),
        ("RESET ALL", nothing("RESET")),
        ("DISCARD ALL", Statement::DiscardAll),
        ("CLOSE ALL", nothing("CLOSE CURSOR ALL")),
        ("UNLISTEN *", nothing("UNLISTEN")),
        ("DEALLOCATE ALL", Statement::Deallocate(None)),
        (
            "DEALLOCATE PREPARE \"_pg3_0\"",
            Statement::Deallocate(Some("_pg3_0".to_owned())),
        ),
    ] {
        assert_eq!(parse(text).expect(text), [expected], "{text}");
    }
    for text in [
        "SHOW server_version",
        "show TRANSACTION ISOLATION LEVEL",
        "SHOW search_path",
        "SHOW application_name",
    ] {
        let parsed = parse(text).expect(text);
        assert!(matches!(parsed[..], [Statement::ShowSetting(_)]), "{text}");
    }
    for (text, count) in [
        ("SELECT current_schema(),session_user", 2),
        ("select pg_catalog.version() as v", 1),
        ("SELECT pg_advisory_unlock_all()", 1),
    ] {
        let parsed = parse(text).expect(text);
        assert!(
            matches!(&parsed[..], [Statement::Select(items)] if items.len() == count),
            "{text}"
        );
    }
}

#[test]
fn several_statements_and_none_are_read() {
    for (text, count) in [
        ("", 0),
        (" ; ;", 0),
        ("-- nothing", 0),
        ("SHOW JOBS; SHOW STATUS", 2),
        ("BEGIN; DROP INSTANCE \"a;b\"", 0),
    ] {
        match parse(text) {
            Ok(statements) => assert_eq!(statements.len(), count, "{text}"),
            // No instance has such a name.
            Err(error) => assert!(matches!(error, ConsoleError::Request(_)), "{text}: {error}"),
        }
    }
}

#[test]
fn anything_else_is_refused_by_the_word_that_does_not_fit() {
    for (text, expected) in [
        ("SELECT 1", "syntax error at or near \"1\""),
        ("SELECT version", "syntax error at end of input"),
        ("SHOW", "syntax error at end of input"),
        ("SHOW INSTANCE", "syntax error at end of input"),
        (
            "SHOW INSTANCES testdb",
            "syntax error at or near \"testdb\"",
        ),
        ("SHOW INSTANCE a b", "syntax error at or near \"b\""),
        ("SHOW tables", "syntax error at or near \"tables\""),
        ("SHOW INSTANCE $0", "syntax error at or near \"$0\""),
        (
            "SHOW \"INSTANCES\"",
            "syntax error at or near \"INSTANCES\"",
        ),
        ("DROP TABLE a", "syntax error at or near \"DROP\""),
        ("EXPLAIN SELECT 1", "syntax error at or near \"SELECT\""),
        ("EXPLAIN GITREF a/b", "syntax error at or near \"/\""),
        ("EXPLAIN GITREF 'a' PROJECT", "syntax error at end of input"),
        ("PIN INSTANCE a FOR '2d'", "syntax error at or near \"FOR\""),
        (
            "SHOW JOBS; nonsense",
            "syntax error at or near \"nonsense\"",
        ),
        ("SHOW INSTANCE 'a", "unterminated quoted string"),
        ("SHOW INSTANCE \"a", "unterminated quoted name"),
        ("SHOW JOBS /* a", "unterminated comment"),
        ("SAVEPOINT a", "syntax error at or near \"SAVEPOINT\""),
        ("SET a", "syntax error at end of input"),
        (
            "SELECT c.oid FROM pg_catalog.pg_class c",
            "the console has no tables",
        ),
        (
            "SET client_encoding = 'LATIN1'",
            "client_encoding is always UTF8 in the console",
        ),
        (
            "SET DateStyle = German",
            "DateStyle is always ISO in the console",
        ),
        (
            "SHOW INSTANCE 'a b'",
            "invalid value \"a b\" for \"instance\": only letters, digits, '.', '_' and '-' are allowed",
        ),
    ] {
        assert_eq!(parse(text).expect_err(text).to_string(), expected, "{text}");
    }
}

#[test]
fn parameters_are_checked_like_names_in_the_text() {
    let statement = parse("EXPLAIN GITREF $2 PROJECT $1").unwrap().remove(0);
    assert_eq!(statement.parameters(), 2);
    let given = |project: Option<&str>, gitref: &str| {
        statement.request(&[project.map(str::to_owned), Some(gitref.to_owned())])
    };
    let request = ConsoleRequest::Explain {
        gitref: "main".to_owned(),
        project: Some("shop".parse().unwrap()),
    };
    assert_eq!(given(Some("shop"), "main").unwrap(), Some(request));
    assert!(matches!(
        given(Some("sh op"), "main"),
        Err(ConsoleError::Request(_))
    ));
    assert!(matches!(
        given(Some("shop"), "-rf"),
        Err(ConsoleError::Request(_))
    ));
    assert!(matches!(
        given(None, "main"),
        Err(ConsoleError::NullParameter { number: 1 })
    ));
    assert!(matches!(
        statement.request(&[]),
        Err(ConsoleError::NoParameter { number: 2 })
    ));
}

#[test]
fn values_have_the_forms_of_postgres() {
    use crate::wire::Format::{Binary, Text};
    let time = Value::Time("2026-11-27T14:01:33.000120Z".parse().unwrap());
    for (value, text, binary) in [
        (Value::Bool(true), &b"t"[..], &[1][..]),
        (Value::Int(-2), b"-2", &(-2_i64).to_be_bytes()),
        (
            Value::Text("\u{e9}".to_owned()),
            "é".as_bytes(),
            "é".as_bytes(),
        ),
        (
            time,
            b"2026-11-27 14:01:33.000120+00",
            &849_103_293_000_120_i64.to_be_bytes(),
        ),
    ] {
        assert_eq!(value.encode(Text).unwrap(), text);
        assert_eq!(value.encode(Binary).unwrap(), binary);
    }
    assert_eq!(Value::Null.encode(Text), None);
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused_on_one_line(text in ".{0,60}|(SHOW|INSTANCE|[ ;'\"$-]|/\\*|SET|a|=|SELECT|[()]){0,12}") {
        if let Err(error) = parse(&text) {
            let message = error.to_string();
            proptest::prop_assert!(!message.contains(char::is_control), "{}", message);
        }
    }
}
