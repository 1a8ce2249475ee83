//! The modules of the crate and the arrows between their files: resolves named paths to files, finds circles.
//!
//! Which arrows are allowed is for the test to say; how source is read stands in `source`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::source::{NamedPath, named_paths};

/// A module of the crate as its path from the root; the root itself is empty.
pub(crate) type Module = Vec<String>;

/// The source files of a crate, each a module.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    sources: BTreeMap<Module, String>,
}

/// Which file names which other, each with a path that proves it.
pub(crate) type Arrows = BTreeMap<(Module, Module), String>;

impl Tree {
    /// A tree from `(file, source)` pairs, files as they stand below `src`, such as `registry/counter.rs`.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (file, source) in files {
            tree.add(file, source);
        }
        tree
    }

    /// The tree of all `.rs` files below this directory.
    pub(crate) fn read(root: &Path) -> std::io::Result<Self> {
        let mut tree = Self::default();
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory)? {
                let path = entry?.path();
                if path.is_dir() {
                    directories.push(path);
                } else if let Some(file) = path.strip_prefix(root).ok().and_then(Path::to_str)
                    && path.extension().is_some_and(|extension| extension == "rs")
                {
                    tree.add(file, &std::fs::read_to_string(&path)?);
                }
            }
        }
        Ok(tree)
    }

    /// Test modules and the binary are left out: the first may look anywhere, the second is above everything.
    fn add(&mut self, file: &str, source: &str) {
        let module: Module = match file.trim_end_matches(".rs") {
            "main" => return,
            "lib" => Module::new(),
            path => path.split('/').map(str::to_owned).collect(),
        };
        if module.last().is_none_or(|name| name != "tests") {
            self.sources.insert(module, source.to_owned());
        }
    }

    /// Every file with its module.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&Module, &str)> {
        self.sources
            .iter()
            .map(|(module, source)| (module, source.as_str()))
    }

    /// All arrows between different files.
    pub(crate) fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (module, source) in &self.sources {
            for path in named_paths(source) {
                if let Some(target) = self.resolve(module, &path)
                    && target != *module
                {
                    arrows
                        .entry((module.clone(), target))
                        .or_insert_with(|| path.segments.join("::"));
                }
            }
        }
        arrows
    }

    /// The file that this path leads to; `None` for a path out of the crate, or one that stays in an inline module.
    fn resolve(&self, file: &Module, path: &NamedPath) -> Option<Module> {
        let mut place: Module = file.iter().chain(&path.within).cloned().collect();
        let mut rest = path.segments.as_slice();
        match rest.first().map(String::as_str)? {
            "crate" => place.clear(),
            "self" => {}
            "super" => {
                place.pop();
            }
            first => {
                place.push(first.to_owned());
                if !self.sources.contains_key(&place) {
                    return None;
                }
            }
        }
        rest = &rest[1..];
        while let Some((first, after)) = rest.split_first() {
            if first == "super" {
                place.pop();
            } else if first != "self" {
                place.push(first.clone());
                if !self.sources.contains_key(&place) {
                    place.pop();
                    break;
                }
            }
            rest = after;
        }
        // What is left may be an inline module: the file around it is the one that counts.
        while !self.sources.contains_key(&place) {
            place.pop()?;
        }
        Some(place)
    }
}

/// One circle among these arrows, as the files along it, if there is any.
pub(crate) fn circle(arrows: &Arrows) -> Option<Vec<Module>> {
    let mut finished = BTreeSet::new();
    let starts: BTreeSet<&Module> = arrows.keys().map(|(from, _)| from).collect();
    starts
        .into_iter()
        .find_map(|start| descend(start, arrows, &mut Vec::new(), &mut finished))
}

fn descend<'a>(
    module: &'a Module,
    arrows: &'a Arrows,
    trail: &mut Vec<&'a Module>,
    finished: &mut BTreeSet<&'a Module>,
) -> Option<Vec<Module>> {
    if let Some(at) = trail.iter().position(|seen| *seen == module) {
        return Some(trail[at..].iter().map(|&module| module.clone()).collect());
    }
    if finished.contains(module) {
        return None;
    }
    trail.push(module);
    let next = arrows
        .keys()
        .filter(|(from, _)| from == module)
        .map(|(_, to)| to);
    for target in next {
        if let Some(found) = descend(target, arrows, trail, finished) {
            return Some(found);
        }
    }
    trail.pop();
    finished.insert(module);
    None
}
