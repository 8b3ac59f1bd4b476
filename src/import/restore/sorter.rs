//! The rows of a table in the order of its primary key, so that two dumps of it share blocks regardless of the updates
//! between them.
//!
//! Rows that do not fit into memory are kept in sorted runs, in files without a name.

use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memchr_iter;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::CHUNK_BYTES;
use super::row_order::{Prefix, compare, is_whole, prefix};
use crate::import::script::nameless_file;

/// The memory of one run. Two are in memory at once: one is filled while the other is sorted and written.
pub(super) const RUN_BYTES_MAX: usize = 128 << 20;
/// The chunks that are queued before they are sent.
const CHUNKS_MAX: usize = 8;
/// The memory of all readers of runs, and the least of one.
const READERS_BYTES: usize = 64 << 20;
const READER_BYTES_MIN: usize = 64 << 10;

/// The sorted rows, in chunks. An error is the last of them.
pub(super) type SortedRows = mpsc::Receiver<io::Result<Vec<u8>>>;

/// The positions of the key's columns in a row.
type Columns = Arc<[usize]>;

/// Sorts the rows of one table.
pub(super) struct RowSorter {
    columns: Columns,
    /// For the files of the runs.
    directory: PathBuf,
    run_bytes_max: usize,
    run: Run,
    /// The run before, which is being written, with its memory.
    writing: Option<AbortOnDropHandle<io::Result<(File, Run)>>>,
    written: Vec<File>,
    /// An empty run, whose memory is used again.
    spare: Run,
}

/// The result of pushing rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// They will be sorted.
    Taken,
    /// They contain a row that is too long to be held in memory. The rows from it on cannot be sorted.
    RowTooLong,
}

/// Rows that are sorted in memory.
#[derive(Default)]
struct Run {
    text: Vec<u8>,
    rows: Vec<Row>,
    /// Where the row begins that is not complete yet.
    open: usize,
    /// A row came that belongs before another one.
    is_out_of_order: bool,
}

/// The place of a row in the text of its run.
#[derive(Clone, Copy)]
struct Row {
    prefix: Prefix,
    begin: u32,
    end: u32,
}

impl RowSorter {
    /// A sorter by these columns, counted from 0, that keeps its files in a directory.
    pub(super) fn new(columns: Vec<usize>, directory: &Path) -> Self {
        Self::with_memory(columns, directory, RUN_BYTES_MAX)
    }

    fn with_memory(columns: Vec<usize>, directory: &Path, run_bytes_max: usize) -> Self {
        Self {
            columns: columns.into(),
            directory: directory.to_owned(),
            run_bytes_max,
            run: Run::default(),
            writing: None,
            written: Vec::new(),
            spare: Run::default(),
        }
    }

    /// Takes some rows, which may begin and end within one.
    pub(super) async fn push(&mut self, rows: &[u8]) -> io::Result<Pushed> {
        self.run.push(rows, &self.columns);
        if self.run.bytes() < self.run_bytes_max {
            return Ok(Pushed::Taken);
        }
        if self.run.open_bytes() >= self.run_bytes_max / 2 {
            return Ok(Pushed::RowTooLong);
        }
        self.end_writing().await?;
        let full = self.run.split_off(std::mem::take(&mut self.spare));
        let (columns, directory) = (self.columns.clone(), self.directory.clone());
        let write = move || full.write(&columns, &directory);
        let writing = tokio::task::spawn_blocking(write);
        self.writing = Some(AbortOnDropHandle::new(writing));
        Ok(Pushed::Taken)
    }

    async fn end_writing(&mut self) -> io::Result<()> {
        if let Some(writing) = self.writing.take() {
            let (file, run) = writing.await??;
            self.written.push(file);
            self.spare = run;
        }
        Ok(())
    }

    /// All rows in their order, and behind them the rest that is no complete row.
    pub(super) async fn finish(mut self) -> io::Result<SortedRows> {
        self.end_writing().await?;
        // Its memory is for the readers.
        self.spare = Run::default();
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        tokio::task::spawn_blocking(move || {
            let mut chunks = Chunks::new(sender);
            let sent = self.send(&mut chunks);
            chunks.end(sent);
        });
        Ok(receiver)
    }

    fn send(self, chunks: &mut Chunks) -> io::Result<()> {
        let Self {
            columns,
            mut run,
            written,
            ..
        } = self;
        run.sort(&columns);
        if written.is_empty() {
            run.rows().try_for_each(|row| chunks.push(row))?;
        } else {
            let reader_bytes = (READERS_BYTES / written.len()).max(READER_BYTES_MIN);
            let readers = written
                .into_iter()
                .map(|file| Source::File(BufReader::with_capacity(reader_bytes, file)));
            let in_memory = Source::Memory(Box::new(run.rows()));
            merge(readers.chain([in_memory]), &columns, chunks)?;
        }
        chunks.push(run.open_row())
    }
}

