//! The keys that detach a client from a terminal.

use crate::reply::{Failure, Result};

/// Finds the keys in what a client types.
#[derive(Debug)]
pub struct Watcher {
    keys: Vec<u8>,
    /// What may be their beginning, and is not passed on yet.
    held: Vec<u8>,
}

/// Reads keys such as `ctrl-p,ctrl-q`; none are the default.
pub fn parse(text: Option<&str>) -> Result<Vec<u8>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(vec![0x10, 0x11]) };
    let keys = text.split(',').map(key).collect::<Option<Vec<u8>>>();
    keys.ok_or_else(|| Failure::invalid(format!("Invalid detach keys ({text}) provided")))
}

fn key(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [key] => Some(*key),
        b"DEL" => Some(127),
        [b'c', b't', b'r', b'l', b'-', key] => match key {
            b'a'..=b'z' => Some(key - b'a' + 1),
            b'@' => Some(0),
            b'['..=b'_' => Some(key - b'@'),
            _ => None,
        },
        _ => None,
    }
}

impl Watcher {
    pub fn new(keys: Vec<u8>) -> Self {
        Watcher { keys, held: Vec::new() }
    }

    /// Adds what is to be passed on to `output`; true when the keys are complete.
    pub fn pass(&mut self, input: &[u8], output: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            output.extend_from_slice(input);
            return false;
        }
        for byte in input {
            self.held.push(*byte);
            while !self.keys.starts_with(&self.held) {
                output.push(self.held.remove(0));
            }
            if self.held.len() == self.keys.len() {
                return true;
            }
        }
        false
    }

    /// What was held back, when no more comes.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on of these pieces, and whether it ends by the keys.
    fn pass(keys: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut watcher = Watcher::new(parse(Some(keys)).unwrap());
        let mut output = Vec::new();
        let found = pieces.iter().any(|piece| watcher.pass(piece, &mut output));
        if !found {
            output.extend(watcher.rest());
        }
        (output, found)
    }

    #[test]
    fn keys_are_read_as_docker_reads_them() {
        assert_eq!(parse(None).unwrap(), [16, 17]);
        assert_eq!(
            parse(Some("ctrl-a,x,ctrl-@,ctrl-[,ctrl-_,DEL")).unwrap(),
            [1, b'x', 0, 27, 31, 127]
        );
        for bad in ["ctrl-A", "ab", "ctrl-p,,q", "ctrl-", "ctrl-1"] {
            let message = parse(Some(bad)).unwrap_err().message;
            assert_eq!(message, format!("Invalid detach keys ({bad}) provided"));
        }
    }

    #[test]
    fn only_the_whole_sequence_detaches() {
        assert_eq!(pass("", &[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(pass("", &[b"ab\x10", b"\x11"]), (b"ab".to_vec(), true));
        assert_eq!(pass("", &[b"ab\x10", b"c\x11"]), (b"ab\x10c\x11".to_vec(), false));
        assert_eq!(pass("", &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(pass("a,a,b", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(pass("", &[b"ab\x10"]), (b"ab\x10".to_vec(), false));
    }
}
