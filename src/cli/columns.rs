//! Plain tables: rows of text in, aligned lines out; and the way they are printed.

use std::io::{ErrorKind, Write};

use mobula_actors::logs::cleaned;

use super::failure::Failure;

/// Lines with the columns of `header` and `rows` under each other, all to the left. Rows come from other processes.
pub(crate) fn columns<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let rows = rows.iter().map(|row| row.each_ref().map(|cell| cleaned(cell).into_owned()));
    let all: Vec<[String; N]> = std::iter::once(header.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; N];
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(row.iter()) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    all.iter().map(line).collect()
}

/// Prints text on standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A reader that has closed the pipe has seen enough.
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::Print(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [["n1".to_owned(), "alive".to_owned()], ["a-long\nname".to_owned(), String::new()]];
        assert_eq!(columns(["node", "state"], &rows), "node          state\nn1            alive\na-long\\nname\n");
    }
}
