//! Is an expensive device kept busy, and how long does a pool of predictors take until all of them are ready?
//!
//! - `busy`: a fake device that takes 10 ms for each batch, behind a CPU step that takes 8 ms for each on one core. The
//!   share of the time from the device's first run to its last in which it computed; the rest it waited for input.
//! - `start`: four predictors, each on a fake device that takes 500 ms to bring the model to. The time from the start of
//!   the job until all four are ready, in times of one such load.
//! - `climb`: a device that takes 10 ms for each batch and 5 us for each row, behind numbers that cost nothing: the rows a
//!   second that `batch = auto` reaches, in parts of what the best size makes (200,000 with endless batches).
//!
//! `--batches N` runs fewer.
#![allow(clippy::disallowed_methods, reason = "a bench takes real time")]
#![allow(clippy::print_stdout, reason = "a bench says what it found")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mobula::predict::FakeDevice;
use mobula::prelude::*;
use mobula::{DeviceStats, JobSummary};
use mobula_actors::operator::BoxError;

const BATCH_ROWS: usize = 1_000;
const BATCHES: usize = 1_000;
const ON_DEVICE: Duration = Duration::from_millis(10);
const ON_CPU: Duration = Duration::from_millis(8);
const LOAD: Duration = Duration::from_millis(500);
/// Microseconds that the CPU step took in all: more than it should on a machine that others use.
static SPENT: AtomicU64 = AtomicU64::new(0);
const A_ROW: Duration = Duration::from_micros(5);

fn main() -> Result<(), BoxError> {
    let batches = std::env::args().skip_while(|arg| arg != "--batches").nth(1);
    let batches = batches.map_or(Ok(BATCHES), |text| text.parse())?;
    busy(batches)?;
    start(4)?;
    climb(batches)
}

fn one_gpu() -> Resources {
    Resources { gpus: 1.0, ..Resources::cpu(1.0) }
}

fn busy(batches: usize) -> Result<(), BoxError> {
    let session = Session::builder().cpus(2).gpus(1).build()?;
    let work = local(|batch: RecordBatch| {
        let from = Instant::now();
        while from.elapsed() < ON_CPU {
            std::hint::spin_loop();
        }
        SPENT.fetch_add(from.elapsed().as_micros() as u64, Ordering::Relaxed);
        Ok::<_, std::io::Error>(batch)
    });
    let options = MapOptions { batch_size: Some(BATCH_ROWS), workers: Some(1..=1), ..MapOptions::default() };
    let rows = session.range(0..(batches * BATCH_ROWS) as i64)?.map_batches_with(work, options)?;
    let model = FakeDevice::new().batch_time(ON_DEVICE).model().resources(one_gpu()).batch_size(BATCH_ROWS);
    let summary = run(&rows.predict(model)?)?;
    println!("  the cpu step took {} us a batch", SPENT.load(Ordering::Relaxed) / batches as u64);
    for operator in &summary.operators {
        let (busy, room, lease) = (operator.busy, operator.waited_room, operator.waited_lease);
        println!(
            "  {}: busy {busy:?}, waited for input {:?}, room {room:?}, a core {lease:?}",
            operator.name, operator.waited_input
        );
    }
    for device in devices(&summary) {
        let all = device.busy + device.waited_input + device.waited_room;
        println!(
            "  {device}: busy {:?} of {all:?} in {} runs, room {:?}",
            device.busy, device.runs, device.waited_room
        );
        println!("figure predictor.busy {:.4} share", device.busy.as_secs_f64() / all.as_secs_f64());
    }
    Ok(())
}

fn start(devices_wanted: usize) -> Result<(), BoxError> {
    let session = Session::builder().cpus(2).gpus(devices_wanted).build()?;
    let model = FakeDevice::new().load_time(LOAD).model().resources(one_gpu()).batch_size(BATCH_ROWS);
    let rows = session.range(0..(64 * BATCH_ROWS) as i64)?;
    let sums = rows.predict(model.workers(devices_wanted..=devices_wanted))?;
    let from = Instant::now();
    let mut iter = sums.iter_batches(BATCH_ROWS)?;
    let watch = iter.watch().ok_or("a job that runs")?;
    let is_ready = |device: &DeviceStats| device.ready_after.is_some();
    while devices(&watch.summary()).filter(is_ready).count() < devices_wanted {
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = from.elapsed();
    iter.try_for_each(|batch| batch.map(drop))?;
    println!("  {devices_wanted} predictors were ready after {took:?}; one load takes {LOAD:?}");
    println!("figure predictor.start {:.3} loads", took.as_secs_f64() / LOAD.as_secs_f64());
    Ok(())
}

fn climb(batches: usize) -> Result<(), BoxError> {
    let session = Session::builder().cpus(2).gpus(1).build()?;
    let device = FakeDevice::new().batch_time(ON_DEVICE).row_time(A_ROW).model().resources(one_gpu());
    let rows = (batches * BATCH_ROWS) as i64;
    let summary = run(&session.range(0..rows)?.predict(device)?)?;
    for device in devices(&summary) {
        let rate = device.rows.0 as f64 / (device.busy + device.waited_input).as_secs_f64();
        println!(
            "  {device}: {rate:.0} rows/s in {} runs, batches of {} rows at the end",
            device.runs, device.batch_rows
        );
        println!("figure predictor.climb {:.3} share", rate * A_ROW.as_secs_f64());
    }
    Ok(())
}

fn run(rows: &Dataset) -> Result<JobSummary, BoxError> {
    rows.for_each(|_| Ok::<_, BoxError>(()))?;
    Ok(rows.stats().ok_or("it ran")?)
}

fn devices(summary: &JobSummary) -> impl Iterator<Item = DeviceStats> {
    let devices: Vec<_> = summary.operators.iter().flat_map(|operator| operator.devices.clone()).collect();
    devices.into_iter()
}
