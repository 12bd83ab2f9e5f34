//! Finds where the records of a text end: pure, byte by byte, with state between calls.

/// How records end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// At each line feed.
    Lines,
    /// At each line feed or carriage return that is not within quotes, as in CSV.
    Quoted {
        /// What stands between fields: only there do quotes begin.
        delimiter: u8,
    },
}

/// Where the scan of a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    FieldStart,
    Field,
    Quoted,
    /// Behind a quote within quotes: the end of the field, or the first of two that stand for one.
    Quote,
}

/// Finds the end of one record after the other.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    ends: Ends,
    state: State,
}

impl Records {
    pub(crate) fn new(ends: Ends) -> Self {
        Self { ends, state: State::default() }
    }

    /// The position behind the record's end in `bytes`, which go on where those of the call before ended. `None`: the
    /// record goes on behind `bytes`. `last` says that nothing follows them.
    pub(crate) fn end(&mut self, bytes: &[u8], last: bool) -> End {
        match self.ends {
            Ends::Lines => match bytes.iter().position(|&byte| byte == b'\n') {
                Some(at) => End::At(at + 1),
                None => End::Beyond { seen: bytes.len() },
            },
            Ends::Quoted { delimiter } => self.quoted_end(bytes, delimiter, last),
        }
    }

    /// Whether a quote is open that began before what was looked at ended.
    pub(crate) fn is_quoted(&self) -> bool {
        self.state == State::Quoted
    }

    fn quoted_end(&mut self, bytes: &[u8], delimiter: u8, last: bool) -> End {
        for (at, &byte) in bytes.iter().enumerate() {
            let outside = self.state != State::Quoted;
            if outside && byte == b'\n' {
                self.state = State::FieldStart;
                return End::At(at + 1);
            }
            if outside && byte == b'\r' {
                let next = bytes.get(at + 1);
                if next.is_none() && !last {
                    // A line feed may follow, and then belongs to this end.
                    return End::Beyond { seen: at };
                }
                self.state = State::FieldStart;
                return End::At(at + 1 + usize::from(next == Some(&b'\n')));
            }
            self.state = match (self.state, byte) {
                (State::FieldStart, b'"') | (State::Quote, b'"') => State::Quoted,
                (State::Quoted, b'"') => State::Quote,
                (State::Quoted, _) => State::Quoted,
                (_, byte) if byte == delimiter => State::FieldStart,
                _ => State::Field,
            };
        }
        End::Beyond { seen: bytes.len() }
    }
}

/// Where a record ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Behind this many bytes.
    At(usize),
    /// Not in these bytes, of which `seen` need not be given again.
    Beyond { seen: usize },
}

/// Whether a record is none: an empty line, which all readers skip.
pub(crate) fn is_blank(record: &[u8], ends: Ends) -> bool {
    match ends {
        Ends::Lines => record.iter().all(u8::is_ascii_whitespace),
        Ends::Quoted { .. } => record.iter().all(|byte| matches!(byte, b'\r' | b'\n')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The records of a text that comes in pieces of `step` bytes.
    fn records(text: &str, ends: Ends, step: usize) -> Vec<String> {
        let bytes = text.as_bytes();
        let (mut start, mut seen, mut given) = (0, 0, 0);
        let mut scan = Records::new(ends);
        let mut found = Vec::new();
        while start < bytes.len() {
            match scan.end(&bytes[seen..given], given == bytes.len()) {
                End::At(at) => {
                    found.push(text[start..seen + at].to_owned());
                    (start, seen) = (seen + at, seen + at);
                }
                End::Beyond { seen: more } if given < bytes.len() => {
                    seen += more;
                    given = bytes.len().min(given + step);
                }
                End::Beyond { .. } => {
                    found.push(text[start..].to_owned());
                    break;
                }
            }
        }
        found
    }

    #[test]
    fn quotes_hide_line_ends() {
        let text = "a,\"b\nc\"\nd,\"e\"\"\n\",f\r\ng\"h\ni\rj";
        let expected = ["a,\"b\nc\"\n", "d,\"e\"\"\n\",f\r\n", "g\"h\n", "i\r", "j"];
        for step in 1..30 {
            assert_eq!(records(text, Ends::Quoted { delimiter: b',' }, step), expected, "step {step}");
        }
    }

    proptest! {
        #[test]
        fn records_are_those_of_the_csv_reader(text in "[ab,\"\r\n]{0,40}", step in 1usize..9) {
            let ends = Ends::Quoted { delimiter: b',' };
            let ours: Vec<_> = records(&text, ends, step).into_iter().filter(|r| !is_blank(r.as_bytes(), ends)).collect();
            // Decoded one by one, each record is exactly one for the reader, and nothing is left over.
            for record in &ours {
                let fields = record.len() + 1;
                let schema = arrow::datatypes::Schema::new((0..fields).map(|i| {
                    arrow::datatypes::Field::new(i.to_string(), arrow::datatypes::DataType::Utf8, true)
                }).collect::<Vec<_>>());
                let reader = arrow::csv::ReaderBuilder::new(std::sync::Arc::new(schema)).with_truncated_rows(true);
                let rows: usize = reader.build(record.as_bytes()).unwrap().map(|b| b.unwrap().num_rows()).sum();
                prop_assert_eq!(rows, 1, "{:?}", record);
            }
        }
    }
}
