//! One line about a running job, for logs and other places that are not a terminal.

use mobula_actors::job::{JobSummary, OperatorState, OperatorStats};

use super::human;

/// A job now, in one line: `[3.4 s] read_parquet: 1,797 of 1,797 rows, done | predict: 1,200 rows`.
///
/// ```
/// use mobula::progress::{JobSummary, progress_line};
/// assert_eq!(progress_line(&JobSummary::default()), "[0 s] starting");
/// ```
pub fn progress_line(summary: &JobSummary) -> String {
    let operators: Vec<String> = summary.operators.iter().map(operator).collect();
    let operators = if operators.is_empty() { "starting".to_owned() } else { operators.join(" | ") };
    format!("[{}] {operators}", human::time(summary.elapsed))
}

fn operator(stats: &OperatorStats) -> String {
    format!("{}: {}", stats.name, state(stats))
}

/// How far an operator is: rows, retries, inputs given up, and that it is done.
pub(super) fn state(stats: &OperatorStats) -> String {
    if stats.state == OperatorState::Waiting {
        return "waiting".to_owned();
    }
    let rows = human::count(stats.rows_in.0);
    let mut text = match (stats.rows_total, stats.tasks_total) {
        (Some(total), _) => format!("{rows} of {} rows", human::count(total.0)),
        (None, Some(total)) => format!("{rows} rows, {} of {} tasks", human::count(stats.tasks), human::count(total)),
        (None, None) => format!("{rows} rows"),
    };
    let notes = [(stats.retries, "retried"), (stats.skipped_count, "skipped")];
    for (number, what) in notes.into_iter().filter(|(number, _)| *number > 0) {
        text += &format!(", {} {what}", human::count(number));
    }
    if stats.state == OperatorState::Done {
        text += ", done";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::samples;

    #[test]
    fn a_line_says_how_far_each_operator_is() {
        let expected = "[500 ms] read_parquet: 1,797 of 1,797 rows, done | \
                        predict digits_mlp.onnx: 1,200 rows, 1 retried";
        assert_eq!(progress_line(&samples::running()), expected);
    }

    #[test]
    fn an_operator_without_known_rows_counts_its_tasks() {
        let stats =
            OperatorStats { state: OperatorState::Running, tasks: 3, tasks_total: Some(9), ..Default::default() };
        assert_eq!(state(&stats), "0 rows, 3 of 9 tasks");
        assert_eq!(state(&OperatorStats::default()), "waiting");
    }
}
