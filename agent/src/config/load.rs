//! From files, `--set` and the environment to one tree of values, each with its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostics::{Diagnostic, Diagnostics, Severity};
use super::environment::Environment;
use super::text::{Span, Texts};
use super::tree::{KeyPath, Node, Table, Value};
use super::{expand, merge, parse};

/// One place that configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, or a folder: then its `*.toml` files in the order of their names.
    Path(PathBuf),
    /// The standard input.
    Stdin,
    /// A text, with a name for messages.
    Text {
        /// The name.
        name: String,
        /// The text.
        content: String,
    },
}

impl Source {
    /// What `--config` names: `-` is the standard input.
    pub fn from_argument(argument: &str) -> Self {
        match argument {
            "-" => Self::Stdin,
            path => Self::Path(path.into()),
        }
    }
}

/// A configuration as it was written: merged, expanded, not yet understood.
#[derive(Debug)]
pub struct Tree {
    pub(crate) root: Node,
    pub(crate) texts: Arc<Texts>,
    /// Whether anything is missing from the tree, so that looking at the rest would only mislead.
    pub(crate) incomplete: bool,
    /// The files and folders that were read, for whoever watches them.
    pub paths: Vec<PathBuf>,
}

/// Reads, merges in order, applies `sets` (`a.b.c=value`, which win over all files) and expands.
///
/// The tree is there even with errors; what was wrong is missing from it.
pub fn load(
    sources: &[Source],
    sets: &[String],
    environment: &dyn Environment,
) -> (Tree, Diagnostics) {
    let mut loader = Loader {
        environment,
        texts: Texts::default(),
        merged: Table::default(),
        paths: Vec::new(),
        incomplete: false,
        found: Diagnostics::default(),
    };
    if sources.is_empty() && sets.is_empty() {
        loader.fail(None, "no configuration: name a file with --config FILE");
    }
    for source in sources {
        loader.source(source);
    }
    for set in sets {
        loader.set(set);
    }
    loader.finish()
}

struct Loader<'a> {
    environment: &'a dyn Environment,
    texts: Texts,
    merged: Table,
    paths: Vec<PathBuf>,
    incomplete: bool,
    found: Diagnostics,
}

impl Loader<'_> {
    fn source(&mut self, source: &Source) {
        match source {
            Source::Text { name, content } => self.document(name, None, content.clone()),
            Source::Stdin => match self.environment.stdin() {
                Ok(content) => self.document("stdin", None, content),
                Err(problem) => self.fail(None, &format!("the standard input {problem}")),
            },
            Source::Path(path) => self.path(path),
        }
    }

    fn path(&mut self, path: &Path) {
        self.paths.push(path.to_owned());
        match self.environment.folder(path) {
            Ok(None) => self.file(path),
            Ok(Some(files)) if files.is_empty() => {
                self.fail(
                    None,
                    &format!("the folder {} has no *.toml file", path.display()),
                );
            }
            Ok(Some(files)) => files.iter().for_each(|file| self.file(file)),
            Err(problem) => self.fail(None, &format!("the folder {} {problem}", path.display())),
        }
    }

    fn file(&mut self, path: &Path) {
        match self.environment.file(path) {
            Ok(content) => {
                let folder = path
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty());
                self.document(&path.display().to_string(), folder, content);
            }
            Err(problem) => self.fail(None, &format!("the file {} {problem}", path.display())),
        }
    }

    fn document(&mut self, name: &str, folder: Option<&Path>, content: String) {
        let text = self.texts.add(name, folder, content);
        let (table, errors) = parse::document(text, self.texts.content(text));
        for error in errors {
            self.fail(Some(error.span), &error.message);
        }
        merge::merge(&mut self.merged, table);
    }

    fn set(&mut self, content: &str) {
        let key = content.split('=').next().unwrap_or("").trim();
        let text = self
            .texts
            .add(&format!("--set {key}"), None, content.to_owned());
        match merge::set(text, content) {
            Ok(table) => merge::merge(&mut self.merged, table),
            Err(problem) => {
                let end = content.len();
                let span = Span {
                    text,
                    start: 0,
                    end,
                };
                self.fail(Some(span), &problem);
            }
        }
    }

    /// Reports an error after which the tree is not whole.
    fn fail(&mut self, span: Option<Span>, message: &str) {
        self.incomplete = true;
        self.found.push(Diagnostic {
            severity: Severity::Error,
            place: span.and_then(|span| self.texts.place(span)),
            key: String::new(),
            message: message.to_owned(),
        });
    }

    fn finish(mut self) -> (Tree, Diagnostics) {
        let mut root = Node::new(Value::Table(self.merged), Span::default());
        for (path, message) in expand::expand(&mut root, &self.texts, self.environment) {
            self.found.push(Diagnostic {
                severity: Severity::Error,
                place: self.texts.place(root.value_span(&path.0)),
                key: path.to_string(),
                message,
            });
        }
        let tree = Tree {
            root,
            texts: Arc::new(self.texts),
            incomplete: self.incomplete,
            paths: self.paths,
        };
        (tree, self.found)
    }
}

impl Tree {
    /// The text at a path of keys, if there is one; also of a configuration that is wrong elsewhere.
    pub(crate) fn text_at(&self, keys: &[&str]) -> Option<&str> {
        match &self.root.at(&KeyPath::of(keys).0)?.value {
            Value::Text(text) => Some(text),
            Value::Given(given) => Some(&given.text),
            _ => None,
        }
    }

    /// The place of a key, for a message about the key itself.
    pub(crate) fn place_of_key(&self, path: &KeyPath) -> Option<super::text::Place> {
        self.texts.place(self.root.key_span(&path.0))
    }
}

/// Loads arbitrary text in one of the ways there are: for the fuzzer, which looks for panics and endless work.
pub fn fuzz_load(input: &str) {
    struct Nothing;
    impl Environment for Nothing {
        fn variable(&self, name: &str) -> Result<Option<String>, String> {
            Ok((name.len().is_multiple_of(2)).then(|| format!("${{env:{name}}}$")))
        }
        fn file(&self, path: &Path) -> Result<String, String> {
            Ok(path.display().to_string())
        }
        fn folder(&self, _: &Path) -> Result<Option<Vec<PathBuf>>, String> {
            Ok(None)
        }
        fn stdin(&self) -> Result<String, String> {
            Ok(String::new())
        }
    }
    let text = |name: &str, content: &str| Source::Text {
        name: name.to_owned(),
        content: content.to_owned(),
    };
    // One way each, by the length of the text: a run stays short, and the fuzzer changes lengths all the time.
    let (sources, sets) = match input.len() % 4 {
        0 => (vec![], vec![input.to_owned()]),
        1 => {
            let half = input.char_indices().nth(input.chars().count() / 2);
            let (first, second) = input.split_at(half.map_or(0, |(at, _)| at));
            (vec![text("first", first), text("second", second)], vec![])
        }
        _ => (vec![text("whole", input)], vec![]),
    };
    let (mut tree, mut found) = load(&sources, &sets, &Nothing);
    tree.incomplete = false;
    let resolved =
        super::resolve::resolve(&tree, &super::resolve::Registries::BUILT_IN, &mut found);
    drop(resolved);
    found.sort();
    drop(found.with_excerpts());
    drop(super::print::render(
        &tree,
        super::print::Format::Toml,
        true,
    ));
    drop(super::print::render(
        &tree,
        super::print::Format::Json,
        false,
    ));
}
