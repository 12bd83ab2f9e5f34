//! Which binary this process runs: nodes of a cluster run the same, or an operator's name could mean two things.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read};
use std::sync::OnceLock;

/// The linker's note in an ELF file: 4 bytes of name, 20 of id, type 3, "GNU".
const NOTE: [u8; 16] = [4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, b'G', b'N', b'U', 0];
const ID_BYTES: usize = 20;
/// The note stands behind the headers, in the first page or two.
const HEAD_BYTES: u64 = 64 << 10;

/// The build id that the linker wrote into the binary, in hex; where it wrote none, a digest of the binary.
///
/// # Errors
/// If the binary cannot be read.
pub(crate) fn build_id() -> io::Result<String> {
    static ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(id.clone());
    }
    let mut file = File::open(std::env::current_exe()?)?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
    let id = match find_note(&head) {
        Some(id) => id.iter().map(|byte| format!("{byte:02x}")).collect(),
        None => digest(&head, file)?,
    };
    Ok(ID.get_or_init(|| id).clone())
}

fn find_note(head: &[u8]) -> Option<&[u8]> {
    let at = head.windows(NOTE.len()).position(|window| window == NOTE)? + NOTE.len();
    head.get(at..at + ID_BYTES)
}

/// The standard library's hash has fixed keys, and both sides were built with one standard library or differ anyway.
fn digest(head: &[u8], mut rest: File) -> io::Result<String> {
    let mut hasher = DefaultHasher::new();
    hasher.write(head);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match rest.read(&mut buffer)? {
            0 => return Ok(format!("digest-{:016x}", hasher.finish())),
            read => hasher.write(buffer.get(..read).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_has_one_id() {
        let id = build_id().expect("this binary can be read");
        assert!(id.len() >= 16, "{id}");
        assert_eq!(build_id().expect("again"), id);
    }

    #[test]
    fn the_note_is_found_where_it_stands() {
        let mut head = vec![7; 100];
        head.extend(NOTE);
        head.extend([9; ID_BYTES]);
        assert_eq!(find_note(&head), Some([9; ID_BYTES].as_slice()));
        assert_eq!(find_note(&head[..head.len() - 1]), None);
    }
}
