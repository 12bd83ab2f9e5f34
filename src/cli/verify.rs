//! `mobula verify`: whether an output is what its ledger says, offline.

use std::path::PathBuf;

use clap::Args;

use super::columns::print;
use super::failure::Failure;
use crate::io;

/// Check an output folder: each row of the input is in it once, and its files are whole
///
/// Reads the ledger that a job keeps beside its output (`OUT/_mobula`) and the files, and computes nothing: segments of the
/// input that are finished or given up must not overlap and, once the job has finished, be all there are; files must have
/// the sizes and checksums of the ledger, and no file may be there that no job wrote.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 all is well, 1 something is wrong, 2 the flags are wrong")]
pub(crate) struct Verify {
    /// The folder that `--output` named
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Verify {
    /// Prints what was found.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let (jobs, strangers) = io::verify(&self.dir).map_err(crate::Error::from)?;
        let mut text: String = jobs.iter().map(|job| format!("{job}\n")).collect();
        strangers.iter().for_each(|name| text += &format!("no job wrote {name}\n"));
        if jobs.iter().any(|job| job.is_open) {
            text += &format!("`mobula replay --dead-letter {}` runs what was given up again\n", self.dir.display());
        }
        print(&text)?;
        match (jobs.iter().map(|job| job.wrong.len()).sum::<usize>(), strangers.len()) {
            (0, 0) => Ok(()),
            (0, _) => Err(Failure::Strangers { dir: self.dir.clone() }),
            (wrong, strangers) => Err(Failure::Unsound { dir: self.dir.clone(), wrong: wrong + strangers }),
        }
    }
}
