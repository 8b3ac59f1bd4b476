//! The roles and databases that a statement names.
//!
//! The grammar covers the forms that pg_dump and pg_dumpall write, in any case and spacing. Other
//! statements are ignored.

mod token;

pub(super) use self::token::{Placed, Token, placed_tokens};

/// The name of a role or database, unquoted, in the encoding of the script.
pub(super) type Name = Vec<u8>;

/// The roles or the database that a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// `CREATE ROLE name`, with attributes or without.
    CreateRole(Name),
    /// `CREATE DATABASE`, perhaps with an owner.
    CreateDatabase(Name, Option<Name>),
    /// `DROP DATABASE`.
    DropDatabase(Name),
    /// `SET SESSION AUTHORIZATION` to a role, or to the default.
    SessionAuthorization(Option<Name>),
    /// Another statement, with the roles that it requires.
    Roles(Vec<Name>),
}

/// The subject of a statement.
pub(super) fn subject(tokens: &[Token]) -> Subject {
    find_subject(tokens).unwrap_or_else(|| Subject::Roles(Vec::new()))
}

fn find_subject(tokens: &[Token]) -> Option<Subject> {
    let first = tokens.first()?;
    let second = tokens.get(1)?;
    if first.is("create") {
        create(tokens)
    } else if first.is("alter") {
        Some(Subject::Roles(alter(tokens)))
    } else if first.is_any(&["grant", "revoke"]) {
        Some(Subject::Roles(privileges(tokens)))
    } else if first.is("drop") {
        let name = tokens.get(if tokens.get(2)?.is("if") { 4 } else { 2 })?;
        let database = second.is("database").then(|| name.name())??;
        Some(Subject::DropDatabase(database))
    } else if second.is("session") && tokens.get(2)?.is("authorization") {
        let role = tokens.get(3).filter(|_| first.is("set"));
        Some(Subject::SessionAuthorization(role.and_then(Token::role)))
    } else {
        None
    }
}

fn create(tokens: &[Token]) -> Option<Subject> {
    let kind = tokens.get(1)?;
    let name = tokens.get(2)?;
    if kind.is_any(&["role", "group"]) || (kind.is("user") && !name.is("mapping")) {
        return Some(Subject::CreateRole(name.role()?));
    }
    if kind.is("database") {
        let owner = after(tokens, &["owner"]).find(|token| **token != Token::Symbol(b'='));
        return Some(Subject::CreateDatabase(
            name.name()?,
            owner.and_then(Token::role),
        ));
    }
    let roles = if kind.is("policy") {
        list(after(tokens, &["to"]))
    } else if kind.is("schema") {
        list(after(tokens, &["authorization"]))
    } else if kind.is("user") {
        list(after(tokens, &["for"]))
    } else {
        return None;
    };
    Some(Subject::Roles(roles))
}

fn alter(tokens: &[Token]) -> Vec<Name> {
    let kind = &tokens[1];
    let third = tokens.get(2);
    if kind.is("default") {
        let mut roles = match tokens.get(4) {
            Some(word) if word.is_any(&["role", "user"]) => list(tokens[5..].iter()),
            _ => Vec::new(),
        };
        let act = tokens
            .iter()
            .position(|token| token.is_any(&["grant", "revoke"]));
        roles.extend(act.map(|at| privileges(&tokens[at..])).unwrap_or_default());
        return roles;
    }
    if kind.is("user") && third.is_some_and(|word| word.is("mapping")) {
        return list(after(tokens, &["for"]));
    }
    if kind.is_any(&["role", "user"]) {
        return third.and_then(Token::role).into_iter().collect();
    }
    let owner = tokens
        .windows(2)
        .rposition(|pair| pair[0].is("owner") && pair[1].is("to"));
    match owner {
        Some(at) => list(tokens[at + 2..].iter()),
        None => Vec::new(),
    }
}

/// The roles of a GRANT or REVOKE: of privileges on something, or of membership.
fn privileges(tokens: &[Token]) -> Vec<Name> {
    let mut roles = list(after(tokens, &["to", "from"]));
    let on_something = tokens.iter().any(|token| token.is("on"));
    if !on_something && !tokens.iter().any(|token| token.is("privileges")) {
        let skipped = if tokens.get(2).is_some_and(|word| word.is("option")) {
            4
        } else {
            1
        };
        roles.extend(list(tokens.iter().skip(skipped)));
    }
    if let Some(by) = tokens
        .windows(2)
        .position(|pair| pair[0].is("granted") && pair[1].is("by"))
    {
        roles.extend(tokens.get(by + 2).and_then(Token::role));
    }
    roles
}

/// The tokens after the first of these keywords that is outside of parentheses.
fn after<'t, 'a>(
    tokens: &'t [Token<'a>],
    keywords: &[&str],
) -> impl Iterator<Item = &'t Token<'a>> + use<'t, 'a> {
    let mut depth = 0_usize;
    let found = tokens.iter().position(|token| {
        match token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && token.is_any(keywords)
    });
    let rest = found.map_or(&[][..], |at| &tokens[at + 1..]);
    rest.iter()
}

/// The roles of a list that is separated by commas.
fn list<'t, 'a: 't>(tokens: impl Iterator<Item = &'t Token<'a>>) -> Vec<Name> {
    let mut roles = Vec::new();
    let mut tokens = tokens.filter(|token| !token.is("group"));
    while let Some(token) = tokens.next() {
        roles.extend(token.role());
        if tokens.next() != Some(&Token::Symbol(b',')) {
            break;
        }
    }
    roles
}

