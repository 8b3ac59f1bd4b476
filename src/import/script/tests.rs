//! Tests of the splitter.

use proptest::prelude::*;

use super::*;

/// The parts of a script that comes in pieces of this size, rows joined.
fn split(script: &[u8], size: usize) -> Result<Vec<String>, ScriptError> {
    let directory = tempfile::tempdir().unwrap();
    let mut splitter = Splitter::new(directory.path());
    let mut parts: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    for piece in script.chunks(size.max(1)) {
        let mut input = piece;
        while let Some(piece) = splitter.next(&mut input)? {
            match piece {
                Piece::Rows(some) => rows.extend_from_slice(some),
                Piece::HeldRows(some) => rows.extend(some),
                other => parts.push(show(other, &mut rows)),
            }
        }
    }
    parts.extend(splitter.finish()?.map(|piece| show(piece, &mut rows)));
    Ok(parts)
}

fn show(piece: Piece<'_>, rows: &mut Vec<u8>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match piece {
        Piece::Comment(comment) => text(&comment),
        Piece::Command(command, line) => format!("{line}: {}", text(&command)),
        Piece::Statement(statement) => format!("{}: {}", statement.line, text(&statement.head)),
        Piece::Rows(_) | Piece::HeldRows(_) => panic!("rows"),
        Piece::EndOfRows => format!("rows: {}", text(&std::mem::take(rows))),
    }
}

#[test]
fn statements_end_where_psql_ends_them() {
    let statements = [
        "SELECT 'a;b' || E'\\';' || '''' || \"x;\"\"y\";",
        "SELECT $$;$$, $a$ ; $$ ; $b$; $a$, a$1, $1;",
        "SELECT 1 -- ; '\n;",
        "SELECT /* ; /* ; */ ' */ 2;",
        "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE 1 WHEN 1 THEN 2 END; SELECT 2; END;",
        "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC SELECT 1; END;",
        "BEGIN;",
        "CREATE TABLE begin (a int);",
        "SELECT 1 - - 2 / 3;",
        "INSERT INTO t VALUES (E'it''s \\\\');",
        "SELECT 'COPY a FROM stdin;';",
        // A literal goes on in the next line as it began.
        "SELECT E'a;'\n  -- it's a comment;\n\t'b\\';', 'c' - 1;",
        "SELECT E'a' -- no\n'b\\' || ';';",
        "SELECT 'a'\n'b\\', ';', E'c\\'' /* ' */ '\\;';",
        "SELECT U&'\\0041;', u&\"a;\", U & 'b\\', b'1;', x';', e'\\';';",
    ];
    for size in [1, 3, 1000] {
        let parts = split(statements.join(" ").as_bytes(), size).unwrap();
        let texts: Vec<&str> = parts
            .iter()
            .map(|part| part.split_once(": ").unwrap().1)
            .collect();
        assert_eq!(texts, statements);
    }
}

#[test]
fn commands_comments_and_rows_are_told_apart() {
    let script = "-- a comment\r\n\\restrict x\n/* no */ COPY a (b) FROM stdin;\n1\t\\N\n\\N\n\\.x\n\\.\r\n\
        COPY b FROM stdin;\n\\.\n;;\nCOPY c FROM '/etc/passwd'; -- after\nCOPY (SELECT 1) TO stdout;\n";
    let expected = [
        "-- a comment",
        "2: \\restrict x",
        "3: COPY a (b) FROM stdin;",
        "rows: 1\t\\N\n\\N\n\\.x\n",
        "8: COPY b FROM stdin;",
        "rows: ",
        "11: COPY c FROM '/etc/passwd';",
        "-- after",
        "12: COPY (SELECT 1) TO stdout;",
    ];
    for size in [1, 2, 5, 1000] {
        assert_eq!(split(script.as_bytes(), size).unwrap(), expected, "{size}");
    }
}

#[test]
fn backslashes_escape_where_the_script_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut splitter = Splitter::new(directory.path());
    splitter.set_backslash_literals(true);
    let mut input = &b"SELECT 'a\\';'; SELECT 1;"[..];
    let Some(Piece::Statement(first)) = splitter.next(&mut input).unwrap() else {
        panic!("no statement");
    };
    assert_eq!(first.head, b"SELECT 'a\\';';");
}

