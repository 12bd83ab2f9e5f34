//! How a job looks while it runs and when it has ended: pictures of a job in, text out.
//!
//! It decides nothing and measures nothing: the numbers come from [`JobSummary`]. [`summary_table`] and
//! [`progress_line`] are pure; [`Painter`] puts them where they belong: bars on a terminal, plain lines elsewhere.
//! Start at [`Painter`].

mod bars;
mod human;
mod line;
mod log;
mod painter;
mod table;

pub use human::{count as count_text, time as time_text};
pub use line::progress_line;
pub use log::{log_node_to_stderr, log_to_stderr};
pub use mobula_actors::job::JobSummary;
pub use painter::{Painter, Style};
pub use table::{skipped_text, summary_table};

#[cfg(test)]
pub(crate) mod samples {
    //! Pictures of jobs for tests.

    use std::time::Duration;

    use mobula_actors::job::{JobSummary, OperatorState, OperatorStats};
    use mobula_actors::units::{Bytes, Rows};

    /// A finished read and a running model.
    pub(crate) fn running() -> JobSummary {
        let read = OperatorStats {
            name: "read_parquet".into(),
            steps: vec!["filter id > 5".to_owned()],
            state: OperatorState::Done,
            rows_in: Rows(1797),
            rows_out: Rows(1797),
            rows_total: Some(Rows(1797)),
            bytes_out: Bytes::kib(463),
            blocks_out: 12,
            tasks: 12,
            tasks_total: Some(12),
            workers_peak: 2,
            busy: Duration::from_millis(40),
            waited_room: Duration::from_millis(360),
            ..OperatorStats::default()
        };
        let model = OperatorStats {
            name: "predict digits_mlp.onnx".into(),
            state: OperatorState::Running,
            rows_in: Rows(1200),
            rows_out: Rows(1024),
            bytes_out: Bytes::kib(312),
            tasks: 8,
            retries: 1,
            workers: 2,
            workers_peak: 2,
            busy: Duration::from_millis(930),
            waited_input: Duration::from_millis(50),
            waited_lease: Duration::from_millis(20),
            ..OperatorStats::default()
        };
        let elapsed = Duration::from_millis(500);
        JobSummary { elapsed, operators: vec![read, model], blocks_bytes_peak: Bytes::mib(3), ..JobSummary::default() }
    }

    /// The same at its end, with two files given up.
    pub(crate) fn ended() -> JobSummary {
        let mut summary = running();
        summary.operators[0].skipped = vec!["data/a.parquet: truncated".into(), "data/b.parquet: no footer".into()];
        summary.operators[0].skipped_count = 2;
        summary.operators[1].state = OperatorState::Done;
        summary.operators[1].rows_in = Rows(1797);
        summary.operators[1].rows_out = Rows(1797);
        summary
    }
}