/// Whether the statement sets how backslashes in literals are read: off, or as in the standard.
pub(in crate::import) fn sets_backslash_literals(text: &[u8]) -> Option<bool> {
    const NAME: &[u8] = b"standard_conforming_strings";
    if text.len() > 100 || !text.get(..3)?.eq_ignore_ascii_case(b"set") {
        return None;
    }
    let text = text.to_ascii_lowercase();
    let at = memchr::memmem::find(&text, NAME)?;
    let value = text[at + NAME.len()..].trim_ascii();
    let value = value
        .strip_prefix(b"=")
        .or_else(|| value.strip_prefix(b"to"))?
        .trim_ascii_start();
    let is_off = [&b"off"[..], b"'off'", b"false", b"0"];
    Some(is_off.iter().any(|off| value.starts_with(off)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Subject {
        let tokens = placed_tokens(text.as_bytes());
        let tokens: Vec<Token> = tokens.into_iter().map(|placed| placed.token).collect();
        subject(&tokens)
    }

    fn roles(text: &str) -> Vec<String> {
        match parsed(text) {
            Subject::Roles(roles) => roles
                .into_iter()
                .map(|role| String::from_utf8(role).unwrap())
                .collect(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn roles_are_found_in_all_forms_of_pg_dump() {
        let table: &[(&str, &[&str])] = &[
            ("ALTER TABLE public.a OWNER TO app;", &["app"]),
            (
                "ALTER FUNCTION f(x text) OWNER TO \"We \"\"ird\";",
                &["We \"ird"],
            ),
            ("ALTER TABLE a OWNER TO CURRENT_USER;", &[]),
            (
                "ALTER TABLE ONLY public.p ATTACH PARTITION public.p1 FOR VALUES IN ('to');",
                &[],
            ),
            (
                "GRANT SELECT(a,b) ON TABLE public.a TO Reader WITH GRANT OPTION;",
                &["reader"],
            ),
            ("GRANT ALL ON SCHEMA s TO PUBLIC;", &[]),
            ("GRANT ALL ON SCHEMA s TO \"public\", \"none\";", &[]),
            ("GRANT a TO b -- c, d\n/* e */ , f;", &["b", "f", "a"]),
            ("GRANT ALL ON SCHEMA s TO GROUP x, y;", &["x", "y"]),
            ("REVOKE ALL ON FUNCTION f(a text) FROM x;", &["x"]),
            (
                "REVOKE GRANT OPTION FOR ALL ON TABLE t FROM x CASCADE;",
                &["x"],
            ),
            ("GRANT a TO b GRANTED BY c;", &["b", "a", "c"]),
            ("GRANT pg_read_all_data TO b WITH ADMIN OPTION;", &["b"]),
            (
                "ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA s GRANT SELECT ON TABLES  TO r;",
                &["app", "r"],
            ),
            (
                "ALTER DEFAULT PRIVILEGES FOR ROLE app REVOKE ALL ON TABLES FROM app;",
                &["app", "app"],
            ),
            (
                "CREATE POLICY p ON t FOR SELECT TO a, \"B\" USING ((x = 'a",
                &["a", "B"],
            ),
            ("CREATE POLICY p ON t AS RESTRICTIVE USING (true);", &[]),
            ("CREATE SCHEMA s AUTHORIZATION app;", &["app"]),
            ("CREATE SCHEMA s;", &[]),
            ("CREATE USER MAPPING FOR u SERVER s OPTIONS (", &["u"]),
            ("ALTER ROLE r IN DATABASE d SET x TO 'y';", &["r"]),
            ("ALTER ROLE ALL SET x TO 'y';", &[]),
        ];
        for (text, expected) in table {
            assert_eq!(&roles(text), expected, "{text}");
        }
    }

    #[test]
    fn statements_about_roles_and_databases_are_classified() {
        let name = |text: &str| text.as_bytes().to_vec();
        let none = || Subject::Roles(Vec::new());
        let table = [
            ("CREATE ROLE App;", Subject::CreateRole(name("app"))),
            (
                "CREATE USER x PASSWORD 'y';",
                Subject::CreateRole(name("x")),
            ),
            (
                "CREATE DATABASE \"A b\" WITH TEMPLATE = template0 OWNER = o;",
                Subject::CreateDatabase(name("A b"), Some(name("o"))),
            ),
            (
                "DROP DATABASE IF EXISTS d;",
                Subject::DropDatabase(name("d")),
            ),
            ("DROP DATABASE d;", Subject::DropDatabase(name("d"))),
            ("DROP TABLE d;", none()),
            (
                "SET SESSION AUTHORIZATION 'x';",
                Subject::SessionAuthorization(Some(name("x"))),
            ),
            (
                "SET SESSION AUTHORIZATION DEFAULT;",
                Subject::SessionAuthorization(None),
            ),
            (
                "RESET SESSION AUTHORIZATION;",
                Subject::SessionAuthorization(None),
            ),
            ("SET row_security = off;", none()),
            ("CREATE TABLE t (", none()),
            ("INSERT INTO t VALUES ('OWNER TO x');", none()),
            ("GRANT", none()),
            ("CREATE ROLE", none()),
            ("CREATE ROLE \"public\";", none()),
        ];
        for (text, expected) in table {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }
}