/// The parts of a script whose `\\set` commands are followed.
fn expanded(script: &[u8], size: usize) -> Result<Vec<String>, ScriptError> {
    let directory = tempfile::tempdir().unwrap();
    let mut splitter = Splitter::new(directory.path());
    let (mut parts, mut rows) = (Vec::new(), Vec::new());
    for piece in script.chunks(size) {
        let mut input = piece;
        while let Some(piece) = splitter.next(&mut input)? {
            match piece {
                Piece::Command(text, line) => {
                    match Command::parse(&text, line, &splitter.variables)? {
                        Command::Set(name, value) => splitter.variables.set(name, value),
                        Command::Unset(name) => splitter.variables.unset(&name),
                        other => panic!("{other:?}"),
                    }
                }
                Piece::Rows(some) => rows.extend_from_slice(some),
                Piece::HeldRows(some) => rows.extend(some),
                other => parts.push(show(other, &mut rows)),
            }
        }
    }
    parts.extend(splitter.finish()?.map(|piece| show(piece, &mut rows)));
    Ok(parts)
}

#[test]
fn variables_are_asked_for_and_those_of_psql_itself_are_refused() {
    let tests = "SELECT :{?a}, :{?}, :{?a, :{b}, ':{?a}';\n\\set a 1\nSELECT :{?a};";
    let expected = [
        "1: SELECT FALSE, :{?}, :{?a, :{b}, ':{?a}';",
        "3: SELECT TRUE;",
    ];
    for size in [1, 2, 3, 1000] {
        assert_eq!(expanded(tests.as_bytes(), size).unwrap(), expected);
    }
    for (script, says) in [
        (
            "SELECT :USER;",
            "line 1: the psql variable \"USER\" is not expanded: it is one of psql's own",
        ),
        (
            "SELECT\n:'DBNAME';",
            "line 2: the psql variable \"DBNAME\" is not expanded: it is one of psql's own",
        ),
        (
            "SELECT :{?VERSION_NUM};",
            "line 1: the psql variable \"VERSION_NUM\" is not expanded: it is one of psql's own",
        ),
    ] {
        for size in [1, 1000] {
            let error = expanded(script.as_bytes(), size).unwrap_err();
            assert_eq!(error.to_string(), says, "{script}");
        }
    }
}

#[test]
fn variables_are_expanded_as_psql_does() {
    let script = "\\set id 7\n\\set name 'it''s; b\\\\c'\n\\set \u{e4} 'A \"b'\n\
        SELECT :id, :'name', :\"\u{e4}\", 1::int, :none, :'no such', ':id', \":id\", $$:id$$ /* :id */, a[:id], f(a := 1);\n\
        \\set two 'SELECT 1; SELECT'\n:two:id;\n\\set copy 'COPY t FROM stdin;'\n:copy\n:id\n\\.\n\
        \\unset id\nSELECT :id;\n\\set open 'SELECT ''a'\n:open;:two';\n\\set empty\n:empty SELECT :empty 3;";
    let expected = [
        "4: SELECT 7,  E'it''s; b\\\\c', \"A \"\"b\", 1::int, :none, :'no such', ':id', \":id\", $$:id$$ /* :id */, a[7], f(a := 1);",
        "6: SELECT 1;",
        "6: SELECT7;",
        "8: COPY t FROM stdin;",
        "rows: :id\n",
        "12: SELECT :id;",
        "14: SELECT 'a;:two';",
        "16: SELECT  3;",
    ];
    for size in [1, 2, 3, 7, 1000] {
        assert_eq!(
            expanded(script.as_bytes(), size).unwrap(),
            expected,
            "{size}"
        );
    }
    for (script, says) in [
        (
            "\\set a ':b'\n\\set b 1\nSELECT :a;",
            "line 3: the psql variable \"b\" is not expanded: it is in the value of another one",
        ),
        (
            "\\set a ':a'\nSELECT :a;",
            "line 2: the psql variable \"a\" is not expanded: it is in the value of another one",
        ),
        (
            "\\set a '\\\\! id\\n'\n:a\n",
            "line 2: the psql variable \"a\" is not expanded: its value has more than statements",
        ),
        (
            "SELECT 1\n\\gset x_\n",
            "line 2: the dump has the psql command \"\\gset\", which is not run",
        ),
        (
            "SELECT 1 \\; SELECT 2;",
            "line 1: the dump has the psql command \"\\;\", which is not run",
        ),
        (
            "SELECT 1 \\gexec",
            "line 1: the dump has the psql command \"\\gexec\", which is not run",
        ),
        (
            "SELECT 1;\n\\if true\n",
            "line 2: the dump has the psql command \"\\if\", which is not run",
        ),
    ] {
        for size in [1, 1000] {
            let error = expanded(script.as_bytes(), size).unwrap_err();
            assert_eq!(error.to_string(), says, "{script}");
        }
    }
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
        "SELECT $a$;\n",
        "/* ;\n",
    ] {
        let result = split(script.as_bytes(), 7);
        assert!(
            matches!(result, Err(ScriptError::Truncated { .. })),
            "{script}: {result:?}"
        );
    }
    for script in [
        "-- PostgreSQL database dump\nSELECT 1;\n-- PostgreSQL database dump complete",
        "SELECT 1;",
        "COPY a FROM stdin;\n1\n\\.",
        "",
    ] {
        split(script.as_bytes(), 7).unwrap();
    }
}

