//! Workers that compute on a device: the host prepares the next batches while the device computes.
//!
//! [`drive`] is the worker's loop: tasks in, batches to the device, results out in order. [`thread`] is the device's own
//! thread. What to decide is in pure modules: [`feed`] says what is on its way, [`climb`] how many rows a batch has,
//! [`time`] where the device's time went.

pub(crate) mod drive;
pub(crate) mod thread;
pub(crate) mod time;

mod climb;
mod feed;
