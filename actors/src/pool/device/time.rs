//! The pure accounting of a device's time: how long it computed, and what it waited for in between.
//!
//! Time is counted from when the model is on the device. A wait is counted when a run ends it, so what comes after the
//! last run is no wait.

use std::time::Duration;

use crate::job::DeviceStats;
use crate::units::Rows;

/// Where the time of one device went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DeviceTime {
    pub(crate) busy: Duration,
    /// Waited for input, from the first run on.
    pub(crate) waited_input: Duration,
    /// Waited because results found no room downstream.
    pub(crate) waited_room: Duration,
    /// Waited for the first input.
    pub(crate) waited_first: Duration,
    pub(crate) runs: u64,
    pub(crate) rows: u64,
    pub(crate) out_of_memory: u64,
    /// Rows of the last run.
    pub(crate) batch_rows: usize,
    /// From the worker's start until the model was on the device.
    pub(crate) ready_after: Option<Duration>,
    /// Idle or running, and since when; `None` before the model is there.
    since: Option<Duration>,
    running: bool,
    /// Whether the host waits for room.
    blocked: bool,
    /// Waits since the last run, which count once another one follows.
    input_so_far: Duration,
    room_so_far: Duration,
}

impl DeviceTime {
    /// The model is on the device, of a worker that began at `born`.
    pub(crate) fn on_ready(&mut self, born: Duration, now: Duration) {
        self.ready_after = Some(now.saturating_sub(born));
        (self.since, self.running) = (Some(now), false);
        (self.input_so_far, self.room_so_far) = (Duration::ZERO, Duration::ZERO);
    }

    /// A run begins.
    pub(crate) fn on_begin(&mut self, now: Duration) {
        self.settle(now);
        if self.runs == 0 {
            self.waited_first += self.input_so_far + self.room_so_far;
        } else {
            self.waited_input += self.input_so_far;
            self.waited_room += self.room_so_far;
        }
        (self.input_so_far, self.room_so_far) = (Duration::ZERO, Duration::ZERO);
        self.running = true;
    }

    /// The run ended, having made results of so many rows, or run out of memory.
    pub(crate) fn on_end(&mut self, now: Duration, rows: Option<usize>) -> Duration {
        let took = now.saturating_sub(self.since.unwrap_or(now));
        self.busy += took;
        self.runs += 1;
        match rows {
            Some(rows) => {
                self.rows += rows as u64;
                self.batch_rows = rows;
            }
            None => self.out_of_memory += 1,
        }
        (self.since, self.running) = (Some(now), false);
        took
    }

    /// The host waits for room from now on, or does not.
    pub(crate) fn on_blocked(&mut self, now: Duration, blocked: bool) {
        if !self.running {
            self.settle(now);
        }
        self.blocked = blocked;
    }

    /// For the summary of a job.
    pub(crate) fn stats(&self, gpus: &[u32]) -> DeviceStats {
        DeviceStats {
            node: None,
            gpus: gpus.to_vec(),
            busy: self.busy,
            waited_input: self.waited_input,
            waited_room: self.waited_room,
            waited_first: self.waited_first,
            runs: self.runs,
            rows: Rows(self.rows),
            out_of_memory: self.out_of_memory,
            batch_rows: self.batch_rows,
            ready_after: self.ready_after,
        }
    }

    /// The idle time up to now has the cause it had until now.
    fn settle(&mut self, now: Duration) {
        let idle = now.saturating_sub(self.since.unwrap_or(now));
        if self.blocked {
            self.room_so_far += idle;
        } else {
            self.input_so_far += idle;
        }
        self.since = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn idle_time_between_runs_is_a_wait_and_around_them_is_not() {
        let mut time = DeviceTime::default();
        time.on_ready(ms(40), ms(100));
        time.on_begin(ms(150));
        assert_eq!(time.on_end(ms(160), Some(8)), ms(10));
        time.on_begin(ms(161));
        time.on_end(ms(171), Some(4));
        assert_eq!((time.busy, time.waited_first, time.waited_input), (ms(20), ms(50), ms(1)));
        assert_eq!((time.runs, time.rows, time.batch_rows, time.ready_after), (2, 12, 4, Some(ms(60))));
    }

    #[test]
    fn a_wait_for_room_is_not_a_wait_for_input() {
        let mut time = DeviceTime::default();
        time.on_ready(ms(0), ms(0));
        time.on_begin(ms(0));
        time.on_blocked(ms(5), true);
        time.on_end(ms(10), Some(1));
        time.on_blocked(ms(40), false);
        time.on_begin(ms(42));
        time.on_end(ms(50), None);
        assert_eq!((time.waited_room, time.waited_input, time.busy), (ms(30), ms(2), ms(18)));
        assert_eq!(time.out_of_memory, 1);
    }

    proptest! {
        /// From the model's arrival to the end of the last run, every moment is counted once.
        #[test]
        fn no_time_is_lost_or_counted_twice(steps in prop::collection::vec((0..3u8, 0..1000u64), 1..60)) {
            let (mut time, mut now, mut running, mut last) = (DeviceTime::default(), ms(7), false, ms(7));
            time.on_ready(now, now);
            for (what, wait) in steps {
                now += ms(wait);
                match what {
                    0 => time.on_blocked(now, wait % 2 == 0),
                    _ if running => {
                        time.on_end(now, Some(1));
                        (running, last) = (false, now);
                    }
                    _ => {
                        time.on_begin(now);
                        running = true;
                    }
                }
            }
            if running {
                now += ms(1);
                time.on_end(now, Some(1));
                last = now;
            }
            let counted = time.busy + time.waited_input + time.waited_room + time.waited_first;
            prop_assert_eq!(counted, last - ms(7));
        }
    }
}
