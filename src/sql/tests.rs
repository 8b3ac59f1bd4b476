//! The texts of a server in messages, and texts in statements.

use super::*;

#[test]
fn text_of_a_server_is_one_short_line() {
    assert_eq!(one_line("a\u{1b}[31m\r\nb"), "a [31m  b");
    assert_eq!(one_line(&"ü".repeat(501)).chars().count(), 501);
    assert_eq!(one_line(""), "");
}

#[test]
fn names_and_texts_are_quoted() {
    assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
    assert_eq!(literal("a'b\\c"), "'a''b\\c'");
}
