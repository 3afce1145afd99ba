//! `caisson completion`.

use clap::Args;
use clap_complete::Shell;

use crate::failure::Outcome;
use crate::output;

/// Print the completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(caisson completion bash)
  caisson completion zsh > /usr/share/zsh/site-functions/_caisson
  caisson completion fish > ~/.config/fish/completions/caisson.fish")]
pub struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub fn run(&self) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::command(), "caisson", &mut script);
        output::bytes(&script)?;
        Ok(0)
    }
}
