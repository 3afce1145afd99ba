//! The same for each of several names, as `stop a b c`: at once, told in the order of the names.

use crate::failure::{Failure, Outcome, Result};
use crate::output;

/// How many requests are under way at a time.
const AT_ONCE: usize = 16;

/// Does it and prints each name that it was done to. Failures are told; the others go on.
pub fn each<F>(names: &[String], act: F) -> Outcome
where
    F: Fn(&str) -> Result<()> + Sync,
{
    each_printing(names, |name| act(name).map(|()| Some(name.to_string())))
}

/// As [`each`], printing what it returns.
pub fn each_printing<F>(names: &[String], act: F) -> Outcome
where
    F: Fn(&str) -> Result<Option<String>> + Sync,
{
    let mut code = 0;
    let act = &act;
    for some in names.chunks(AT_ONCE) {
        let results: Vec<Result<Option<String>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = some.iter().map(|name| scope.spawn(move || act(name))).collect();
            let ended = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err(Failure::words("a request's thread panicked")))
            };
            threads.into_iter().map(ended).collect()
        });
        for result in results {
            match result {
                Ok(Some(text)) => output::line(text)?,
                Ok(None) => {}
                Err(Failure::OutputClosed) => return Err(Failure::OutputClosed),
                Err(error) => {
                    output::note(error.sentence());
                    code = 1;
                }
            }
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_does_not_keep_the_others_from_it() {
        let done = std::sync::Mutex::new(Vec::new());
        let names = ["a", "b", "c"].map(String::from);
        let code = each_printing(&names, |name| {
            done.lock().unwrap().push(name.to_string());
            if name == "b" { Err(Failure::words("no b")) } else { Ok(None) }
        });
        assert_eq!(code.unwrap(), 1);
        let mut done = done.into_inner().unwrap();
        done.sort();
        assert_eq!(done, ["a", "b", "c"]);
    }
}
