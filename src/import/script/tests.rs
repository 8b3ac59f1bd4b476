//! Tests of the rewriter.

use proptest::prelude::*;

use super::*;

fn target() -> ScriptTarget {
    ScriptTarget {
        database: "proj".to_owned(),
        roles: vec!["postgres".to_owned(), "app".to_owned()],
        postgres_major: 15,
        restriction: Restriction::Psql("OWN".to_owned()),
    }
}

fn rewrite_chunks(
    target: ScriptTarget,
    script: &[u8],
    size: usize,
) -> Result<Vec<u8>, ScriptError> {
    let mut rewriter = Rewriter::new(target);
    let mut out = Vec::new();
    for piece in script.chunks(size.max(1)) {
        rewriter.push(piece, &mut out)?;
    }
    rewriter.finish(&mut out)?;
    Ok(out)
}

fn rewrite(script: &str) -> String {
    let out = rewrite_chunks(target(), script.as_bytes(), script.len()).unwrap();
    String::from_utf8(out).unwrap()
}

/// Rewrites a script that begins with `\restrict`, and drops that line.
fn rewrite_guarded(script: &str) -> String {
    rewrite(&format!("\\restrict T\n{script}"))
        .strip_prefix("\\restrict T\n")
        .unwrap()
        .to_owned()
}

const DATA: &str = "-- Data for Name: a; Type: TABLE DATA; Schema: public; Owner: app\n";

#[test]
fn table_data_gets_a_transaction_on_the_same_lines() {
    let script = format!("{DATA}--\n\nCOPY public.\"a b\" (id, x) FROM stdin;\n1\tx\n\\.\n\n\n");
    let out = rewrite_guarded(&script);
    assert_eq!(out.lines().count(), script.lines().count());
    assert_eq!(out.lines().nth(2), Some("\\unrestrict T"));
    let copy = out.lines().nth(3).unwrap();
    assert!(copy.starts_with("SELECT CASE"), "{copy}");
    assert!(copy.contains("to_regclass(E'public.\"a b\"')"), "{copy}");
    assert!(
        copy.ends_with(
            " \\gset \\\\ \\restrict T \\\\ BEGIN; :multidb_prepare \
             COPY public.\"a b\" (id, x) FROM stdin :multidb_options;"
        ),
        "{copy}"
    );
    assert!(out.ends_with("\n1\tx\n\\.\nCOMMIT; \n\n"), "{out}");
}

#[test]
fn transaction_of_the_last_table_is_committed() {
    let out = rewrite_guarded(&format!("{DATA}COPY a FROM stdin;\n\\.\n"));
    assert!(out.ends_with("\\.\nCOMMIT;\n"), "{out}");
    let out = rewrite_guarded(&format!("{DATA}COPY a FROM stdin;\n\\."));
    assert!(
        out.ends_with("\\.COMMIT;\n") || out.ends_with("\\.\nCOMMIT;\n"),
        "{out}"
    );
}

#[test]
fn other_copies_are_not_changed() {
    for script in [
        "COPY a FROM stdin;\n1\n\\.\n",
        "COPY a FROM stdin WITH (FORMAT csv);\nGRANT a TO b;\n\\.\n",
        "BEGIN;\n-- Data for Name: a; Type: TABLE DATA; Schema: public; Owner: app\nCOPY a FROM stdin;\n\\.\nCOMMIT;\n",
        "SELECT 'x\n-- Data for Name: a; Type: TABLE DATA;\nCOPY a FROM stdin;\n';\n",
        "CREATE FUNCTION f() AS $_$\nCOPY x FROM stdin;\nGRANT a TO nobody;\n\\.\n$_$;\n",
    ] {
        assert_eq!(rewrite_guarded(script), script);
    }
}

#[test]
fn missing_roles_are_created_once_before_their_first_use() {
    let out = rewrite_guarded(
        "ALTER TABLE t OWNER TO app;\nGRANT SELECT ON TABLE t TO \"o'brien\";\nGRANT ALL ON TABLE t TO \"o'brien\";\n",
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "ALTER TABLE t OWNER TO app;");
    assert!(
        lines[1].starts_with("DO $multidb$BEGIN IF NOT EXISTS"),
        "{out}"
    );
    assert!(
        lines[1].contains("format('CREATE ROLE %I LOGIN', E'o''brien')"),
        "{out}"
    );
    assert!(
        lines[1].ends_with("$multidb$; GRANT SELECT ON TABLE t TO \"o'brien\";"),
        "{out}"
    );
    assert_eq!(lines[2], "GRANT ALL ON TABLE t TO \"o'brien\";");
}

#[test]
fn role_is_created_with_the_rights_of_the_session_user() {
    let out = rewrite_guarded("SET SESSION AUTHORIZATION app;\nGRANT x TO b;\n");
    let line = out.lines().nth(1).unwrap();
    assert!(
        line.starts_with("RESET SESSION AUTHORIZATION; DO "),
        "{line}"
    );
    assert!(
        line.ends_with("; SET SESSION AUTHORIZATION app; GRANT x TO b;"),
        "{line}"
    );
}

