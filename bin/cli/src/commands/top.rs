//! `caisson top`.

use caisson_api::client::Client;
use clap::Args;
use serde_json::Value;

use crate::failure::Outcome;
use crate::json::{list, texts};
use crate::{output, table};

/// The narrowest column of this table.
const NARROWEST: usize = 20;

/// Display the running processes of a container
///
/// In a hyperv container they are the processes inside the microVM, which this host does not see.
#[derive(Debug, Args)]
#[command(override_usage = "caisson top CONTAINER [ps OPTIONS]")]
pub struct Top {
    /// The container, and options as ps has them
    #[arg(value_name = "CONTAINER [ps OPTIONS]", required = true, trailing_var_arg = true)]
    words: Vec<String>,
}

impl Top {
    pub fn run(&self, client: &Client) -> Outcome {
        let options = self.words[1..].join(" ");
        let options = (!options.is_empty()).then_some(options.as_str());
        let request = client.get(&["containers", &self.words[0], "top"]);
        let answer: Value = request.query_some("ps_args", options).send()?.json()?;
        let mut lines = vec![texts(&answer["Titles"]).join("\t")];
        lines.extend(list(&answer["Processes"]).iter().map(|process| texts(process).join("\t")));
        output::bytes(table::align_from(&lines, NARROWEST).as_bytes())?;
        Ok(0)
    }
}
