//! `mobula inspect`: what a model takes and gives, or which columns files have.

use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::kernel::schema::type_name;
use crate::prelude::*;
use crate::progress::count_text;
use clap::Args;

use super::args::{self, Format};
use super::failure::Failure;

/// Show the inputs and outputs of a model, or the columns and first rows of files
///
/// The inputs of a model and the columns of files are what `mobula predict --columns input=column` brings together.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// An ONNX model (*.onnx), or data: a file, a folder or a pattern in quotes
    #[arg(value_name = "PATH", value_parser = args::path)]
    path: String,
    /// First rows of the files to show
    #[arg(long, value_name = "N", default_value_t = 3)]
    rows: u64,
}

impl Inspect {
    /// Prints what is there.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let is_model = Path::new(&self.path).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"));
        let text = if is_model { self.model()? } else { self.data()? };
        let mut stdout = std::io::stdout();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            // A reader that has closed the pipe has seen enough.
            Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::Print(e)),
            _ => Ok(()),
        }
    }

    fn model(&self) -> Result<String, Failure> {
        let signature = Onnx::file(&self.path).signature().map_err(crate::Error::from)?;
        let inputs = signature.inputs.iter().map(|tensor| ("input", tensor));
        let outputs = signature.outputs.iter().map(|tensor| ("output", tensor));
        let tensors: Vec<_> = inputs.chain(outputs).collect();
        let width = tensors.iter().map(|(_, tensor)| tensor.name.len()).max().unwrap_or(0);
        let lines = tensors.iter().map(|(role, tensor)| format!("{role:<6}  {:<width$}  {tensor}\n", tensor.name));
        Ok(lines.collect())
    }

    fn data(&self) -> Result<String, Failure> {
        let session = Session::local()?;
        let format = Format::of_paths(std::slice::from_ref(&self.path)).map_err(Failure::Usage)?;
        let data = match format {
            Format::Parquet => session.read_parquet(&self.path)?,
            Format::Csv => session.read_csv(&self.path)?,
            Format::Json => session.read_json(&self.path)?,
        };
        let schema = data.schema()?;
        let width = schema.fields().iter().map(|field| field.name().len()).max().unwrap_or(0);
        let columns = schema.fields().iter().map(|f| format!("{:<width$}  {}\n", f.name(), type_name(f.data_type())));
        let mut text = format!("{} rows\n{}", count_text(data.count()?), columns.collect::<String>());
        if self.rows > 0 {
            text += &format!("\n{}\n", data.show_string(self.rows)?.trim_end());
        }
        Ok(text)
    }
}