impl Run {
    /// The memory that it takes.
    fn bytes(&self) -> usize {
        self.text.len() + self.rows.len() * size_of::<Row>()
    }

    fn open_bytes(&self) -> usize {
        self.text.len() - self.open
    }

    fn open_row(&self) -> &[u8] {
        &self.text[self.open..]
    }

    fn push(&mut self, text: &[u8], columns: &[usize]) {
        let before = self.text.len();
        self.text.extend_from_slice(text);
        for feed in memchr_iter(b'\n', text) {
            let end = before + feed + 1;
            let row = &self.text[self.open..end];
            if !is_whole(row) {
                continue;
            }
            let prefix = prefix(row, columns);
            // A run is far below 4 GiB.
            let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            let row = Row {
                prefix,
                begin: place(self.open),
                end: place(end),
            };
            if let Some(last) = self.rows.last()
                && last.prefix >= row.prefix
            {
                self.is_out_of_order = true;
            }
            self.rows.push(row);
            self.open = end;
        }
    }

    /// Takes the complete rows off, and goes on in an empty run.
    fn split_off(&mut self, mut empty: Self) -> Self {
        empty.text.extend_from_slice(self.open_row());
        self.text.truncate(self.open);
        std::mem::replace(self, empty)
    }

    fn clear(&mut self) {
        self.text.clear();
        self.rows.clear();
        (self.open, self.is_out_of_order) = (0, false);
    }

    fn sort(&mut self, columns: &[usize]) {
        if !self.is_out_of_order {
            return;
        }
        let text = &self.text;
        self.rows.sort_unstable_by(|a, b| {
            let by_prefix = a.prefix.cmp(&b.prefix);
            by_prefix.then_with(|| compare(a.text(text), b.text(text), columns))
        });
    }

    fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.rows.iter().map(|row| row.text(&self.text))
    }

    /// Sorts it, writes it to a file, and empties it.
    fn write(mut self, columns: &[usize], directory: &Path) -> io::Result<(File, Self)> {
        self.sort(columns);
        let mut writer = BufWriter::with_capacity(READER_BYTES_MIN, nameless_file(directory)?);
        self.rows().try_for_each(|row| writer.write_all(row))?;
        let mut file = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        self.clear();
        Ok((file, self))
    }
}

impl Row {
    fn text(self, text: &[u8]) -> &[u8] {
        &text[self.begin as usize..self.end as usize]
    }
}

/// Where the rows of a run are.
enum Source<'a> {
    File(BufReader<File>),
    Memory(Box<dyn Iterator<Item = &'a [u8]> + 'a>),
}

impl Source<'_> {
    /// Reads its next row. It is empty at the end.
    fn read(&mut self, row: &mut Vec<u8>) -> io::Result<()> {
        row.clear();
        match self {
            Self::Memory(rows) => row.extend_from_slice(rows.next().unwrap_or_default()),
            Self::File(file) => while file.read_until(b'\n', row)? > 0 && !is_whole(row) {},
        }
        Ok(())
    }
}

/// The next row of a run. The row that comes first is the greatest.
struct Next<'a> {
    prefix: Prefix,
    row: Vec<u8>,
    columns: &'a [usize],
    source: Source<'a>,
}

impl<'a> Next<'a> {
    fn read(
        mut source: Source<'a>,
        mut row: Vec<u8>,
        columns: &'a [usize],
    ) -> io::Result<Option<Self>> {
        source.read(&mut row)?;
        let next = Self {
            prefix: prefix(&row, columns),
            row,
            columns,
            source,
        };
        Ok((!next.row.is_empty()).then_some(next))
    }
}

impl Ord for Next<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let by_prefix = other.prefix.cmp(&self.prefix);
        by_prefix.then_with(|| compare(&other.row, &self.row, self.columns))
    }
}

impl PartialOrd for Next<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Next<'_> {}

fn merge<'a>(
    sources: impl Iterator<Item = Source<'a>>,
    columns: &'a [usize],
    chunks: &mut Chunks,
) -> io::Result<()> {
    let mut heap = BinaryHeap::new();
    for source in sources {
        heap.extend(Next::read(source, Vec::new(), columns)?);
    }
    while let Some(first) = heap.pop() {
        chunks.push(&first.row)?;
        heap.extend(Next::read(first.source, first.row, columns)?);
    }
    Ok(())
}

/// Puts rows together to chunks and queues them.
struct Chunks {
    chunk: Vec<u8>,
    sender: mpsc::Sender<io::Result<Vec<u8>>>,
}

impl Chunks {
    fn new(sender: mpsc::Sender<io::Result<Vec<u8>>>) -> Self {
        Self {
            chunk: Vec::with_capacity(CHUNK_BYTES),
            sender,
        }
    }

