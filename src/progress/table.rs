//! The closing summary: a table with one line an operator, how long devices waited, what was given up, and what the job was bound by.

use mobula_actors::job::{DeviceStats, JobSummary, OperatorStats};

use super::human;

/// The summary of a job that has ended, as lines of text; the last one names what the job was bound by.
///
/// `busy` and `waited` are sums over an operator's workers; `share` is the part of both that they computed.
pub fn summary_table(summary: &JobSummary) -> String {
    let rows: Vec<_> = summary.operators.iter().flat_map(rows).collect();
    let mut lines = align(HEADER, &rows);
    lines.extend(summary.operators.iter().flat_map(devices));
    lines.extend(summary.operators.iter().flat_map(skipped));
    lines.extend(given_up(summary));
    lines.push(totals(summary));
    lines.push(bound_by(summary));
    lines.join("\n") + "\n"
}

/// What each operator of a job gave up, as lines of text; empty if nothing.
pub fn skipped_text(summary: &JobSummary) -> String {
    let lines = summary.operators.iter().flat_map(skipped).chain(given_up(summary));
    lines.map(|line| line + "\n").collect()
}

const COLUMNS: usize = 10;

const HEADER: [&str; COLUMNS] = [
    "operator",
    "rows in",
    "rows out",
    "bytes out",
    "tasks",
    "retries",
    "workers",
    "busy",
    "waited, mostly for",
    "share",
];

/// An operator, and below it the steps that were fused into it.
fn rows(stats: &OperatorStats) -> impl Iterator<Item = [String; COLUMNS]> {
    let step = |step: &String| {
        let mut cells = [const { String::new() }; COLUMNS];
        cells[0] = format!("-> {step}");
        cells
    };
    std::iter::once(cells(stats)).chain(stats.steps.iter().map(step))
}

fn cells(stats: &OperatorStats) -> [String; COLUMNS] {
    [
        stats.name.to_string(),
        human::count(stats.rows_in.0),
        human::count(stats.rows_out.0),
        stats.bytes_out.to_string(),
        human::count(stats.tasks),
        human::count(stats.retries),
        stats.workers_peak.to_string(),
        human::time(stats.busy),
        waited(stats),
        human::percent(stats.busy_share()),
    ]
}

/// How long the workers waited for input, for room downstream and for a cpu together, and which of them most.
fn waited(stats: &OperatorStats) -> String {
    let waits = [(stats.waited_input, "input"), (stats.waited_room, "room"), (stats.waited_lease, "cpu")];
    let all = waits.iter().map(|(time, _)| *time).sum();
    match waits.into_iter().max_by_key(|(time, _)| *time) {
        Some((most, reason)) if !most.is_zero() => format!("{} {reason}", human::time(all)),
        _ => human::time(all),
    }
}

