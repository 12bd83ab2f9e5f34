//! Bars on a terminal: one an operator, drawn by `indicatif` on standard error.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mobula_actors::job::{JobSummary, OperatorState, OperatorStats};

use super::{human, line};

/// The bars of one job. They are made with the first picture, when the operators are known.
pub(super) struct Bars {
    screen: MultiProgress,
    bars: Vec<ProgressBar>,
}

impl Bars {
    pub(super) fn new(screen: MultiProgress) -> Self {
        Self { screen, bars: Vec::new() }
    }

    pub(super) fn paint(&mut self, summary: &JobSummary) {
        let width = summary.operators.iter().map(|o| o.name.chars().count()).max().unwrap_or(0).min(NAME_WIDTH_MAX);
        while self.bars.len() < summary.operators.len() {
            self.bars.push(self.screen.add(ProgressBar::no_length()));
        }
        for (bar, stats) in self.bars.iter().zip(&summary.operators) {
            let picture = Picture::of(stats);
            bar.set_style(style(picture.length.is_some(), width));
            bar.set_prefix(stats.name.chars().take(NAME_WIDTH_MAX).collect::<String>());
            bar.set_message(picture.message);
            bar.update(|state| {
                state.set_len(picture.length.unwrap_or(0));
                state.set_pos(picture.position);
            });
        }
    }

    /// Takes the bars off the screen: the closing summary says it better.
    pub(super) fn clear(&mut self) {
        for bar in self.bars.drain(..) {
            bar.finish_and_clear();
            self.screen.remove(&bar);
        }
    }
}

/// Names longer than this are cut, so that bars stay on one line.
const NAME_WIDTH_MAX: usize = 28;

/// What a bar shows: how far of how much, and words.
#[derive(Debug, PartialEq)]
struct Picture {
    position: u64,
    length: Option<u64>,
    message: String,
}

impl Picture {
    fn of(stats: &OperatorStats) -> Self {
        let (position, length) = match (stats.rows_total, stats.tasks_total) {
            (Some(rows), _) => (stats.rows_in.0, Some(rows.0)),
            (None, Some(tasks)) => (stats.tasks, Some(tasks)),
            (None, None) => (stats.rows_in.0, None),
        };
        let busy = match stats.state {
            OperatorState::Waiting => String::new(),
            OperatorState::Done => format!(", busy {}", human::percent(stats.busy_share())),
            OperatorState::Running => {
                let s = if stats.workers == 1 { "" } else { "s" };
                format!(", {} worker{s}, busy {}", stats.workers, human::percent(stats.busy_share()))
            }
        };
        Self { position, length: length.filter(|l| *l > 0), message: line::state(stats) + &busy }
    }
}

fn style(has_length: bool, name_width: usize) -> ProgressStyle {
    let bar = if has_length { "{bar:24.cyan/dim}" } else { "{spinner:>24}" };
    let template = format!("{{prefix:{name_width}}} {bar} {{wide_msg}}");
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::samples;

    #[test]
    fn a_read_with_known_rows_has_a_length_and_a_map_has_none() {
        let summary = samples::running();
        let [read, model] = [&summary.operators[0], &summary.operators[1]].map(Picture::of);
        assert_eq!((read.position, read.length), (1797, Some(1797)));
        assert_eq!((model.position, model.length), (1200, None));
        assert_eq!(model.message, "1,200 rows, 1 retried, 2 workers, busy 93 %");
    }

    #[test]
    fn painting_and_clearing_leaves_no_bar_behind() {
        let mut bars = Bars::new(MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden()));
        bars.paint(&samples::running());
        assert_eq!(bars.bars.len(), 2);
        bars.clear();
        assert!(bars.bars.is_empty());
    }
}
