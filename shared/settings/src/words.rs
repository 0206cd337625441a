//! Words that were probably meant.

/// More edits than this make another word.
const FAR: usize = 3;
/// Longer words are no slips of the keyboard.
const MOST_BYTES: usize = 64;

/// The known word that is nearest to this one, if any is near; in capitals or not.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MOST_BYTES {
        return None;
    }
    let word = word.to_lowercase();
    let distance = |near: &'a str| (strsim::damerau_levenshtein(&word, &near.to_lowercase()), near);
    known.into_iter().map(distance).filter(|(far, _)| *far < FAR).min().map(|(_, near)| near)
}

/// "; did you mean `copy`?", or nothing: to end a sentence with.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        let known = ["copy", "convert", "clean"];
        assert_eq!(did_you_mean("Cpoy", known), "; did you mean `copy`?");
        assert_eq!(did_you_mean("delete", known), "");
        assert_eq!(nearest(&"copy".repeat(100), known), None);
    }
}
