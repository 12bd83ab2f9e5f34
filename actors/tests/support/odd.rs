//! An operator that does what nobody wants of one, where and when it is told to.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, StringArray};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use mobula_actors::operator::{IntoOperator, ObjectName, OpenContext, Operator, OperatorResult, OperatorSpec, Output};
use serde::{Deserialize, Serialize};

use crate::support::{numbers, values};

/// The variable that makes this program forget its role.
pub(crate) const FORGETFUL: &str = "MOBULA_TEST_FORGETFUL";

/// What it does with its numbers. `at` is the number at which it does so, `file` one that tells of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Deed {
    Nothing,
    Abort {
        at: i64,
    },
    AbortOnce {
        at: i64,
        file: PathBuf,
    },
    AbortInOpen,
    Crash {
        at: i64,
    },
    Overflow {
        at: i64,
    },
    Exit {
        at: i64,
    },
    Panic {
        at: i64,
    },
    /// Fails once, and writes the process there that failed; its last number then is the process that did not.
    FailOnce {
        at: i64,
        file: PathBuf,
        panics: bool,
    },
    Hang {
        at: i64,
        file: Option<PathBuf>,
    },
    /// Takes so many bytes for each number above this one.
    Take {
        bytes: u64,
        above: i64,
    },
    /// Logs a line.
    Log {
        at: i64,
    },
    /// Makes a text of so many bytes.
    Blow {
        bytes: u64,
    },
    /// Makes lengths of texts.
    Measure,
    /// Makes of each batch one without rows, one of other columns, one without columns, and itself.
    Vary,
    /// Keeps the numbers that three divides, of batches that have some.
    Unvary,
    /// Adds the first byte of an object.
    Read {
        object: ObjectName,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Odd {
    pub(crate) deed: Deed,
}

impl Odd {
    pub(crate) fn spec(self) -> OperatorSpec {
        self.into_operator().labelled("odd")
    }
}

#[mobula_actors::operator(crate = mobula_actors, name = "test/odd@1")]
impl Operator for Odd {
    fn open(&mut self, ctx: &OpenContext) -> OperatorResult {
        match &self.deed {
            Deed::AbortInOpen => std::process::abort(),
            Deed::Read { object } => {
                let first = ctx.shared.object(object)?.first().copied().ok_or("it is empty")?;
                // Kept where `process` finds it.
                self.deed = Deed::Take { bytes: 0, above: i64::from(first) };
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        println!("what is printed does not disturb the answers");
        match &self.deed {
            Deed::Take { bytes: 0, above } => out.emit(numbers(values(&batch).into_iter().map(|n| n + above))),
            Deed::Blow { bytes } => out.emit(text(*bytes)?),
            Deed::Measure => {
                let lengths = batch.column(0).as_string::<i32>().iter().flatten().map(|text| text.len() as i64);
                out.emit(numbers(lengths));
            }
            Deed::Vary => vary(batch, out)?,
            Deed::Unvary => unvary(&batch, out),
            Deed::FailOnce { at, file, panics } if values(&batch).contains(at) => {
                let process = i64::from(std::process::id());
                if is_first(file, &process.to_string())? {
                    assert!(!panics, "it was told to");
                    return Err("it was told to".into());
                }
                let before = values(&batch).into_iter();
                out.emit(numbers(before.map(|n| if n == 9_999 { process } else { n })));
            }
            deed => {
                misbehave(deed, &values(&batch))?;
                out.emit(batch);
            }
        }
        Ok(())
    }
}

fn misbehave(deed: &Deed, here: &[i64]) -> OperatorResult {
    match deed {
        Deed::Log { at } if here.contains(at) => {
            mobula_actors::logs::capture(tracing::Level::WARN, "odd", |text| write!(text, "row {at} looks odd"));
        }
        Deed::Abort { at } if here.contains(at) => {
            eprintln!("about to abort");
            std::process::abort();
        }
        Deed::AbortOnce { at, file } if here.contains(at) && is_first(file, "")? => std::process::abort(),
        Deed::Crash { at } if here.contains(at) => {
            eprintln!("about to crash");
            raise_segv();
        }
        Deed::Overflow { at } if here.contains(at) => assert!(deeper(0) > 0),
        Deed::Exit { at } if here.contains(at) => {
            eprintln!("about to exit");
            std::process::exit(3);
        }
        Deed::Panic { at } if here.contains(at) => panic!("row {at} is odd"),
        Deed::Hang { at, file } if here.contains(at) => {
            if let Some(file) = file {
                is_first(file, &format!("{}\n", std::process::id()))?;
            }
            loop {
                std::hint::spin_loop();
            }
        }
        Deed::Take { bytes, above } => {
            let rows = here.iter().filter(|n| *n >= above).count();
            std::hint::black_box(vec![1u8; rows * *bytes as usize]);
        }
        _ => {}
    }
    Ok(())
}

/// Whether nobody was here before; then the file holds `text`.
fn is_first(file: &Path, text: &str) -> std::io::Result<bool> {
    match OpenOptions::new().write(true).create_new(true).open(file) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn raise_segv() {
    let own = rustix::process::getpid();
    loop {
        // The handler of Rust's runtime takes the first one: it is no fault of the stack, so the next one kills.
        rustix::process::kill_process(own, rustix::process::Signal::SEGV).expect("a signal to oneself");
    }
}

#[allow(unconditional_recursion, reason = "it is to overflow the stack")]
fn deeper(depth: u64) -> u64 {
    let here = std::hint::black_box([depth; 512]);
    deeper(depth + 1) + here[0]
}

fn text(bytes: u64) -> OperatorResult<RecordBatch> {
    let text: ArrayRef = Arc::new(StringArray::from_iter_values(["x".repeat(bytes as usize)]));
    Ok(RecordBatch::try_from_iter([("n", text)])?)
}

fn vary(batch: RecordBatch, out: &mut Output) -> OperatorResult {
    let other: ArrayRef = Arc::new(Int32Array::from(vec![7; 2]));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let none = RecordBatch::try_new_with_options(Arc::new(arrow::datatypes::Schema::empty()), Vec::new(), &options)?;
    out.emit(batch.slice(0, 0));
    out.emit(RecordBatch::try_from_iter([("m", other)])?);
    out.emit(none);
    out.emit(batch);
    Ok(())
}

fn unvary(batch: &RecordBatch, out: &mut Output) {
    if batch.schema().index_of("n").is_ok() {
        out.emit(numbers(values(batch).into_iter().filter(|n| n % 3 == 0)));
    }
}
