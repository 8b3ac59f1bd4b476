//! Tests of the forms in which users write listings.

use super::*;

fn defined(text: impl AsRef<[u8]>, tool: impl Into<Option<Preset>>) -> Vec<String> {
    let mut defined: Vec<String> = parse(text.as_ref(), tool.into())
        .unwrap()
        .into_iter()
        .collect();
    defined.sort();
    defined
}

#[track_caller]
fn refused(text: impl AsRef<[u8]>, tool: Preset) -> (usize, String) {
    let refused = parse(text.as_ref(), Some(tool)).unwrap_err();
    (refused.line, refused.text)
}

const BOTH: [&str; 2] = ["polls.0001_initial", "polls.0002_more"];

#[test]
fn blank_lines_comments_and_line_ends_do_not_count() {
    let text = "# by manage.py\r\n\r\npolls.0001_initial\r\n  polls.0002_more  # later\n\n#a.0003\npolls.0001_initial\n";
    assert_eq!(defined(text, Preset::Django), BOTH);
    assert_eq!(
        defined("polls.0001_initial\rpolls.0002_more\r", Preset::Django),
        BOTH
    );
    assert_eq!(defined("", Preset::Django), [""; 0]);
}

#[test]
fn byte_order_marks_tell_the_encoding() {
    let text = "polls.0001_initial\r\npolls.0002_more\r\n";
    let marked = format!("\u{feff}{text}");
    assert_eq!(defined(&marked, Preset::Django), BOTH);
    let little: Vec<u8> = marked.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(defined(little, Preset::Django), BOTH);
    let big: Vec<u8> = marked.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(defined(big, Preset::Django), BOTH);
}

#[test]
fn forms_of_django_are_read_as_meant() {
    let forms = [
        "polls.0001_initial\npolls.0002_more\n",
        "[X]  polls.0001_initial\n[ ]  polls.0002_more\n",
        "[X]  polls.0001_initial\n[ ]  polls.0002_more ... (polls.0001_initial)\n",
        "admin\n (no migrations)\npolls\n [X] 0001_initial\n [ ] 0002_more\n",
        "polls\n [X] 0001_initial (applied at 2026-01-02 03:04:05)\n [-] 0002_more (2 squashed migrations) \
         run 'manage.py migrate' to finish recording.\n",
        "polls/migrations/0001_initial.py\nsrc/site/polls/migrations/0002_more.py\n\
         polls/migrations/__init__.py\n",
        "polls\\migrations\\0001_initial.py\n.\\polls\\migrations\\0002_more.py\n",
    ];
    for form in forms {
        assert_eq!(defined(form, Preset::Django), BOTH, "{form}");
    }
    assert_eq!(
        defined(
            "a.0005_squashed replaces a.0003_x, a.0004_y\na.0006_z\n",
            Preset::Django
        ),
        ["a.0003_x", "a.0004_y", "a.0005_squashed", "a.0006_z"]
    );
}

#[test]
fn files_and_versions_of_each_tool_are_the_same_migration() {
    let cases: [(Preset, &[&str], &str); 9] = [
        (
            Preset::Rails,
            &[
                "20260102030405",
                "20260102030405_create_users.rb",
                "db/migrate/20260102030405_create_users.rb",
            ],
            "20260102030405",
        ),
        (
            Preset::Flyway,
            &["1.2", "V1_2__create.sql", "sql/V1.2__create.sql"],
            "1.2",
        ),
        (
            Preset::Alembic,
            &[
                "27c6a30d7c24",
                "<base> -> 27c6a30d7c24 (head), create account",
                "alembic/versions/27c6a30d7c24_create_account.py",
            ],
            "27c6a30d7c24",
        ),
        (
            Preset::Sqlx,
            &["7", "0007_create.up.sql", "migrations/0007_create.sql"],
            "7",
        ),
        (
            Preset::Goose,
            &["7", "00007_create.go", "migrations/00007_create.sql"],
            "7",
        ),
        (
            Preset::Diesel,
            &[
                "20260102030405",
                "2026-01-02-030405_create",
                "migrations/2026-01-02-030405_create/up.sql",
            ],
            "20260102030405",
        ),
        (
            Preset::Knex,
            &["20260102_create.js", "db/migrations/20260102_create.js"],
            "20260102_create.js",
        ),
        (
            Preset::Prisma,
            &[
                "20260102_create",
                "prisma/migrations/20260102_create/migration.sql",
            ],
            "20260102_create",
        ),
        (
            Preset::Django,
            &["./polls/migrations/0001.py"],
            "polls.0001",
        ),
    ];
    for (tool, lines, migration) in cases {
        for line in lines {
            assert_eq!(defined(line, tool), [migration], "{tool:?}: {line}");
        }
    }
}

#[test]
fn baseline_migration_of_flyway_defines_its_version() {
    assert_eq!(defined("sql/B1_2__all.sql\n", Preset::Flyway), ["1.2"]);
}

#[test]
fn lines_of_a_custom_query_are_taken_as_they_stand() {
    assert_eq!(defined("[X] a/b c\npolls\n", None), ["[X] a/b c", "polls"]);
}

#[test]
fn first_line_that_is_not_understood_is_quoted() {
    let cases = [
        (
            "polls.0001_initial\n\nOperations to perform:\n",
            3,
            "Operations to perform:",
        ),
        ("[X] 0001_initial\n", 1, "[X] 0001_initial"),
        ("[?] polls.0001_initial\n", 1, "[?] polls.0001_initial"),
        ("polls | 0001_initial", 1, "polls | 0001_initial"),
        ("polls/0001_initial.py", 1, "polls/0001_initial.py"),
        ("a.1 replaces b", 1, "a.1 replaces b"),
        ("polls.0001 caf\u{fffd}", 1, "polls.0001 caf\u{fffd}"),
    ];
    for (text, line, quoted) in cases {
        assert_eq!(
            refused(text, Preset::Django),
            (line, quoted.to_owned()),
            "{text}"
        );
    }
    assert_eq!(refused("create users", Preset::Rails).0, 1);
    assert_eq!(refused("R__views.sql", Preset::Flyway).0, 1);
    let dated = parse(
        b"alembic/versions/2026_01_02_0304-27c6a30d7c24_create.py",
        Some(Preset::Alembic),
    );
    assert_eq!(dated.unwrap_err().reason, Some(DATED));
}

#[test]
fn what_is_no_text_is_named() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 12\n";
    let refused = parse(pointer.as_bytes(), Some(Preset::Django)).unwrap_err();
    assert!(refused.reason.unwrap().contains("LFS"), "{refused:?}");
    // UTF-16 whose mark was cut off.
    let bytes: Vec<u8> = "a.1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let refused = parse(&bytes, Some(Preset::Django)).unwrap_err();
    assert!(refused.reason.unwrap().contains("UTF-16"), "{refused:?}");
}
