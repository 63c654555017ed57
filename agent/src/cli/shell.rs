//! What a package installs beside the program: completions for shells, and manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, complain, print_bytes};

/// Print the completions of a shell.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Write the manual pages into a folder: `tidegate.1`, and one for each command.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// The folder; it is made if it is not there.
    folder: PathBuf,
}

/// `completions`.
pub fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tidegate", &mut text);
    print_bytes(&text)
}

/// `man`.
pub fn man(args: &ManArgs) -> ExitCode {
    let folder = &args.folder;
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let folder = folder.display();
            complain(&format!(
                "tidegate: cannot write the manual pages into {folder}: {error}\n"
            ));
            ExitCode::FAILURE
        }
    }
}
