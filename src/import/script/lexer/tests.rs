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

/// The state after a line that was scanned in parts, with so little lookahead.
fn in_parts(line: &[u8], kept: usize, lookahead: usize) -> Option<(Lexer, LineEnd, bool)> {
    let mut lexer = Lexer::new();
    let (mut end, mut meta_command) = (LineEnd::Script, false);
    let mut partial = Vec::new();
    for byte in line {
        partial.push(*byte);
        if *byte != b'\n' && partial.len() > kept {
            let (part, length) = lexer.scan_part(&partial, lookahead).ok()?;
            partial.drain(..length);
            meta_command |= part.meta_command;
            end = if part.end == LineEnd::CopyData {
                part.end
            } else {
                end
            };
        }
    }
    let last = lexer.scan(&partial);
    meta_command |= last.meta_command;
    end = if last.end == LineEnd::CopyData {
        last.end
    } else {
        end
    };
    Some((lexer, end, meta_command))
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4000))]

    #[test]
    fn line_means_the_same_as_a_whole_and_in_parts(
        tokens in proptest::collection::vec(
            proptest::sample::select(vec![
                "'", "''", "\"", "E'", "e", "\\", "\\\\", "$", "$$", "$a$", "1", "12", "--", "-", "/", "*", "/*",
                "*/", ";", "(", ")", " ", "  ", "copy", "a", "from", "stdin", "begin", "\t", "é",
            ]),
            0..40,
        ),
        kept in 10_usize..24,
        lookahead in 6_usize..10,
    ) {
        let line = format!("{}\n", tokens.concat());
        let mut whole = Lexer::new();
        let expected = whole.scan(line.as_bytes());
        if let Some((lexer, end, meta_command)) = in_parts(line.as_bytes(), kept, lookahead) {
            let state = |lexer: &Lexer| format!("{lexer:?}");
            proptest::prop_assert_eq!(state(&lexer), state(&whole), "{}", line);
            proptest::prop_assert_eq!((end, meta_command), (expected.end, expected.meta_command), "{}", line);
        }
    }
}
