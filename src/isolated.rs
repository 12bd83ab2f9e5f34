//! The role of a program that runs isolated operators of another process of its own kind.

use mobula_actors::isolated;
use tracing_subscriber::prelude::*;

use crate::cluster::operator_logs;

/// If this process was started to run an isolated operator, does that and does not come back; else does nothing.
///
/// A step that is marked by [`MapOptions::isolated`](crate::prelude::MapOptions::isolated) or
/// [`Onnx::isolated`](crate::predict::Onnx::isolated) runs in processes that are this program, started once more. So a
/// program with such a step has to know that role: [`mobula::main`](fn@crate::main) and
/// [`main_with`](crate::main_with) take it by themselves, and a `main` of one's own calls this first thing. One that does
/// not gets an error when the step opens, and no session starts in the process that was started in vain.
///
/// ```no_run
/// use mobula::prelude::*;
///
/// #[mobula::remote]
/// fn parse(batch: RecordBatch) -> OperatorResult<RecordBatch> {
///     Ok(batch) // by a C library that is not to be trusted with every file
/// }
///
/// fn main() -> mobula::Result<()> {
///     mobula::isolated_worker();
///     let limits = Isolation { memory: Some(Bytes::mib(512)), ..Isolation::default() };
///     let options = MapOptions { isolated: Some(limits), ..MapOptions::default() };
///     let rows = Session::local()?.read_parquet("in")?.map_batches_with(parse::map(), options)?.count()?;
///     println!("{rows} rows");
///     Ok(())
/// }
/// ```
pub fn isolated_worker() {
    isolated::isolated_worker(|level| {
        let logs = tracing_subscriber::registry().with(operator_logs(level));
        // Fails only if the program has its own logging already.
        let _ = tracing::subscriber::set_global_default(logs);
    });
}