/// The first column to the left, all others to the right.
fn align(header: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> Vec<String> {
    let header = header.map(str::to_owned);
    let all: Vec<&[String; COLUMNS]> = std::iter::once(&header).chain(rows).collect();
    let widths: Vec<usize> =
        (0..COLUMNS).map(|column| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &&[String; COLUMNS]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

/// Most reasons that are printed for one operator.
const REASONS_MAX: usize = 10;

/// Rows that were given up within the error budget.
fn given_up(summary: &JobSummary) -> Vec<String> {
    if summary.given_up == 0 {
        return Vec::new();
    }
    let mut lines = vec![format!("rows given up: {}", human::count(summary.given_up))];
    lines.extend(summary.dead_letters.iter().take(REASONS_MAX).map(|letter| format!("  {letter}")));
    let more = summary.given_up.saturating_sub(summary.dead_letters.len().min(REASONS_MAX) as u64);
    if more > 0 {
        lines.push(format!("  and {} more", human::count(more)));
    }
    lines
}

fn skipped(stats: &OperatorStats) -> Vec<String> {
    if stats.skipped_count == 0 {
        return Vec::new();
    }
    let mut lines = vec![format!("{} skipped {}:", stats.name, human::count(stats.skipped_count))];
    lines.extend(stats.skipped.iter().take(REASONS_MAX).map(|reason| format!("  {reason}")));
    let more = stats.skipped_count.saturating_sub(stats.skipped.len().min(REASONS_MAX) as u64);
    if more > 0 {
        lines.push(format!("  and {} more", human::count(more)));
    }
    lines
}

/// How each device of an operator spent its time, from its first run to its last.
fn devices(stats: &OperatorStats) -> Vec<String> {
    let line = |device: &DeviceStats| {
        let waited = human::percent_fine(device.waited_share());
        let time = human::time(device.busy + device.waited_input + device.waited_room);
        let memory = match device.out_of_memory {
            0 => String::new(),
            times => format!("; out of memory {} times", human::count(times)),
        };
        let (runs, rows) = (human::count(device.runs), human::count(device.batch_rows as u64));
        format!(
            "{} on {device} waited for input {waited} of {time} ({runs} runs, the last of {rows} rows{memory})",
            stats.name
        )
    };
    stats.devices.iter().filter(|device| device.runs > 0).map(line).collect()
}

fn totals(summary: &JobSummary) -> String {
    let rows = summary.operators.first().map_or(0, |first| first.rows_in.0);
    let rate = human::rate(rows, summary.elapsed).map_or_else(String::new, |rate| format!(" ({rate})"));
    let elapsed = human::time(summary.elapsed);
    format!("{} rows read in {elapsed}{rate}; blocks took at most {}", human::count(rows), summary.blocks_bytes_peak)
}

fn bound_by(summary: &JobSummary) -> String {
    match summary.bound_by() {
        Some((stats, share)) => {
            format!("bound by: {} (its workers computed {} of the time)", stats.name, human::percent(share))
        }
        None => "bound by: nothing (no worker computed)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::samples;

    #[test]
    fn the_summary_lists_operators_then_what_was_skipped_then_what_bound_the_job() {
        insta::assert_snapshot!(summary_table(&samples::ended()), @r"
operator                 rows in  rows out  bytes out  tasks  retries  workers    busy  waited, mostly for  share
read_parquet               1,797     1,797  463.0 KiB     12        0        2   40 ms         360 ms room   10 %
-> filter id > 5
predict digits_mlp.onnx    1,797     1,797  312.0 KiB      8        1        2  930 ms         70 ms input   93 %
read_parquet skipped 2:
  data/a.parquet: truncated
  data/b.parquet: no footer
1,797 rows read in 500 ms (3,594 rows/s); blocks took at most 3.0 MiB
bound by: predict digits_mlp.onnx (its workers computed 93 % of the time)
");
    }

    #[test]
    fn each_device_says_how_long_it_waited() {
        let ms = std::time::Duration::from_millis;
        let device = DeviceStats { gpus: vec![0], busy: ms(990), waited_input: ms(10), runs: 99, ..Default::default() };
        let there = DeviceStats {
            node: Some("n2".to_owned()),
            gpus: vec![0, 1],
            batch_rows: 2048,
            out_of_memory: 3,
            waited_room: ms(1000),
            ..device.clone()
        };
        let idle = DeviceStats { runs: 0, ..device.clone() };
        let stats = OperatorStats { name: "predict".into(), devices: vec![device, there, idle], ..Default::default() };
        assert_eq!(
            super::devices(&stats),
            [
                "predict on gpu 0 waited for input 1.0 % of 1.0 s (99 runs, the last of 0 rows)",
                "predict on gpus 0, 1 of n2 waited for input 0.5 % of 2.0 s (99 runs, the last of 2,048 rows; out of \
                 memory 3 times)",
            ]
        );
    }

    #[test]
    fn what_was_skipped_is_a_text_of_its_own() {
        let text = skipped_text(&samples::ended());
        assert_eq!(text, "read_parquet skipped 2:\n  data/a.parquet: truncated\n  data/b.parquet: no footer\n");
        assert_eq!(skipped_text(&JobSummary::default()), "");
    }

    #[test]
    fn a_job_without_work_was_bound_by_nothing() {
        let text = summary_table(&JobSummary::default());
        assert!(text.ends_with("bound by: nothing (no worker computed)\n"), "{text}");
    }

    #[test]
    fn only_the_first_reasons_are_listed_and_the_others_counted() {
        let skipped = (0..100).map(|n| format!("file {n}")).collect();
        let stats = OperatorStats { name: "read".into(), skipped, skipped_count: 250, ..Default::default() };
        let lines = super::skipped(&stats);
        assert_eq!(lines.len(), 12);
        assert_eq!(lines[0], "read skipped 250:");
        assert_eq!(lines[11], "  and 240 more");
    }
}
