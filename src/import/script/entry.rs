//! The object that the next statements are about, by the comments of pg_dump and pg_restore.

/// An entry of a dump.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::import) struct Entry {
    /// Its number in the archive's table of contents.
    pub(in crate::import) number: Option<u64>,
    /// Its type, schema and name, such as `TABLE public.polls`.
    pub(in crate::import) object: Option<String>,
    /// It is the data of a table.
    pub(in crate::import) is_table_data: bool,
}

impl Entry {
    /// Reads a comment, which may begin an entry.
    pub(in crate::import) fn comment(&mut self, text: &[u8]) {
        if let Some(rest) = text.strip_prefix(b"-- TOC entry ") {
            let digits = rest.split(|byte| !byte.is_ascii_digit()).next();
            let number = std::str::from_utf8(digits.unwrap_or_default());
            *self = Self {
                number: number.ok().and_then(|number| number.parse().ok()),
                ..Self::default()
            };
            return;
        }
        if text.ends_with(b" dump complete") {
            *self = Self::default();
            return;
        }
        let data = text.strip_prefix(b"-- Data for Name: ");
        let Some(rest) = data.or_else(|| text.strip_prefix(b"-- Name: ")) else {
            return;
        };
        let rest = String::from_utf8_lossy(rest);
        let Some((name, rest)) = rest.split_once("; Type: ") else {
            return;
        };
        let (kind, rest) = rest.split_once("; Schema: ").unwrap_or((rest, ""));
        let schema = rest.split("; Owner: ").next().unwrap_or_default();
        let object = match schema {
            "" | "-" => format!("{kind} {name}"),
            schema => format!("{kind} {schema}.{name}"),
        };
        // The number belongs to this entry only if its comment came just before.
        let number = self.number.filter(|_| self.object.is_none());
        *self = Self {
            number,
            is_table_data: kind == "TABLE DATA",
            object: Some(object),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_that_of_the_last_comments() {
        let mut entry = Entry::default();
        for comment in [
            "--",
            "-- TOC entry 3344 (class 1259 OID 16390)",
            "-- Dependencies: 215 216",
            "-- Name: words; Type: MATERIALIZED VIEW DATA; Schema: public; Owner: app",
        ] {
            entry.comment(comment.as_bytes());
        }
        assert_eq!(entry.number, Some(3344));
        let object = entry.object.as_deref();
        assert_eq!(object, Some("MATERIALIZED VIEW DATA public.words"));
        entry.comment(b"-- Data for Name: a b; Type: TABLE DATA; Schema: s; Owner: app");
        assert!(entry.is_table_data);
        assert_eq!(entry.number, None);
        assert_eq!(entry.object.as_deref(), Some("TABLE DATA s.a b"));
        entry.comment(b"-- Name: EXTENSION x; Type: COMMENT; Schema: -; Owner: ");
        assert_eq!(entry.object.as_deref(), Some("COMMENT EXTENSION x"));
    }
}
