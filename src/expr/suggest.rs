//! The words of an error about a name: the choices there are, and the one that was probably meant.

/// ` (did you mean "fare"?)` if one of the choices is close to `name`, else nothing.
pub(super) fn did_you_mean(name: &str, choices: &[String]) -> String {
    let allowed = (name.chars().count() / 2).min(3);
    let lower = name.to_lowercase();
    let close = choices.iter().map(|choice| (distance(&lower, &choice.to_lowercase()), choice));
    match close.filter(|(distance, _)| *distance <= allowed).min_by_key(|(distance, _)| *distance) {
        Some((_, choice)) => format!(" (did you mean {choice:?}?)"),
        None => String::new(),
    }
}

/// The choices between commas, cut where nobody would read on.
pub(super) fn list(choices: &[String]) -> String {
    if choices.is_empty() {
        return "no columns".to_owned();
    }
    let shown = choices.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match choices.len().checked_sub(SHOWN_MAX) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}

/// Choices that an error lists: a screen line or three.
const SHOWN_MAX: usize = 30;

/// Insertions, deletions and replacements that turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_name_is_suggested_and_a_far_one_is_not() {
        let choices = ["fare", "tip", "passenger_count"].map(str::to_owned);
        assert_eq!(did_you_mean("Fares", &choices), " (did you mean \"fare\"?)");
        assert_eq!(did_you_mean("pasenger_cuont", &choices), " (did you mean \"passenger_count\"?)");
        assert_eq!(did_you_mean("distance", &choices), "");
    }

    #[test]
    fn a_long_list_of_choices_is_cut() {
        let choices: Vec<_> = (0..32).map(|n| format!("c{n}")).collect();
        assert!(list(&choices).ends_with("c29 and 2 more"));
        assert_eq!(list(&[]), "no columns");
    }

    #[test]
    fn the_distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
