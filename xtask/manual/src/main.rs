//! Writes the manual pages and the shells' completions, from the very definitions that the programs parse
//! their arguments with. A program of its own: only it needs both of them, and `cargo xtask install` runs it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use clap_complete::{Generator, Shell, generate};

/// Writes manual pages and completions.
#[derive(Parser)]
struct Arguments {
    /// What they go below: `man/man1`, `man/man8`, `bash-completion/completions`, and so on.
    share: PathBuf,
}

fn main() -> Result<()> {
    write(&Arguments::parse().share)
}

fn write(share: &Path) -> Result<()> {
    let daemon = caisson_daemon::Flags::command();
    pages(&caisson_cli::command(), "1", &share.join("man/man1"))?;
    pages(&daemon, "8", &share.join("man/man8"))?;
    for command in [caisson_cli::command(), daemon] {
        completion(Shell::Bash, &command, &share.join("bash-completion/completions"))?;
        completion(Shell::Zsh, &command, &share.join("zsh/site-functions"))?;
        completion(Shell::Fish, &command, &share.join("fish/vendor_completions.d"))?;
    }
    Ok(())
}

/// A page for the command and one for each that it has, named as in `caisson-image-ls.1`.
fn pages(command: &clap::Command, section: &str, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let mut command = command.clone();
    command.build();
    page(&command, section, directory)
}

fn page(command: &clap::Command, section: &str, directory: &Path) -> Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_string();
    let man = clap_mangen::Man::new(command.clone()).section(section).title(name.to_uppercase());
    let mut text = Vec::new();
    man.render(&mut text)?;
    let path = directory.join(format!("{name}.{section}"));
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    let others = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    others.filter(|sub| sub.get_name() != "help").try_for_each(|sub| page(sub, section, directory))
}

fn completion(shell: Shell, command: &clap::Command, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let name = command.get_name().to_string();
    // The file that bash-completion looks for has the command's bare name.
    let file = if shell == Shell::Bash { name.clone() } else { shell.file_name(&name) };
    let mut text = Vec::new();
    generate(shell, &mut command.clone(), name, &mut text);
    let path = directory.join(file);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_a_completion() {
        let share = tempfile::tempdir().unwrap();
        write(share.path()).unwrap();
        let read = |path: &str| fs::read_to_string(share.path().join(path)).unwrap();
        assert!(read("man/man1/caisson-set.1").contains("runtime\\-type"));
        assert!(read("man/man1/caisson-image-ls.1").contains(".TH CAISSON-IMAGE-LS 1"));
        assert!(read("man/man8/caissond.8").contains("data\\-root"));
        assert!(read("bash-completion/completions/caisson").contains("--runtime-type"));
        assert!(read("zsh/site-functions/_caissond").contains("--data-root"));
        assert!(read("fish/vendor_completions.d/caisson.fish").contains("runtime-type"));
    }
}
