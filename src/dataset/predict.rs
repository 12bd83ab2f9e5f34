//! `predict`: a model on workers of its own.

use mobula_actors::job::{Resources, Workers};
use mobula_actors::operator::IntoOperator;

use super::{Dataset, batches};
use crate::error::{Error, Result};
use crate::plan::logical::{Effect, Kind, MapStep};
use crate::predict::Onnx;

/// Workers on GPUs unless the user says how many: each has a part of the memory for blocks, used or not.
const GPU_WORKERS_MAX: usize = 64;

impl Dataset {
    /// Runs a model over the rows: its outputs become columns behind those there are. The model is read and checked
    /// against the columns now; each node loads it once for all its workers, and keeps it for a while for the next job
    /// with the same model. Without [`Onnx::workers`] there is one worker at first and
    /// at most one for each core; with [`Onnx::resources`] that ask for GPUs, as many as the session has GPUs for.
    ///
    /// ```no_run
    /// use mobula::prelude::*;
    /// let digits = Session::local()?.read_parquet("digits/*.parquet")?;
    /// let labelled = digits.predict(Onnx::file("digits_mlp.onnx").batch_size(512).workers(1..=4))?;
    /// labelled.write_parquet("labels")?;
    /// # Ok::<(), mobula::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the model is missing or broken, or its inputs do not fit the columns, naming both.
    pub fn predict(&self, model: Onnx) -> Result<Self> {
        let input = self.plan.schema.as_ref().ok_or_else(|| {
            let reason = "the columns of its input are not known before it runs; declare them by MapOptions::schema";
            Error::invalid("predict", reason)
        })?;
        let checked = model.check_on(input, self.session.shared())?;
        let workers = match checked.workers() {
            Some(range) => batches::workers("predict", range)?,
            None => Workers { min: 1, max: self.workers_max(checked.resources().gpus) },
        };
        let resources = Some(checked.resources().clone()).filter(|wanted| *wanted != Resources::default());
        let (needs, schema) = (checked.input_columns().to_vec(), checked.schema());
        let step = MapStep {
            spec: checked.into_operator(),
            effect: Effect::Append { needs },
            workers: Some(workers),
            resources,
        };
        Ok(self.over(Kind::Map { input: self.plan.clone(), step }, Some(schema)))
    }

    /// One for each core, or as many as have the GPUs they ask for.
    fn workers_max(&self, gpus: f64) -> usize {
        if gpus > 0.0 {
            // Of shares, as many as fit on one device: two halves of two devices are none.
            let on_one = if gpus < 1.0 { (1.0 / gpus).floor() as usize } else { 1 };
            let devices = self.session.gpus() / gpus.ceil() as usize;
            return (devices * on_one).clamp(1, GPU_WORKERS_MAX);
        }
        self.session.cpus().max(1)
    }
}
