//! The arguments of `ps`: which columns, under which titles.

use super::columns::{COLUMNS, Column};
use crate::error::{Error, Result};

/// Columns with their titles.
pub type Table = Vec<(Column, String)>;

const FULL: &str = "user,pid,ppid,c,stime,tname,time,cmd";
const SHORT: &str = "pid,tname,time,ucmd";
const BSD: &str = "pid,tname,stat,bsdtime,args";
const USER: &str = "user,pid,pcpu,pmem,vsz,rss,tname,stat,bsdstart,bsdtime,args";

/// What is asked for besides a list of columns.
#[derive(Default)]
struct Asked {
    list: Table,
    full: bool,
    user: bool,
    bsd: bool,
}

/// Reads arguments such as `-ef`, `aux`, `-eo pid,comm`. Which processes they choose does not matter: it
/// always is all of the container's.
pub fn parse(args: &str) -> Result<Table> {
    let mut asked = Asked::default();
    let mut words = args.split_whitespace();
    while let Some(word) = words.next() {
        let rest = match word.strip_prefix('-') {
            Some(options) => asked.dashed(options),
            None => asked.plain(word),
        };
        match rest {
            Some(None) => {}
            Some(Some("")) => {
                let list = words.next().ok_or_else(|| refused(args))?;
                asked.columns(list, args)?;
            }
            Some(Some(list)) => asked.columns(list, args)?,
            None => return Err(refused(args)),
        }
    }
    if !asked.list.is_empty() {
        return Ok(asked.list);
    }
    let preset = match (asked.full, asked.user, asked.bsd) {
        (true, false, false) => FULL,
        (false, true, _) => USER,
        (false, false, true) => BSD,
        (false, false, false) => SHORT,
        _ => return Err(refused(args)),
    };
    asked.columns(preset, args)?;
    if preset == FULL {
        asked.list[0].1 = "UID".into();
    }
    Ok(asked.list)
}

impl Asked {
    /// Takes options after a dash. `None`: unknown; `Some(Some(rest))`: a list of columns follows, in this
    /// word or, when it is empty, in the next.
    fn dashed<'a>(&mut self, options: &'a str) -> Option<Option<&'a str>> {
        for (index, option) in options.char_indices() {
            match option {
                'e' | 'A' | 'w' => {}
                'f' => self.full = true,
                'o' => return Some(Some(&options[index + 1..])),
                _ => return None,
            }
        }
        (!options.is_empty()).then_some(None)
    }

    /// The same for options without a dash.
    fn plain<'a>(&mut self, options: &'a str) -> Option<Option<&'a str>> {
        for (index, option) in options.char_indices() {
            match option {
                'a' | 'x' | 'w' => self.bsd = true,
                'u' => self.user = true,
                'o' => return Some(Some(&options[index + 1..])),
                _ => return None,
            }
        }
        Some(None)
    }

    /// Adds columns by name; `name=TITLE` has a title of its own, and is the last of its list.
    fn columns(&mut self, list: &str, args: &str) -> Result<()> {
        let (names, title) = match list.split_once('=') {
            Some((names, title)) => (names, Some(title)),
            None => (list, None),
        };
        for name in names.split(',') {
            let column = Column::named(name).ok_or_else(|| refused(args))?;
            self.list.push((column, column.title().into()));
        }
        if let (Some(title), Some(last)) = (title, self.list.last_mut()) {
            last.1 = title.into();
        }
        Ok(())
    }
}

fn refused(args: &str) -> Error {
    let names: Vec<&str> = COLUMNS.iter().flat_map(|known| known.names).copied().collect();
    Error::invalid(format!(
        "ps arguments {args:?} are not supported: give -ef, -e, aux or ax, or -o, -eo or axo with columns \
         from {}",
        names.join(",")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(args: &str) -> String {
        let table = parse(args).unwrap();
        table.into_iter().map(|(_, title)| title).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_usual_arguments_have_their_columns() {
        let cases = [
            ("-ef", "UID PID PPID C STIME TTY TIME CMD"),
            ("-e -f", "UID PID PPID C STIME TTY TIME CMD"),
            ("-A", "PID TTY TIME CMD"),
            ("ax", "PID TTY STAT TIME COMMAND"),
            ("aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("auxww", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("-eo pid,user,comm", "PID USER COMMAND"),
            ("-o pid,args", "PID COMMAND"),
            ("-opid,cmd", "PID CMD"),
            ("axo pid,pcpu,rss", "PID %CPU RSS"),
            ("-o pid -o rss=MEMORY,x", "PID MEMORY,x"),
            ("o pid=", ""),
        ];
        for (args, expected) in cases {
            assert_eq!(titles(args), expected, "{args}");
        }
    }

    #[test]
    fn others_are_refused_with_what_is_there() {
        for args in ["-l", "--sort pid", "-eo", "-eo pid,what", "-", "-p 1", "aux -ef", "f"] {
            let error = parse(args).unwrap_err();
            assert_eq!(error.kind, crate::Kind::Invalid);
            assert!(error.message.contains(args) && error.message.contains("pcpu"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_arguments_are_read_or_refused(args in ".{0,24}", like in "[-aeuxo=, pidcm]{0,16}") {
            let _ = parse(&args);
            let _ = parse(&like);
        }
    }
}
