//! Ways to harm a file.

use super::Chance;

/// No input is longer, in bytes.
const LONGEST: usize = 64 << 10;

/// How often a piece is repeated at most.
const DEEPEST: usize = 12;

/// One of `files`, harmed one to eight times; `words` are what a file of this kind is made of.
pub(super) fn harmed(chance: &mut Chance, files: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut bytes = files[chance.below(files.len())].clone();
    for _ in 0..=chance.below(8) {
        match chance.below(8) {
            0 => flip(chance, &mut bytes),
            1 => drop(bytes.drain(piece(chance, bytes.len()))),
            2 => copy(chance, &mut bytes),
            3 => splice(chance, &mut bytes, files),
            4 | 5 => put(chance, &mut bytes, words),
            6 => exchange(chance, &mut bytes, words),
            _ => nest(chance, &mut bytes, words),
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

/// A piece of something that has `length` bytes, mostly a short one.
fn piece(chance: &mut Chance, length: usize) -> std::ops::Range<usize> {
    let from = chance.below(length + 1);
    let most = if chance.one_in(8) { length } else { 24 };
    from..(from + chance.below(most.max(1))).min(length)
}

fn insert(bytes: &mut Vec<u8>, at: usize, what: &[u8]) {
    bytes.splice(at..at, what.iter().copied());
}

fn flip(chance: &mut Chance, bytes: &mut [u8]) {
    let at = chance.below(bytes.len());
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << chance.below(8);
    }
}

fn copy(chance: &mut Chance, bytes: &mut Vec<u8>) {
    let what = bytes[piece(chance, bytes.len())].to_vec();
    insert(bytes, chance.below(bytes.len() + 1), &what);
}

fn splice(chance: &mut Chance, bytes: &mut Vec<u8>, files: &[Vec<u8>]) {
    let other = &files[chance.below(files.len())];
    let what = &other[piece(chance, other.len())];
    insert(bytes, chance.below(bytes.len() + 1), what);
}

fn put(chance: &mut Chance, bytes: &mut Vec<u8>, words: &[&str]) {
    insert(bytes, chance.below(bytes.len() + 1), chance.pick(words).as_bytes());
}

/// Puts a word in the place of another.
fn exchange(chance: &mut Chance, bytes: &mut Vec<u8>, words: &[&str]) {
    let part_of_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let at = chance.below(bytes.len() + 1);
    let from = bytes[..at].iter().rposition(|b| !part_of_word(b)).map_or(0, |i| i + 1);
    let length = bytes[from..].iter().take_while(|b| part_of_word(b)).count();
    bytes.splice(from..from + length, chance.pick(words).bytes());
}

/// Repeats a word or a piece up to 4,096 times, in one place.
fn nest(chance: &mut Chance, bytes: &mut Vec<u8>, words: &[&str]) {
    let what = match chance.below(2) {
        0 => chance.pick(words).as_bytes().to_vec(),
        _ => bytes[piece(chance, bytes.len())].to_vec(),
    };
    let times = 1 << chance.below(DEEPEST + 1);
    let most = LONGEST / what.len().max(1);
    let at = chance.below(bytes.len() + 1);
    insert(bytes, at, &what.repeat(times.min(most)));
}
