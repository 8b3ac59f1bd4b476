//! Finds the end of a statement by its words.

/// Whether a word can begin with this byte.
pub(super) fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// Whether a word can contain this byte.
pub(super) fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// The words of a statement so far, as far as they matter.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// The number of words.
    count: usize,
    /// Something else than whitespace and comments has come.
    any: bool,
    /// It is a COPY.
    is_copy: bool,
    /// The first letters of the words that begin a `CREATE OR REPLACE FUNCTION`, or 0.
    first: [u8; 4],
    /// The open parentheses.
    depth: u32,
    /// The open `BEGIN ATOMIC` and `CASE`, whose statements are part of this one.
    begins: u32,
    /// The last token was `FROM`, outside parentheses.
    after_from: bool,
    /// It reads from the script.
    from_stdin: bool,
}

impl Words {
    /// Whether nothing has come.
    pub(super) fn is_empty(&self) -> bool {
        !self.any
    }

    /// Whether a semicolon ends the statement.
    pub(super) fn is_end(&self) -> bool {
        self.depth == 0 && self.begins == 0
    }

    /// Whether the statement is a `COPY … FROM stdin`.
    pub(super) fn is_copy_from_stdin(&self) -> bool {
        self.is_copy && self.from_stdin
    }

    /// A token that is no word.
    pub(super) fn symbol(&mut self, byte: u8) {
        self.any = true;
        self.after_from = false;
        match byte {
            b'(' => self.depth = self.depth.saturating_add(1),
            b')' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    pub(super) fn word(&mut self, word: &[u8]) {
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword.as_bytes());
        self.any = true;
        if self.count == 0 {
            self.is_copy = is("copy");
        }
        let begins_function = ["create", "function", "procedure", "or", "replace"];
        if begins_function.into_iter().any(is)
            && let Some(first) = self.first.get_mut(self.count)
        {
            *first = word
                .first()
                .copied()
                .unwrap_or_default()
                .to_ascii_lowercase();
        }
        self.count += 1;
        if self.depth > 0 {
            return;
        }
        if self.is_function() {
            if is("begin") || (is("case") && self.begins > 0) {
                self.begins = self.begins.saturating_add(1);
            } else if is("end") {
                self.begins = self.begins.saturating_sub(1);
            }
        }
        if self.is_copy {
            self.from_stdin |= self.after_from && is("stdin");
            self.after_from = is("from");
        }
    }

    fn is_function(&self) -> bool {
        matches!(
            self.first,
            [b'c', b'f' | b'p', ..] | [b'c', b'o', b'r', b'f' | b'p']
        )
    }
}
