//! Tests of the lexer.

use super::*;

/// Whether a statement begins after each line of the script.
fn starts(script: &str) -> Vec<bool> {
    let mut lexer = Lexer::new();
    script
        .split_inclusive('\n')
        .map(|line| {
            lexer.scan(line.as_bytes());
            lexer.at_statement_start()
        })
        .collect()
}

#[test]
fn statement_ends_at_its_semicolon() {
    assert_eq!(starts("select 1\n;\n-- x\n\n"), [false, true, true, true]);
    assert_eq!(starts("select ';\n';\n"), [false, true]);
    assert_eq!(starts("select \";\n\";\n"), [false, true]);
    assert_eq!(starts("select 'a''b;\n';\n"), [false, true]);
}

#[test]
fn backslash_escapes_only_in_escape_strings() {
    assert_eq!(starts("select '\\';\n"), [true]);
    assert_eq!(starts("select E'\\';\n';\n"), [false, true]);
    assert_eq!(starts("select E'it''s\\\\';\n"), [true]);
    assert_eq!(starts("select E'a\\\n';\n"), [false, true]);
    let mut lexer = Lexer::new();
    lexer.set_backslash_literals(true);
    lexer.scan(b"select '\\';\n");
    assert!(!lexer.at_statement_start());
}

#[test]
fn dollar_quote_ends_at_its_own_tag() {
    assert_eq!(starts("select $$;\n$a$;\n$$;\n"), [false, false, true]);
    assert_eq!(starts("select $a$;\n$$;\n$a$;\n"), [false, false, true]);
    assert_eq!(
        starts("select a$b$;\n"),
        [true],
        "a name can contain dollars"
    );
    assert_eq!(starts("select $1;\n"), [true], "a parameter is not a quote");
}

#[test]
fn comments_nest() {
    assert_eq!(starts("/* ; /* */ ' \n */ select 1;\n"), [false, true]);
    assert_eq!(starts("select 1 -- ';\n;\n"), [false, true]);
}

#[test]
fn copy_from_stdin_is_followed_by_data() {
    let end = |text: &str| Lexer::new().scan(text.as_bytes()).end;
    assert_eq!(end("COPY a.b (c) FROM stdin;\n"), LineEnd::CopyData);
    assert_eq!(
        end("copy a from STDIN with (format csv);\n"),
        LineEnd::CopyData
    );
    assert_eq!(end("COPY a TO stdout;\n"), LineEnd::Script);
    assert_eq!(end("COPY a FROM 'stdin';\n"), LineEnd::Script);
    assert_eq!(end("select 'COPY a FROM stdin;'\n"), LineEnd::Script);
    assert_eq!(end("COPY (select 1 FROM stdin) TO 'x';\n"), LineEnd::Script);
    let mut lexer = Lexer::new();
    lexer.scan(b"COPY \"a\n");
    assert_eq!(lexer.scan(b"b\" FROM stdin;\n").end, LineEnd::CopyData);
}

#[test]
fn psql_commands_are_found_only_outside_quotes() {
    let meta = |text: &str| Lexer::new().scan(text.as_bytes()).meta_command;
    assert!(meta("\\! id\n"));
    assert!(meta("select 1 \\gexec\n"));
    assert!(!meta("select '\\!' -- \\!\n"));
}
