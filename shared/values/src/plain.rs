//! What texts hold, looked at a word at a time: texts are too short for what setting up wider loops costs.

/// Whether nothing in a text must be escaped between a JSON string's quotes: no quote, no backslash, no control character
/// (RFC 8259, 7).
#[inline]
pub fn is_plain(text: &[u8]) -> bool {
    !any(text, |word| below(word, b' ') | equal(word, b'"') | equal(word, b'\\'))
}

/// Whether there is an ASCII blank or control character in a text.
#[inline]
pub fn has_blank(text: &[u8]) -> bool {
    any(text, |word| below(word, b' ' + 1) | equal(word, 0x7f))
}

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES << 7;

/// Whether `of` is not zero for some word of the text.
#[inline]
fn any(text: &[u8], of: impl Fn(u64) -> u64) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    // Without an early end, so that several words are looked at at a time.
    let some = words.iter().fold(0, |some, word| some | of(u64::from_le_bytes(*word)));
    let last = match text.last_chunk::<8>() {
        // It overlaps the one before.
        Some(last) => *last,
        None => {
            // Filled up with what nobody looks for.
            let mut word = [u8::MAX; 8];
            word.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
            word
        }
    };
    some | of(u64::from_le_bytes(last)) != 0
}

/// The highest bit of each byte that is below `less`, and, through borrowing, of some above such a byte.
#[inline]
fn below(word: u64, less: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(less)) & !word & HIGH
}

/// The same of each byte that is this one.
#[inline]
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_in_every_place_is_seen() {
        for length in 1..20 {
            for place in 0..length {
                for byte in 0..=255u8 {
                    let mut text = vec![0; length];
                    for fill in [0xff, b'!', b'~'] {
                        text.fill(fill);
                        text[place] = byte;
                        let special = byte < 0x20 || byte == b'"' || byte == b'\\';
                        assert_eq!(is_plain(&text), !special, "{byte} at {place} of {length}");
                        assert_eq!(has_blank(&text), byte <= b' ' || byte == 0x7f, "{byte} at {place} of {length}");
                    }
                }
            }
        }
        assert!(is_plain(b"") && !has_blank(b""));
    }
}
