//! The power fails at a call by which a job changes its output: what was not synced is gone. On an ext4 of its own in a
//! loop device, which is told to go down without writing anything more.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Chaos;
use super::check::{progress, verified, wrong};
use super::local::Bench;
use super::processes::output;
use super::sweep::{TINY, check_met, chosen, met};
use super::traced::{self, Point, kill_at, points, traced};

/// Points that the short form tries.
const SAMPLE: usize = 5;

/// A file system that can lose its power.
struct Volume {
    image: PathBuf,
    mount: PathBuf,
}

impl Volume {
    /// Made anew; the reason, where the machine does not allow that.
    fn new(folder: &Path) -> Result<Self, String> {
        let (image, mount) = (folder.join("image"), folder.join("mnt"));
        let _ = fs::remove_file(&image);
        fs::create_dir_all(&mount).map_err(|error| error.to_string())?;
        File::create(&image).and_then(|file| file.set_len(IMAGE_BYTES)).map_err(|error| error.to_string())?;
        let volume = Self { image, mount };
        run("mkfs.ext4", &["-q", "-F", "-m0", volume.image()])?;
        volume.mount()?;
        Ok(volume)
    }

    fn image(&self) -> &str {
        self.image.to_str().expect("text")
    }

    fn path(&self) -> &str {
        self.mount.to_str().expect("text")
    }

    fn mount(&self) -> Result<(), String> {
        // It writes by itself after a minute, when the power is long gone.
        run("mount", &["-o", "loop,commit=60", self.image(), self.path()])
    }

    /// The power fails, and comes back. Another's sync before it makes names durable whose bytes are not.
    fn cut(&self) {
        run("python3", &["-c", CUT, self.path()]).expect("the file system goes down");
        run("umount", &[self.path()]).expect("nobody uses it");
        self.mount().expect("it was mounted before");
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = run("umount", &[self.path()]);
    }
}

/// Room for the output of the small job.
const IMAGE_BYTES: u64 = 24 << 20;
/// Syncs a file of somebody else, and shuts the file system down: `EXT4_IOC_SHUTDOWN`, whose argument 2 stands for:
/// without writing the journal.
const CUT: &str = "
import fcntl, os, struct, sys
os.fsync(os.open(sys.argv[1] + '/other', os.O_CREAT | os.O_WRONLY))
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))
";

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let ran = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    if ran.status.success() { Ok(()) } else { Err(format!("{program}: {}", String::from_utf8_lossy(&ran.stderr))) }
}

/// Power cuts along the commit path; without syncs they are noticed.
pub(crate) fn power(chaos: &mut Chaos) {
    let bench = Bench::new(TINY);
    let folder = bench.folder.path().to_owned();
    let volume = Volume::new(&folder).and_then(|volume| run("python3", &["-V"]).map(|()| volume));
    let volume = match volume {
        Ok(volume) if traced::is_there() => volume,
        Ok(_) => return println!("chaos: skipped: power (there is no strace)"),
        Err(reason) => return println!("chaos: skipped: power ({})", reason.trim()),
    };
    let out = volume.mount.join("out");
    let all = points(&bench.traceable(&out), &out, &folder.join("strace.log"));
    // What was said to be done is there after the power fails.
    volume.cut();
    wrong(&out, &TINY).expect("all was synced");
    drop(volume);

    let (of, points) = (all.len(), chosen(all, SAMPLE, chaos));
    let (mut cuts, tried) = (0, points.len());
    for point in points {
        cuts += usize::from(cut_at(&bench, &point));
    }
    println!("chaos: {cuts} power cuts at {tried} of {of} points, and one at the end");
    check_met(cuts, tried);
    without_syncs(&bench);
}

/// Whether it died there.
fn cut_at(bench: &Bench, point: &Point) -> bool {
    let volume = Volume::new(bench.folder.path()).expect("it could be made before");
    let out = volume.mount.join("out");
    let run = traced(&bench.traceable(&out), &kill_at(point));
    volume.cut();
    if let Err(wrong) = goes_on(bench, &out) {
        panic!("power cut at {point:?}: {wrong}");
    }
    met(point, !run.status.success())
}

/// What the ledger says is there after a cut, and the same command goes on with it.
fn goes_on(bench: &Bench, out: &Path) -> Result<(), String> {
    let before = progress(out, &bench.size);
    if before.commits > 0 {
        verified(out)?;
    }
    let again = output(bench.command(out));
    if !again.status.success() {
        return Err(String::from_utf8_lossy(&again.stderr).into_owned());
    }
    bench.did_only_the_rest(&String::from_utf8_lossy(&again.stdout), before);
    wrong(out, &bench.size)
}

/// The same checks find a program that does not sync. strace makes one of this: its syncs say that all is well and do
/// nothing.
fn without_syncs(bench: &Bench) {
    let volume = Volume::new(bench.folder.path()).expect("it could be made before");
    let out = volume.mount.join("out");
    let flags = ["-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:retval=0"];
    let run = traced(&bench.traceable(&out), &flags.map(str::to_owned));
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    wrong(&out, &bench.size).expect("as long as the power is there, all is well");
    volume.cut();
    let lost = wrong(&out, &bench.size).expect_err("what was not synced cannot survive");
    println!("chaos: without syncs a power cut is noticed: {}", lost.lines().next().unwrap_or_default());
}
