//! Where progress goes: bars on a terminal, plain lines elsewhere, or nowhere.

use std::io::Write;
use std::time::Duration;

use indicatif::MultiProgress;
use mobula_actors::job::JobSummary;

use super::bars::Bars;
use super::line::progress_line;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A bar for each operator, redrawn in place. For terminals.
    Bars,
    /// A line every few seconds. For logs and pipes.
    Plain,
    /// Nothing.
    Silent,
}

/// Shows pictures of one job as they come. It keeps no time itself: it goes by [`JobSummary::elapsed`].
///
/// ```
/// use mobula::progress::{JobSummary, Painter, Style};
/// let mut text = Vec::new();
/// let mut painter = Painter::new(Style::Plain, indicatif::MultiProgress::new(), &mut text);
/// painter.paint(&JobSummary::default());
/// painter.clear();
/// assert_eq!(String::from_utf8(text)?, "[0 s] starting\n");
/// # Ok::<(), std::string::FromUtf8Error>(())
/// ```
pub struct Painter<W> {
    way: Way<W>,
}

enum Way<W> {
    Bars(Bars),
    Plain { to: W, next: Duration },
    Silent,
}

impl<W: Write> Painter<W> {
    /// Shows progress in `style`: bars on `screen`, plain lines on `to`.
    pub fn new(style: Style, screen: MultiProgress, to: W) -> Self {
        let way = match style {
            Style::Bars => Way::Bars(Bars::new(screen)),
            Style::Plain => Way::Plain { to, next: Duration::ZERO },
            Style::Silent => Way::Silent,
        };
        Self { way }
    }

    /// Shows the job as it is now. Plain lines come at most every few seconds, however often this is called.
    pub fn paint(&mut self, summary: &JobSummary) {
        match &mut self.way {
            Way::Bars(bars) => bars.paint(summary),
            Way::Plain { to, next } if summary.elapsed >= *next => {
                *next = summary.elapsed + PLAIN_EVERY;
                // Progress that cannot be shown is no reason to stop the job.
                let _ = writeln!(to, "{}", progress_line(summary));
            }
            Way::Plain { .. } | Way::Silent => {}
        }
    }

    /// Takes bars off the screen, before a summary or an error is printed.
    pub fn clear(&mut self) {
        if let Way::Bars(bars) = &mut self.way {
            bars.clear();
        }
    }
}

/// Often enough to see that the job lives, seldom enough for a log of a long night.
const PLAIN_EVERY: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::samples;

    #[test]
    fn plain_lines_come_every_few_seconds_of_the_jobs_own_time() {
        let mut text = Vec::new();
        let mut painter = Painter::new(Style::Plain, MultiProgress::new(), &mut text);
        for seconds in [0, 1, 2, 3, 4, 5, 6, 7] {
            painter.paint(&JobSummary { elapsed: Duration::from_secs(seconds), ..samples::running() });
        }
        let text = String::from_utf8(text).expect("text");
        let times: Vec<&str> = text.lines().filter_map(|line| line.split(']').next()).collect();
        assert_eq!(times, ["[0 s", "[3.0 s", "[6.0 s"]);
    }

    #[test]
    fn a_silent_painter_writes_nothing() {
        let mut text = Vec::new();
        let mut painter = Painter::new(Style::Silent, MultiProgress::new(), &mut text);
        painter.paint(&samples::running());
        painter.clear();
        assert!(text.is_empty());
    }
}
