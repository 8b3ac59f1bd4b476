//! The output of `pg_dump --schema-only`, by object.

use std::collections::BTreeMap;

use super::ObjectDiff;

/// Begins the line that says which object the statements after it are of.
const HEADER: &str = "-- Name: ";
/// Begins the last line.
const END: &str = "-- PostgreSQL database dump complete";
/// Lines that pg_dump writes between objects, by their order, and so not of one of them.
const BETWEEN: [&str; 5] = [
    "SET default_tablespace",
    "SET default_table_access_method",
    "SET default_with_oids",
    "\\restrict ",
    "\\unrestrict ",
];

/// The statements of a dump by object. Statements before the first object are left out.
pub(super) fn objects(dump: &str) -> BTreeMap<String, String> {
    let mut objects: BTreeMap<String, String> = BTreeMap::new();
    let mut current: Option<String> = None;
    let mut before = "";
    for line in dump.lines() {
        let header = line.strip_prefix(HEADER).filter(|_| before == "--");
        before = line;
        if let Some(header) = header {
            current = Some(object(header));
            continue;
        }
        if line.starts_with(END) {
            current = None;
        }
        let is_between = BETWEEN.iter().any(|between| line.starts_with(between));
        if let Some(object) = current.as_ref().filter(|_| !is_between) {
            let text = objects.entry(object.clone()).or_default();
            text.push_str(line);
            text.push('\n');
        }
    }
    for text in objects.values_mut() {
        *text = tidy(text);
    }
    objects.retain(|_, text| !text.is_empty());
    objects
}

/// `Name: polls; Type: TABLE; Schema: public; Owner: app` as `TABLE public.polls`.
fn object(header: &str) -> String {
    let (name, rest) = header.split_once("; Type: ").unwrap_or((header, ""));
    let (kind, rest) = rest.split_once("; Schema: ").unwrap_or((rest, "-"));
    let (schema, _) = rest.split_once("; Owner: ").unwrap_or((rest, ""));
    match schema {
        "-" => format!("{kind} {name}"),
        schema => format!("{kind} {schema}.{name}"),
    }
}

/// Without the comments around the header, and with at most one empty line between statements.
fn tidy(text: &str) -> String {
    let mut tidy = String::new();
    for line in text.lines().filter(|line| *line != "--") {
        let is_empty = line.is_empty();
        if is_empty && (tidy.is_empty() || tidy.ends_with("\n\n")) {
            continue;
        }
        tidy.push_str(line);
        tidy.push('\n');
    }
    tidy.trim_end().to_owned()
}

/// The objects that differ, by name.
pub(super) fn compare(
    a: &BTreeMap<String, String>,
    b: &BTreeMap<String, String>,
) -> Vec<ObjectDiff> {
    let mut all: Vec<&String> = a
        .keys()
        .chain(b.keys().filter(|key| !a.contains_key(*key)))
        .collect();
    // By name, so that the objects of a table stand beside it.
    all.sort_by_key(|object| {
        object
            .rsplit(' ')
            .next()
            .map(|name| (name.to_owned(), (*object).clone()))
    });
    all.into_iter()
        .filter(|object| a.get(*object) != b.get(*object))
        .map(|object| ObjectDiff {
            object: object.clone(),
            a: a.get(object).cloned(),
            b: b.get(object).cloned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict x\nSET statement_timeout = 0;\n\n\
        SET default_tablespace = '';\n\n\
        --\n-- Name: polls; Type: TABLE; Schema: public; Owner: app\n--\n\n\
        CREATE TABLE public.polls (\n    id integer\n);\n\n\nALTER TABLE public.polls OWNER TO app;\n\n\
        SET default_table_access_method = heap;\n\n\
        --\n-- Name: citext; Type: EXTENSION; Schema: -; Owner: -\n--\n\n\
        CREATE EXTENSION citext;\n\n\n\
        --\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict x\n";

    #[test]
    fn a_dump_is_split_by_object() {
        let found = objects(DUMP);
        let expected = [
            ("EXTENSION citext", "CREATE EXTENSION citext;"),
            (
                "TABLE public.polls",
                "CREATE TABLE public.polls (\n    id integer\n);\n\nALTER TABLE public.polls OWNER TO app;",
            ),
        ];
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(objects("garbage\n\n-- Name: x"), BTreeMap::new());
    }

    #[test]
    fn objects_that_differ_are_told_with_their_statements() {
        let a = objects(DUMP);
        let mut b = a.clone();
        b.remove("EXTENSION citext");
        b.insert(
            "INDEX public.polls_id".to_owned(),
            "CREATE INDEX".to_owned(),
        );
        b.insert("TABLE public.polls".to_owned(), "other".to_owned());
        let names = |found: Vec<ObjectDiff>| -> Vec<String> {
            let sides = |diff: ObjectDiff| {
                format!("{} {} {}", diff.object, diff.a.is_some(), diff.b.is_some())
            };
            found.into_iter().map(sides).collect()
        };
        assert_eq!(
            names(compare(&a, &b)),
            [
                "EXTENSION citext true false",
                "TABLE public.polls true true",
                "INDEX public.polls_id false true"
            ]
        );
        assert_eq!(compare(&a, &a), []);
    }
}
