//! The library of ONNX Runtime: which file it is, and its one environment of this process.
//!
//! A process loads one library and keeps it to its end, so a second one is refused by name rather than ignored. Who plans
//! a job has it loaded first, with the path that the user gave before all others; a worker on a node takes what its own
//! environment says before the path that came with the job.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::LoadDynamicError;
use ort::environment::Environment;
use ort::logging::LogLevel;

use super::super::{Asker, EngineError, OnnxRuntime};

/// The environment variable that names the library.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// What the system's loader looks for where nobody says more.
const NAME: &str = if cfg!(target_os = "macos") { "libonnxruntime.dylib" } else { "libonnxruntime.so" };

/// The oldest release that has all that is called here (the crate's feature `api-17`).
const OLDEST: &str = "1.17";

const GET_IT: &str = "install ONNX Runtime (the Python package onnxruntime has it, onnxruntime-gpu with CUDA and TensorRT) \
                      and name its file libonnxruntime.so by --onnxruntime-lib or in ORT_DYLIB_PATH";

struct Loaded {
    file: PathBuf,
    environment: Environment,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// The environment of this process, with the library loaded if it is not yet.
pub(super) fn environment(asked: Option<&Path>, asker: Asker) -> Result<Environment, EngineError> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(there) = &*loaded {
        return match asked.map(OnnxRuntime::whole) {
            Some(other) if asker == Asker::Plan && other != there.file => Err(unavailable(format!(
                "this process runs on {} and cannot change to {}; start another",
                there.file.display(),
                other.display()
            ))),
            _ => Ok(there.environment.clone()),
        };
    }
    let file = OnnxRuntime::whole(&choose(asked, std::env::var_os(VARIABLE), asker));
    check_file(&file)?;
    let builder = ort::init_from(&file).map_err(|error| unavailable(reason(&error)))?;
    let builder = builder.with_name("mobula").with_telemetry(false).with_logger(Arc::new(log));
    let environment = builder.build().map_err(|error| unavailable(error.to_string()))?;
    environment.set_log_level(LogLevel::Warning);
    tracing::debug!(file = %file.display(), build = ort::info(), "ONNX Runtime is loaded");
    *loaded = Some(Loaded { file, environment: environment.clone() });
    Ok(environment)
}

fn choose(asked: Option<&Path>, variable: Option<OsString>, asker: Asker) -> PathBuf {
    let asked = asked.map(Path::to_owned);
    let variable = variable.filter(|path| !path.is_empty()).map(PathBuf::from);
    let chosen = match asker {
        Asker::Plan => asked.or(variable),
        Asker::Worker => variable.or(asked),
    };
    chosen.unwrap_or_else(|| NAME.into())
}

/// Tells the common mistakes in plainer words than the system's loader does.
fn check_file(file: &Path) -> Result<(), EngineError> {
    if file.is_absolute() && !file.exists() {
        return Err(unavailable(format!("there is no file {}; {GET_IT}", file.display())));
    }
    if file.is_dir() {
        return Err(unavailable(format!("{} is a folder; name the file libonnxruntime.so in it", file.display())));
    }
    Ok(())
}

fn reason(error: &LoadDynamicError) -> String {
    match error {
        LoadDynamicError::Dlopen { error, path } if path.is_absolute() => {
            format!("{} cannot be loaded as a library ({}); {GET_IT}", path.display(), innermost(error))
        }
        LoadDynamicError::Dlopen { error, .. } => {
            format!("its library is not found ({}); {GET_IT}", innermost(error))
        }
        LoadDynamicError::MissingApi { path } => {
            format!("{} is a library, but not that of ONNX Runtime; {GET_IT}", path.display())
        }
        LoadDynamicError::BadVersion { version_str, path } => {
            format!("{} is of version {version_str}; it takes {OLDEST} or later", path.display())
        }
        LoadDynamicError::InvalidVersionString => format!("its library tells no version; {GET_IT}"),
    }
}

/// What the system's loader said.
fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error)
}

fn unavailable(reason: String) -> EngineError {
    EngineError::Unavailable { engine: OnnxRuntime::NAME, reason }
}

/// What ONNX Runtime has to say is for whoever looks for it: what matters comes back as an error too.
fn log(level: LogLevel, _category: &str, _id: &str, location: &str, message: &str) {
    tracing::debug!(?level, location, "onnxruntime: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_takes_what_the_user_said_and_a_worker_what_its_node_says() {
        let (asked, variable) = (Some(Path::new("/asked.so")), Some(OsString::from("/node.so")));
        assert_eq!(choose(asked, variable.clone(), Asker::Plan), Path::new("/asked.so"));
        assert_eq!(choose(asked, variable.clone(), Asker::Worker), Path::new("/node.so"));
        assert_eq!(choose(None, variable, Asker::Plan), Path::new("/node.so"));
        assert_eq!(choose(asked, None, Asker::Worker), Path::new("/asked.so"));
        assert_eq!(choose(None, Some(OsString::new()), Asker::Worker), Path::new(NAME));
    }

    #[test]
    fn a_mere_name_is_left_to_the_system_and_a_path_made_whole() {
        assert_eq!(OnnxRuntime::whole(Path::new(NAME)), Path::new(NAME));
        assert!(OnnxRuntime::whole(Path::new("Cargo.toml")).is_absolute());
        assert!(OnnxRuntime::whole(Path::new("no/such.so")).is_absolute());
    }

    #[test]
    fn an_old_library_is_told_with_its_version_and_the_oldest_that_will_do() {
        let old =
            LoadDynamicError::BadVersion { version_str: "1.16.3".to_owned(), path: "/lib/libonnxruntime.so".into() };
        assert_eq!(reason(&old), "/lib/libonnxruntime.so is of version 1.16.3; it takes 1.17 or later");
        let other = reason(&LoadDynamicError::MissingApi { path: "/lib/libm.so.6".into() });
        assert!(other.starts_with("/lib/libm.so.6 is a library, but not that of ONNX Runtime; install"), "{other}");
    }

    #[test]
    fn a_path_that_leads_to_no_file_is_told_before_it_is_loaded() {
        let missing = check_file(Path::new("/no/such.so")).expect_err("no file").to_string();
        assert!(missing.contains("there is no file /no/such.so; install ONNX Runtime"), "{missing}");
        let folder = check_file(&std::env::temp_dir()).expect_err("a folder").to_string();
        assert!(folder.contains("is a folder; name the file libonnxruntime.so in it"), "{folder}");
    }
}