/// Scripts of texts that the splitter looks at, mixed with noise.
fn script() -> impl Strategy<Value = Vec<u8>> {
    let known = proptest::sample::select(vec![
        "\\restrict T\n",
        "-- Data for Name: a; Type: TABLE DATA; Schema: -\n",
        "COPY public.a (x) FROM stdin;\n",
        "\\.\n",
        "\\.\r\n",
        "\\.",
        "\\",
        "\\N\tx\n",
        "\n",
        "GRANT ALL ON TABLE a TO b, c;\n",
        "CREATE FUNCTION f() ",
        "BEGIN ",
        "END;\n",
        "E'",
        "U&",
        ":",
        "\\",
        "'",
        "\"",
        "$$",
        "$a$",
        "/*",
        "*/",
        "-",
        "(",
        ")",
        ";\n",
    ])
    .prop_map(|text| text.as_bytes().to_vec());
    let noise = proptest::collection::vec(any::<u8>(), 0..12);
    proptest::collection::vec(prop_oneof![4 => known, 1 => noise], 0..24)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_parts(script in script(), size in 1_usize..40) {
        let whole = split(&script, script.len());
        prop_assert_eq!(split(&script, size), whole);
    }

    #[test]
    fn rows_are_not_changed(rows in proptest::collection::vec("[^\n]{0,20}", 0..20), size in 1_usize..9) {
        prop_assume!(!rows.iter().any(|row| matches!(row.as_str(), "\\." | "\\.\r")));
        let data: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let script = format!("COPY a FROM stdin;\n{data}\\.\n");
        let parts = split(script.as_bytes(), size).unwrap();
        let expected = format!("rows: {data}");
        prop_assert_eq!(parts.last(), Some(&expected));
    }
}

/// Statements that are longer than their part in memory, with a token across each cut.
#[test]
fn long_statements_are_kept_in_files_and_rows_not_at_all() {
    let value = "it''s E''\\n'' -- ; ".repeat(20 << 10);
    let long = [
        format!("INSERT INTO t VALUES ('{}');", value.repeat(12)),
        format!("SELECT {};", "1, $a$;'$a$, ".repeat(400 << 10)),
        format!("SELECT /* {} */ 1;", "a*b/".repeat(1 << 20)),
    ];
    let rows = format!("\\\\x{}\n", "41".repeat(2 << 20));
    let script = format!("{}\nCOPY a FROM stdin;\n{rows}\\.\n", long.join("\n"));
    for size in [3 << 10, 64 << 10] {
        let directory = tempfile::tempdir().unwrap();
        let mut splitter = Splitter::new(directory.path());
        let (mut statements, mut row_bytes) = (Vec::new(), 0);
        for chunk in script.as_bytes().chunks(size) {
            let mut input = chunk;
            while let Some(piece) = splitter.next(&mut input).unwrap() {
                match piece {
                    Piece::Statement(statement) => statements.push(statement),
                    Piece::Rows(some) => row_bytes += some.len(),
                    Piece::HeldRows(some) => row_bytes += some.len(),
                    _ => {}
                }
                assert!(splitter.held.len() < 4);
            }
        }
        assert_eq!(splitter.finish().unwrap(), None);
        assert_eq!(row_bytes, rows.len());
        for (line, (statement, text)) in statements.iter_mut().zip(&long).enumerate() {
            assert_eq!(statement.line, line as u64 + 1);
            assert!(statement.head.len() <= HEAD_BYTES_MAX && !statement.is_whole());
            let (head, rest) = statement.parts().unwrap();
            let mut whole = head.to_vec();
            std::io::Read::read_to_end(rest.unwrap().0, &mut whole).unwrap();
            assert!(whole == text.as_bytes());
        }
    }
    let endless = format!("\\connect {}", "x".repeat(1 << 20));
    let error = split(endless.as_bytes(), 1000).unwrap_err();
    assert!(matches!(error, ScriptError::TokenTooLong { .. }), "{error}");
}
