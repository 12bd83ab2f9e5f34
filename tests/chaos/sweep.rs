//! A crash at each call by which a job changes its output.

use std::fs;
use std::path::Path;

use rand::seq::SliceRandom;

use super::Chaos;
use super::check::{no_process_left, progress};
use super::job::Size;
use super::local::Bench;
use super::processes::{done, output};
use super::traced::{self, Point, kill_at, points, traced};

/// Small, as it runs hundreds of times; but with more commits than the thread that begins with the ledger writes to it, so
/// that strace, which counts the calls of each thread, meets those of the thread that commits.
pub(crate) const TINY: Size = Size { files: 5, rows_a_file: 100, work: 10_000, batch: 0, workers: 0, interval: "1ms" };
/// Points that the short form tries.
const SAMPLE: usize = 12;

/// Some of the points, or all.
pub(crate) fn chosen(mut points: Vec<Point>, sample: usize, chaos: &mut Chaos) -> Vec<Point> {
    if !chaos.is_long() {
        points.shuffle(&mut chaos.rng);
        points.truncate(sample);
    }
    points
}

/// The process dies at a point, and the same command goes on.
pub(crate) fn syscalls(chaos: &mut Chaos) {
    if !traced::is_there() {
        println!("chaos: skipped: syscalls (there is no strace)");
        return;
    }
    let mut bench = Bench::new(TINY);
    let out = bench.fresh();
    let all = points(&bench.traceable(&out), &out, &bench.folder.path().join("strace.log"));
    bench.check(&out);
    let (of, points) = (all.len(), chosen(all, SAMPLE, chaos));
    let (mut crashes, tried) = (0, points.len());
    for point in points {
        crashes += usize::from(crash(&bench, &out, &point));
    }
    no_process_left(bench.folder.path());
    println!("chaos: {crashes} crashes at {tried} of {of} points");
    check_met(crashes, tried);
}

/// Whether it died there.
fn crash(bench: &Bench, out: &Path, point: &Point) -> bool {
    let run = traced(&bench.traceable(out), &kill_at(point));
    let before = progress(out, &bench.size);
    let said = done(&output(bench.command(out)));
    bench.did_only_the_rest(&said, before);
    if let Err(wrong) = super::check::wrong(out, &bench.size) {
        panic!("killed at {point:?}: {wrong}");
    }
    // What the crash left there, not what the run after it did.
    let _ = fs::remove_dir_all(bench.temporary());
    fs::create_dir(bench.temporary()).expect("a folder");
    fs::remove_dir_all(out).expect("a folder");
    met(point, !run.status.success())
}

/// Whether a run died at its point. What another thread does than in the first run is not met.
pub(crate) fn met(point: &Point, died: bool) -> bool {
    if !died {
        println!("chaos: not met: {point:?}");
    }
    died
}

/// Fails where that is not the exception.
#[track_caller]
pub(crate) fn check_met(met: usize, of: usize) {
    assert!(met * 4 >= of * 3, "strace met {met} of {of} points");
}
