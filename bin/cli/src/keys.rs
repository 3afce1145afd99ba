//! Detach keys: which bytes they are, and whether they have been typed. The daemon acts on them; the command
//! line only has to know why the output ended.

use crate::failure::{Failure, Result};

/// What is meant when nothing is said.
const DEFAULT: &str = "ctrl-p,ctrl-q";

/// A sequence of keys, being looked for.
#[derive(Debug, Clone)]
pub struct Keys {
    sequence: Vec<u8>,
    matched: usize,
}

impl Keys {
    /// Reads `ctrl-p,ctrl-q`, `a,b`, or `ctrl-` with one of `a` to `z` and `@[\]^_`.
    pub fn parse(text: Option<&str>) -> Result<Self> {
        let text = text.filter(|text| !text.is_empty()).unwrap_or(DEFAULT);
        let wrong = |word: &str| {
            Failure::words(format!("invalid detach keys ({text}): Unknown character: '{word}'"))
        };
        let key = |word: &str| match word.strip_prefix("ctrl-").unwrap_or(word).as_bytes() {
            [letter] if word.len() == 1 => Ok(*letter),
            [letter @ b'a'..=b'z'] => Ok(letter - b'a' + 1),
            b"@" => Ok(0),
            [sign @ b'['..=b'_'] => Ok(sign - b'[' + 27),
            _ => Err(wrong(word)),
        };
        Ok(Self { sequence: text.split(',').map(key).collect::<Result<_>>()?, matched: 0 })
    }

    /// Looks at what is typed; whether the sequence has been completed.
    pub fn typed(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            if *byte == self.sequence[self.matched] {
                self.matched += 1;
            } else {
                self.matched = usize::from(*byte == self.sequence[0]);
            }
            if self.matched == self.sequence.len() {
                self.matched = 0;
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        assert_eq!(Keys::parse(None).unwrap().sequence, [16, 17]);
        assert_eq!(
            Keys::parse(Some("ctrl-@,ctrl-[,ctrl-_,a,,")).ok().map(|keys| keys.sequence),
            None
        );
        assert_eq!(
            Keys::parse(Some("ctrl-@,ctrl-[,ctrl-_,a")).unwrap().sequence,
            [0, 27, 31, b'a']
        );
        let error = Keys::parse(Some("ctrl-P")).unwrap_err().sentence();
        assert_eq!(error, "invalid detach keys (ctrl-P): Unknown character: 'ctrl-P'");
        assert!(Keys::parse(Some("shift-a")).is_err());
    }

    #[test]
    fn a_sequence_may_arrive_in_pieces() {
        let mut keys = Keys::parse(None).unwrap();
        assert!(!keys.typed(b"ls\r\x10"));
        assert!(!keys.typed(b"x\x11"));
        assert!(!keys.typed(b"\x10\x10"));
        assert!(keys.typed(b"\x11"));
        assert!(!keys.typed(b"\x11"));
    }
}