#[test]
fn existing_roles_and_databases_are_not_created_again() {
    assert_eq!(
        rewrite_guarded(
            "CREATE ROLE app;\nCREATE DATABASE proj WITH TEMPLATE = template0;\nDROP DATABASE proj;\n"
        ),
        "\n\n\n"
    );
    assert_eq!(
        rewrite_guarded("CREATE ROLE app LOGIN;\n"),
        "ALTER ROLE app LOGIN;\n"
    );
    let other = "CREATE DATABASE other WITH TEMPLATE = template0;\n";
    assert_eq!(rewrite_guarded(other), other);
}

#[test]
fn settings_that_the_server_lacks_are_dropped() {
    assert_eq!(rewrite_guarded("SET transaction_timeout = 0;\n"), "\n");
    assert_eq!(rewrite_guarded("SET default_tablespace = fast;\n"), "\n");
    let kept = "SET default_tablespace = '';\n";
    assert_eq!(rewrite_guarded(kept), kept);
}

#[test]
fn dump_without_restriction_is_restricted() {
    assert_eq!(
        rewrite("-- x\n\nSET a = 1;\n"),
        "-- x\n\n\\restrict OWN \\\\ SET a = 1;\n"
    );
    assert_eq!(
        rewrite("\\! id\n"),
        "\\restrict OWN \\\\ \\! id\n",
        "psql refuses it"
    );
    assert_eq!(
        rewrite("SET a = 1;\n\\connect proj\nSET a = 2;\n"),
        "\\restrict OWN \\\\ SET a = 1;\n\
         \\unrestrict OWN\n\\connect proj \\\\ \\restrict OWN\nSET a = 2;\n"
    );
    assert_eq!(
        rewrite("SET a = 1;\n\n\n\\connect proj\n\nSET a = 2;\n"),
        "\\restrict OWN \\\\ SET a = 1;\n\n\
         \\unrestrict OWN\n\\connect proj \\\\ \\restrict OWN\n\nSET a = 2;\n",
        "a blank line before it is used, so that lines keep their numbers"
    );
}

#[test]
fn late_restriction_does_not_lift_that_of_the_rewriter() {
    assert_eq!(
        rewrite("SET a = 1;\n\\restrict x\n\\unrestrict x\n\\! id\n"),
        "\\restrict OWN \\\\ SET a = 1;\n\n\n\\! id\n"
    );
}

#[test]
fn only_connect_is_allowed_between_two_restrictions() {
    let script = "\\restrict A\nSELECT 1;\n\\unrestrict A\n\\connect proj\n\\restrict B\n";
    assert_eq!(rewrite(script), script);
    assert!(
        rewrite("\\restrict A\nSELECT 1;\n\\unrestrict A\n\\connect \"host=evil\"\n")
            .ends_with("\\restrict OWN \\\\ \\connect \"host=evil\"\n")
    );
    let wrong = "\\restrict A\n\\unrestrict B\n";
    assert_eq!(rewrite(wrong), wrong, "psql refuses it");
}

#[test]
fn rewriter_refuses_psql_commands_if_psql_cannot() {
    let target = || ScriptTarget {
        restriction: Restriction::Rewriter,
        ..target()
    };
    let run = |script: &str| {
        rewrite_chunks(target(), script.as_bytes(), 5).map(|out| String::from_utf8(out).unwrap())
    };
    assert_eq!(
        run("\\restrict A\nSELECT 1;\nCOPY a FROM stdin;\n\\N\n\\.\nSELECT 1 \\gexec\n"),
        Err(ScriptError::MetaCommand { line: 6 })
    );
    assert_eq!(
        run("\\restrict A\nSELECT 1;\n\\unrestrict A\n").unwrap(),
        "\nSELECT 1;\n\n"
    );
    let framed = run(&format!("{DATA}COPY a FROM stdin;\n\\.\n")).unwrap();
    assert!(!framed.contains("restrict"), "{framed}");
    assert!(framed.contains("\\gset \\\\ BEGIN;"), "{framed}");
}

#[test]
fn truncated_dumps_are_refused() {
    for script in [
        "--\n-- PostgreSQL database dump\n--\nSELECT 1;\n",
        "-- PostgreSQL database cluster dump\n-- PostgreSQL database dump\n-- PostgreSQL database dump complete\n",
        "COPY a FROM stdin;\n1\n",
        "COPY a FROM stdin;\n1\n\\",
        "SELECT 1",
        "SELECT 'x;\n",
    ] {
        let result = rewrite_chunks(target(), script.as_bytes(), 7);
        assert!(
            matches!(result, Err(ScriptError::Truncated { .. })),
            "{script}: {result:?}"
        );
    }
    rewrite("-- PostgreSQL database dump\nSELECT 1;\n-- PostgreSQL database dump complete\n");
    rewrite("SELECT 1;\n");
}

