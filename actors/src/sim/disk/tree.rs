//! Names: which lead to which file now, and which will once power was lost. Pure.
//!
//! Changes of names wait in a list until a directory that they touch is synced. A crash lets each of them happen or not,
//! in any way that keeps their order at each name; a move is never half undone, so that nothing is without a name.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use rand::Rng;

use super::content::Content;

/// Which file or directory, under whatever names.
pub(super) type Id = u64;

const ROOT: Id = 0;

pub(super) struct Tree {
    nodes: BTreeMap<Id, Node>,
    /// Changes of names that no sync has made durable, oldest first.
    changes: Vec<Change>,
    next: u64,
}

enum Node {
    File { content: Content, open: u32 },
    Dir(Names),
}

#[derive(Default)]
struct Names {
    now: BTreeMap<String, Id>,
    durable: BTreeMap<String, Id>,
}

/// A name in a directory leads somewhere else, or nowhere.
struct Change {
    /// Changes of one operation share it; the name that comes is before the one that goes.
    operation: u64,
    dir: Id,
    name: String,
    to: Option<Id>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: [(ROOT, Node::Dir(Names::default()))].into(), changes: Vec::new(), next: ROOT + 1 }
    }
}

impl Tree {
    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut at = ROOT;
        for name in names(path) {
            at = match self.names(at)?.now.get(&name) {
                Some(there) => *there,
                None => self.add(at, name, Node::Dir(Names::default())),
            };
        }
        self.names(at).map(|_| ())
    }

    pub(super) fn create_new(&mut self, path: &Path) -> io::Result<Id> {
        let (dir, name) = self.free(path)?;
        Ok(self.add(dir, name, Node::File { content: Content::default(), open: 0 }))
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        Ok(self.names(self.entry(path)?)?.now.keys().cloned().collect())
    }

    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.file(from)?;
        let (dir, name) = self.free(to)?;
        self.next += 1;
        self.change(dir, name, Some(file));
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (moved, (old_dir, old_name)) = (self.entry(from)?, self.place(from)?);
        let (dir, name) = self.place(to)?;
        if self.names(moved).is_ok() && to.starts_with(from) && to != from {
            return Err(ErrorKind::InvalidInput.into());
        }
        match self.names(dir)?.now.get(&name).copied() {
            // As POSIX has it: two names of one file stay.
            Some(there) if there == moved => return Ok(()),
            Some(there) => self.may_replace(there, moved)?,
            None => {}
        }
        self.next += 1;
        self.change(dir, name, Some(moved));
        self.change(old_dir, old_name, None);
        Ok(())
    }

    fn may_replace(&self, there: Id, by: Id) -> io::Result<()> {
        match (self.names(there), self.names(by)) {
            (Ok(names), Ok(_)) if !names.now.is_empty() => Err(ErrorKind::DirectoryNotEmpty.into()),
            (Ok(_), Err(_)) => Err(ErrorKind::IsADirectory.into()),
            (Err(_), Ok(_)) => Err(ErrorKind::NotADirectory.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.remove(path)
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        match self.names(self.entry(path)?)?.now.is_empty() {
            true => self.remove(path),
            false => Err(ErrorKind::DirectoryNotEmpty.into()),
        }
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        self.next += 1;
        self.change(dir, name, None);
        Ok(())
    }

    /// Makes the names in a directory durable, and those in others that moved there from it.
    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let mut dirs = BTreeSet::from([self.entry(path)?]);
        self.names(self.entry(path)?)?;
        loop {
            let leaves = |change: &&Change| change.to.is_none() && dirs.contains(&change.dir);
            let left: BTreeSet<_> = self.changes.iter().filter(leaves).map(|change| change.operation).collect();
            let more = self.changes.iter().filter(|change| left.contains(&change.operation)).map(|change| change.dir);
            let before = dirs.len();
            dirs.extend(more.collect::<Vec<_>>());
            if dirs.len() == before {
                break;
            }
        }
        let (synced, rest) =
            std::mem::take(&mut self.changes).into_iter().partition(|change| dirs.contains(&change.dir));
        self.changes = rest;
        self.make_durable(synced);
        Ok(())
    }

    pub(super) fn sync_all(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        self.make_durable(changes);
        for node in self.nodes.values_mut() {
            if let Node::File { content, .. } = node {
                content.sync();
            }
        }
    }

    /// Power is lost: only what is durable is left, and what chance makes so.
    pub(super) fn crash(&mut self, random: &mut impl Rng) {
        let changes = std::mem::take(&mut self.changes);
        let happened = survivors(changes, random);
        self.make_durable(happened);
        for node in self.nodes.values_mut() {
            match node {
                Node::Dir(names) => names.now = names.durable.clone(),
                Node::File { content, open } => {
                    content.crash(random);
                    *open = 0;
                }
            }
        }
        let reached = self.reached();
        self.nodes.retain(|id, _| reached.contains(id));
    }

    fn make_durable(&mut self, changes: Vec<Change>) {
        for change in changes {
            let Some(Node::Dir(names)) = self.nodes.get_mut(&change.dir) else { continue };
            match change.to {
                Some(id) => names.durable.insert(change.name, id),
                None => names.durable.remove(&change.name),
            };
        }
    }

    fn reached(&self) -> BTreeSet<Id> {
        let (mut reached, mut next) = (BTreeSet::new(), vec![ROOT]);
        while let Some(id) = next.pop() {
            if let (true, Some(Node::Dir(names))) = (reached.insert(id), self.nodes.get(&id)) {
                next.extend(names.now.values());
            }
        }
        reached
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let reached = self.reached();
        let bytes = |(id, node): (&Id, &Node)| match node {
            Node::File { content, open } if *open > 0 || reached.contains(id) => content.bytes().len() as u64,
            _ => 0,
        };
        self.nodes.iter().map(bytes).sum()
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        let (mut found, mut next) = (Vec::new(), vec![(PathBuf::from("/"), ROOT)]);
        while let Some((path, id)) = next.pop() {
            match self.nodes.get(&id) {
                Some(Node::Dir(names)) => next.extend(names.now.iter().map(|(name, id)| (path.join(name), *id))),
                _ => found.push(path),
            }
        }
        found.sort();
        found
    }

    /// What a path leads to.
    pub(super) fn entry(&self, path: &Path) -> io::Result<Id> {
        let mut at = ROOT;
        for name in names(path) {
            at = *self.names(at)?.now.get(&name).ok_or(ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    /// The file that a path leads to.
    pub(super) fn file(&self, path: &Path) -> io::Result<Id> {
        let entry = self.entry(path)?;
        match self.names(entry) {
            Ok(_) => Err(ErrorKind::IsADirectory.into()),
            Err(_) => Ok(entry),
        }
    }

    pub(super) fn content(&mut self, file: Id) -> io::Result<&mut Content> {
        match self.nodes.get_mut(&file) {
            Some(Node::File { content, .. }) => Ok(content),
            _ => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn opened(&mut self, file: Id) {
        if let Some(Node::File { open, .. }) = self.nodes.get_mut(&file) {
            *open += 1;
        }
    }

    pub(super) fn closed(&mut self, file: Id) {
        if let Some(Node::File { open, .. }) = self.nodes.get_mut(&file) {
            *open = open.saturating_sub(1);
        }
    }

    fn names(&self, dir: Id) -> io::Result<&Names> {
        match self.nodes.get(&dir) {
            Some(Node::Dir(names)) => Ok(names),
            Some(Node::File { .. }) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// The directory that a path is in, and its name there.
    fn place(&self, path: &Path) -> io::Result<(Id, String)> {
        let mut names = names(path);
        let name = names.pop().ok_or(ErrorKind::InvalidInput)?;
        let dir = self.entry(&names.iter().collect::<PathBuf>())?;
        self.names(dir)?;
        Ok((dir, name))
    }

    /// The same, of a name that is not taken.
    fn free(&self, path: &Path) -> io::Result<(Id, String)> {
        let (dir, name) = self.place(path)?;
        match self.names(dir)?.now.contains_key(&name) {
            true => Err(ErrorKind::AlreadyExists.into()),
            false => Ok((dir, name)),
        }
    }

    fn add(&mut self, dir: Id, name: String, node: Node) -> Id {
        self.next += 1;
        let id = self.next;
        self.nodes.insert(id, node);
        self.change(dir, name, Some(id));
        id
    }

    fn change(&mut self, dir: Id, name: String, to: Option<Id>) {
        if let Some(Node::Dir(names)) = self.nodes.get_mut(&dir) {
            match to {
                Some(id) => names.now.insert(name.clone(), id),
                None => names.now.remove(&name),
            };
        }
        self.changes.push(Change { operation: self.next, dir, name, to });
    }
}

/// Those of the changes that chance lets happen although nobody synced them.
fn survivors(changes: Vec<Change>, random: &mut impl Rng) -> Vec<Change> {
    // Either in order, as a journal has it, or each name by itself, as POSIX allows.
    let journal = random.random_range(0..2) == 0;
    let operations: BTreeSet<_> = changes.iter().map(|change| change.operation).collect();
    let kept = random.random_range(0..=operations.len());
    let last = operations.iter().take(kept).next_back().copied().unwrap_or(0);
    if journal {
        return changes.into_iter().filter(|change| change.operation <= last).collect();
    }
    let (mut stopped, mut arrived) = (BTreeSet::new(), BTreeMap::new());
    let mut happens = |change: &Change| {
        let place = (change.dir, change.name.clone());
        let chance = random.random_range(0..2) == 0;
        let happens = match arrived.get(&change.operation) {
            // The old name of what was moved: within a directory both names change at once.
            Some((dir, came)) => *came && (*dir == change.dir || chance),
            None => chance,
        } && !stopped.contains(&place);
        arrived.entry(change.operation).or_insert((change.dir, happens));
        if !happens {
            stopped.insert(place);
        }
        happens
    };
    changes.into_iter().filter(|change| happens(change)).collect()
}

/// The names on a path from the root; `.` and `..` are taken as the path has them.
fn names(path: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(names.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    names
}