    fn push(&mut self, row: &[u8]) -> io::Result<()> {
        if !self.chunk.is_empty() && self.chunk.len() + row.len() > CHUNK_BYTES {
            let full = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
            // The receiver is gone once the import has failed.
            self.sender
                .blocking_send(Ok(full))
                .map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        self.chunk.extend_from_slice(row);
        Ok(())
    }

    fn end(self, sent: io::Result<()>) {
        let _ = self.sender.blocking_send(sent.map(|()| self.chunk));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The sorted rows of these pieces with so much memory for a run, and the index of a piece with a row that is too
    /// long.
    fn sort(pieces: &[&[u8]], columns: &[usize], run_bytes_max: usize) -> (Vec<u8>, Option<usize>) {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let sorted = runtime.block_on(async {
            let mut sorter =
                RowSorter::with_memory(columns.to_vec(), directory.path(), run_bytes_max);
            let mut too_long = None;
            for (number, piece) in pieces.iter().enumerate() {
                if sorter.push(piece).await.unwrap() == Pushed::RowTooLong {
                    too_long = Some(number);
                    break;
                }
            }
            let mut chunks = sorter.finish().await.unwrap();
            let mut all = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                all.extend(chunk.unwrap());
            }
            (all, too_long)
        });
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            0,
            "its files have no names"
        );
        sorted
    }

    fn sorted(text: &str, columns: &[usize]) -> String {
        let (sorted, too_long) = sort(&[text.as_bytes()], columns, 1 << 20);
        assert_eq!(too_long, None);
        String::from_utf8(sorted).unwrap()
    }

    #[test]
    fn keys_are_ordered_as_numbers_and_then_as_texts() {
        let text = "b\n100\n-2\n9\n\\N\n-10\n10\na\n\n007\n-\n1.5\n99999999999999999999999999999\n";
        let expected =
            "-10\n-2\n9\n10\n007\n100\n99999999999999999999999999999\n\n-\n1.5\n\\N\na\nb\n";
        assert_eq!(sorted(text, &[0]), expected);
        assert_eq!(
            sorted("1\tb\t2\n2\ta\t10\n3\ta\t9\n", &[1, 2]),
            "3\ta\t9\n2\ta\t10\n1\tb\t2\n"
        );
        // A value is not continued by the next one.
        assert_eq!(
            sorted("ab\tc\na\tbd\na\tbc\n", &[0, 1]),
            "a\tbc\na\tbd\nab\tc\n"
        );
    }

    #[test]
    fn line_feed_in_a_value_ends_no_row() {
        assert_eq!(
            sorted("2\tx\\\n0\n1\ty\\\\\n", &[0]),
            "1\ty\\\\\n2\tx\\\n0\n"
        );
    }

    /// The runtime waits for its threads when it is dropped, so this ends only if they do.
    #[test]
    fn sorting_ends_with_its_import() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let rows: String = (0..200_000).rev().map(|row| format!("{row}\n")).collect();
        runtime.block_on(async {
            let sorter = || RowSorter::with_memory(vec![0], directory.path(), 1 << 20);
            let (mut dropped, mut read) = (sorter(), sorter());
            for sorter in [&mut dropped, &mut read] {
                assert_eq!(sorter.push(rows.as_bytes()).await.unwrap(), Pushed::Taken);
            }
            assert!(dropped.writing.is_some());
            drop(dropped);
            let mut chunks = read.finish().await.unwrap();
            assert!(chunks.recv().await.unwrap().unwrap().starts_with(b"0\n1\n"));
        });
        drop(runtime);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn row_that_is_too_long_ends_the_order_and_nothing_is_lost() {
        let long = [b'x'; 1000];
        let (out, too_long) = sort(&[b"2\n1\n3\t", &long, b"never taken"], &[0], 1000);
        assert_eq!(too_long, Some(1));
        assert_eq!(out, [b"1\n2\n3\t".as_slice(), &long].concat());
    }

    proptest! {
        #[test]
        fn rows_are_the_same_and_in_one_order_whatever_the_memory(
            rows in prop::collection::vec(("-?[0-9]{0,4}|[ab\\\\]{0,20}", "[a-c]{0,3}", "[x\\\\]{0,3}"), 0..60),
            (piece, memory) in (1..40_usize, 150..600_usize),
        ) {
            // A backslash at the end would join rows.
            let rows: Vec<String> =
                rows.iter().map(|(a, b, c)| format!("{a}\t{b}\t{c}.\n")).collect();
            let text = rows.concat();
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(piece).collect();
            let (in_runs, too_long) = sort(&pieces, &[0, 1], memory);
            prop_assert_eq!(too_long, None);
            let mut expected: Vec<&[u8]> = rows.iter().map(String::as_bytes).collect();
            expected.sort_by(|a, b| compare(a, b, &[0, 1]));
            let text = expected.concat();
            prop_assert_eq!(String::from_utf8_lossy(&in_runs), String::from_utf8_lossy(&text));
            let reversed: Vec<&[u8]> = rows.iter().rev().map(String::as_bytes).collect();
            prop_assert_eq!(sort(&reversed, &[0, 1], 1 << 20).0, in_runs);
        }
    }
}