/// Scripts of lines that the rewriter handles, mixed with noise.
fn script() -> impl Strategy<Value = Vec<u8>> {
    let known = proptest::sample::select(vec![
        "\\restrict T\n",
        "\\unrestrict T\n",
        "\\connect proj\n",
        "-- Data for Name: a; Type: TABLE DATA; Schema: -\n",
        "COPY public.a (x) FROM stdin;\n",
        "\\.\n",
        "\\.\r\n",
        "\\.",
        "\\",
        "\\N\tx\n",
        "\n",
        "GRANT ALL ON TABLE a TO b, c;\n",
        "CREATE ROLE d;\n",
        "SET SESSION AUTHORIZATION 'e';\n",
        "BEGIN;\n",
        "COMMIT;\n",
        "'",
        "$$",
        "$a$",
        "/*",
        "*/",
        ";\n",
    ])
    .prop_map(|text| text.as_bytes().to_vec());
    let noise = proptest::collection::vec(any::<u8>(), 0..12);
    proptest::collection::vec(prop_oneof![4 => known, 1 => noise], 0..24)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_script(script in script(), size in 1_usize..40) {
        let whole = rewrite_chunks(target(), &script, script.len());
        prop_assert_eq!(rewrite_chunks(target(), &script, size), whole);
    }

    #[test]
    fn unknown_lines_are_not_changed(
        lines in proptest::collection::vec("[a-b0-9 (),.=*+x-]{0,30}", 0..20)
    ) {
        let mut script = lines.join("\n");
        script.push_str("\n;\n");
        prop_assert_eq!(rewrite_guarded(&script), script);
    }

    #[test]
    fn rows_are_not_changed(rows in proptest::collection::vec("[^\n]{0,20}", 0..20), size in 1_usize..9) {
        prop_assume!(!rows.iter().any(|row| matches!(row.as_str(), "\\." | "\\.\r")));
        let data: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let script = format!("COPY a FROM stdin;\n{data}\\.\n");
        let out = rewrite_chunks(target(), script.as_bytes(), size).unwrap();
        let out = String::from_utf8(out).unwrap();
        prop_assert_eq!(out.strip_prefix("\\restrict OWN \\\\ "), Some(script.as_str()));
    }
}

/// A script with values that are longer than what is buffered, with a token across each cut.
#[test]
fn endless_lines_are_passed_on_within_little_memory() {
    let value = "it''s E'\\n' -- ; ".repeat(20 << 10);
    let long = [
        format!("INSERT INTO t VALUES ('{}');\n", value.repeat(12)),
        format!("SELECT {}\n;\n", "1, $a$;'$a$, ".repeat(400 << 10)),
        format!(
            "SELECT /* {} */ 1;\n",
            "*/*".repeat(1 << 20).replace("*/*", "a*b/")
        ),
        format!("COPY a ({}) FROM stdin;\n", "c1, ".repeat(400 << 10)),
    ];
    let script = format!(
        "{}\\x{}\ny\n\\.\nSELECT 1;\n",
        long.concat(),
        "41".repeat(2 << 20)
    );
    for size in [3 << 10, 64 << 10] {
        let mut rewriter = Rewriter::new(target());
        let (mut out, mut most) = (Vec::new(), 0);
        for piece in script.as_bytes().chunks(size) {
            rewriter.push(piece, &mut out).unwrap();
            most = most.max(rewriter.partial.capacity());
        }
        rewriter.finish(&mut out).unwrap();
        assert!(most <= 3 * LINE_BYTES_MAX, "{most} bytes buffered");
        let restricted = format!("\\restrict OWN \\\\ {script}");
        assert!(out == restricted.as_bytes(), "{size}");
        assert_eq!(rewriter.line, script.lines().count() as u64);
    }
}

#[test]
fn psql_command_in_an_endless_line_is_found() {
    let line = |text: &str| format!("SELECT '{}' {text}\n", "x".repeat(3 << 20));
    let mut old = target();
    old.restriction = Restriction::Rewriter;
    for text in ["\\! id", ";;;; \\g |id"] {
        let line = line(text);
        for size in [line.len(), 64 << 10, 1000] {
            let error = rewrite_chunks(old.clone(), line.as_bytes(), size).unwrap_err();
            assert_eq!(error, ScriptError::MetaCommand { line: 1 });
        }
    }
    for text in [
        "x".repeat(4 << 20),
        format!("\\connect {}", "x".repeat(4 << 20)),
    ] {
        let error = rewrite_chunks(target(), text.as_bytes(), 64 << 10).unwrap_err();
        assert!(matches!(error, ScriptError::TokenTooLong { .. }), "{error}");
    }
}
