//! No file of a crate imports from one that imports from it, by whatever detour: each can be read
//! and changed with those below it in mind, and no others.
//!
//! What counts is where a name is defined. `pub use` hands a name on and `mod` owns a file; neither
//! is an import, so a `mod.rs` that does no more than that is never part of a circle. Modules for
//! tests alone are left out: they may look at whatever they test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, Item, UseTree, Visibility, ext::IdentExt, visit::Visit};

/// The root of a crate's sources and every binary or library that starts there.
fn crate_roots() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a crate in a workspace");
    let mut roots = Vec::new();
    for folder in fs::read_dir(root.join("crates")).expect("crates") {
        let src = folder.expect("a crate").path().join("src");
        let starts = ["lib.rs", "main.rs"].map(|file| src.join(file));
        roots.extend(starts.into_iter().filter(|start| start.is_file()));
    }
    roots.sort();
    roots
}

/// What a name in a module stands for.
#[derive(Debug, Clone)]
enum Name {
    /// Defined in this very module.
    Here,
    /// A module below this one.
    Module(usize),
    /// Another name for this path.
    Alias(Vec<String>),
}

#[derive(Debug)]
struct Module {
    file: PathBuf,
    parent: Option<usize>,
    names: BTreeMap<String, Name>,
    /// Paths whose every name is visible here, too.
    globs: Vec<Vec<String>>,
    /// Paths that the code or a private `use` names.
    mentioned: BTreeSet<Vec<String>>,
}

/// The modules of one crate; the first is its root.
struct Crate(Vec<Module>);

impl Crate {
    fn read(start: &Path) -> Crate {
        let mut read = Crate(Vec::new());
        let folder = start.parent().expect("a folder").to_owned();
        read.file(start, folder, None);
        read
    }

    /// Reads a file and those of its modules, which lie in `folder`.
    fn file(&mut self, path: &Path, folder: PathBuf, parent: Option<usize>) -> usize {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        self.module(path, &folder, parent, &file.items)
    }

    fn module(
        &mut self,
        file: &Path,
        folder: &Path,
        parent: Option<usize>,
        items: &[Item],
    ) -> usize {
        let this = self.0.len();
        self.0.push(Module {
            file: file.to_owned(),
            parent,
            names: BTreeMap::new(),
            globs: Vec::new(),
            mentioned: BTreeSet::new(),
        });
        for item in items.iter().filter(|item| !is_for_tests(attributes(item))) {
            match item {
                Item::Mod(module) => {
                    let name = module.ident.unraw().to_string();
                    let inside = folder.join(&name);
                    let child = match &module.content {
                        Some((_, items)) => self.module(file, &inside, Some(this), items),
                        None => {
                            let beside = folder.join(format!("{name}.rs"));
                            let path = if beside.is_file() {
                                beside
                            } else {
                                inside.join("mod.rs")
                            };
                            self.file(&path, inside, Some(this))
                        }
                    };
                    self.0[this].names.insert(name, Name::Module(child));
                }
                Item::Use(import) => {
                    let hands_on = !matches!(import.vis, Visibility::Inherited);
                    self.0[this].import(&mut Vec::new(), &import.tree, hands_on);
                }
                other => {
                    if let Some(name) = defined(other) {
                        self.0[this].names.insert(name, Name::Here);
                    }
                    let mut paths = Paths(BTreeSet::new());
                    paths.visit_item(other);
                    self.0[this].mentioned.extend(paths.0);
                }
            }
        }
        this
    }

    /// The module that defines what `path` names in module `at`; `None` for what other crates
    /// define, for local names, and for modules themselves.
    fn definer(&self, at: usize, path: &[String], depth: usize) -> Option<usize> {
        let (first, rest) = path.split_first()?;
        if depth > 32 {
            return None;
        }
        match first.as_str() {
            "crate" => self.inside(0, rest, depth),
            "self" => self.inside(at, rest, depth),
            "super" => self.inside(self.0[at].parent?, rest, depth),
            _ => self.inside(at, path, depth),
        }
    }

    fn inside(&self, at: usize, path: &[String], depth: usize) -> Option<usize> {
        let (first, rest) = path.split_first()?;
        if matches!(first.as_str(), "self" | "super") {
            return self.definer(at, path, depth + 1);
        }
        match self.0[at].names.get(first) {
            Some(Name::Here) => Some(at),
            Some(Name::Module(module)) => self.inside(*module, rest, depth + 1),
            Some(Name::Alias(alias)) if alias.first() == Some(first) && alias.len() == 1 => None,
            Some(Name::Alias(alias)) => {
                let whole: Vec<String> = alias.iter().chain(rest).cloned().collect();
                self.definer(at, &whole, depth + 1)
            }
            None => self.0[at].globs.iter().find_map(|glob| {
                let whole: Vec<String> = glob.iter().chain(path).cloned().collect();
                self.definer(at, &whole, depth + 1)
            }),
        }
    }

    /// Which files import what from which.
    fn imports(&self) -> BTreeMap<&Path, BTreeMap<&Path, BTreeSet<String>>> {
        let mut imports: BTreeMap<&Path, BTreeMap<&Path, BTreeSet<String>>> = BTreeMap::new();
        for (at, module) in self.0.iter().enumerate() {
            let from = imports.entry(&module.file).or_default();
            for path in &module.mentioned {
                let Some(definer) = self.definer(at, path, 0) else {
                    continue;
                };
                let to = &self.0[definer].file;
                if *to != module.file {
                    from.entry(to).or_default().insert(path.join("::"));
                }
            }
        }
        imports
    }
}

impl Module {
    fn import(&mut self, before: &mut Vec<String>, tree: &UseTree, hands_on: bool) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.unraw().to_string());
                self.import(before, &path.tree, hands_on);
                before.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(before, tree, hands_on);
                }
            }
            UseTree::Name(name) => {
                let name = name.ident.unraw().to_string();
                let last = match name.as_str() {
                    "self" => before.last().cloned().unwrap_or_default(),
                    _ => name.clone(),
                };
                let mut path = before.clone();
                path.extend((name != "self").then_some(name));
                self.alias(last, path, hands_on);
            }
            UseTree::Rename(rename) => {
                let mut path = before.clone();
                path.extend(Some(rename.ident.unraw().to_string()).filter(|name| name != "self"));
                self.alias(rename.rename.unraw().to_string(), path, hands_on);
            }
            UseTree::Glob(_) => self.globs.push(before.clone()),
        }
    }

    fn alias(&mut self, name: String, path: Vec<String>, hands_on: bool) {
        if !hands_on {
            self.mentioned.insert(path.clone());
        }
        // A module of this name, such as `add` beside a function `add`, goes first.
        self.names.entry(name).or_insert(Name::Alias(path));
    }
}

/// Paths that an item mentions, those in the arguments of macros included.
struct Paths(BTreeSet<Vec<String>>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|s| s.ident.unraw().to_string());
        if path.leading_colon.is_none() {
            self.0.insert(names.collect());
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        // Inside of a function; its names count as if they stood at the top.
        let mut module = Module {
            file: PathBuf::new(),
            parent: None,
            names: BTreeMap::new(),
            globs: Vec::new(),
            mentioned: BTreeSet::new(),
        };
        module.import(&mut Vec::new(), &import.tree, false);
        self.0.extend(module.mentioned);
    }

    fn visit_macro(&mut self, makro: &'ast syn::Macro) {
        self.tokens(makro.tokens.clone());
        syn::visit::visit_macro(self, makro);
    }

    fn visit_item_macro(&mut self, makro: &'ast syn::ItemMacro) {
        self.tokens(makro.mac.tokens.clone());
        syn::visit::visit_item_macro(self, makro);
    }
}

impl Paths {
    /// `a::b::c` out of tokens that are no Rust yet.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Vec::new(), 0);
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.0.insert(std::mem::take(&mut path));
                    }
                    path.push(name.unraw().to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.0.insert(std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.0.insert(path);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether `#[cfg(test)]` stands before it.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}

/// The name that an item defines.
fn defined(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.unraw().to_string())
}

/// The shortest way from `start` back to itself.
fn circle<'a>(
    imports: &BTreeMap<&'a Path, BTreeMap<&'a Path, BTreeSet<String>>>,
    start: &'a Path,
) -> Option<Vec<&'a Path>> {
    let mut ways: Vec<Vec<&Path>> = vec![vec![start]];
    let mut met = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for &next in imports.get(way[way.len() - 1])?.keys() {
                let mut way = way.clone();
                way.push(next);
                if next == start {
                    return Some(way);
                }
                if met.insert(next) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}

#[test]
fn no_circles() {
    let mut found = BTreeSet::new();
    let roots = crate_roots();
    assert!(roots.len() >= 5, "{roots:?}");
    for root in roots {
        let read = Crate::read(&root);
        let imports = read.imports();
        let src = root.parent().expect("src");
        for &file in imports.keys() {
            let Some(mut way) = circle(&imports, file) else {
                continue;
            };
            // The same circle from wherever one starts.
            way.pop();
            let first = (0..way.len()).min_by_key(|&i| way[i]).unwrap_or(0);
            way.rotate_left(first);
            let name = |path: &Path| {
                let path = path.strip_prefix(src).unwrap_or(path);
                path.display().to_string()
            };
            let steps = (0..way.len()).map(|i| {
                let (from, to) = (way[i], way[(i + 1) % way.len()]);
                let names: Vec<&str> = imports[from][to].iter().map(String::as_str).collect();
                format!(
                    "  {} takes {} from {}",
                    name(from),
                    names.join(", "),
                    name(to)
                )
            });
            let steps: Vec<String> = steps.collect();
            found.insert(format!("{}\n{}", src.display(), steps.join("\n")));
        }
    }
    let found: Vec<String> = found.into_iter().collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// A folder with the sources of a crate, gone with the test.
fn crate_of(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a folder");
    for (file, text) in files {
        fs::write(folder.join(file), text).expect("a file");
    }
    folder.join("lib.rs")
}

#[test]
fn a_circle_is_found_through_what_hands_names_on() {
    let root = crate_of(
        "circle",
        &[
            ("lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("a.rs", "use crate::B; pub struct A(B);"),
            (
                "b.rs",
                "pub struct B; fn f() -> Vec<()> { vec![crate::A::new()] }",
            ),
        ],
    );
    let read = Crate::read(&root);
    let imports = read.imports();
    let start = root.with_file_name("a.rs");
    let (&file, _) = imports.get_key_value(&*start).expect("the file");
    assert_eq!(circle(&imports, file).expect("a circle").len(), 3);
}

#[test]
fn what_hands_names_on_and_what_is_for_tests_is_no_circle() {
    let root = crate_of(
        "no-circle",
        &[
            ("lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("a.rs", "use crate::B; pub struct A(B);"),
            (
                "b.rs",
                "pub struct B; #[cfg(test)] mod tests { use crate::A; }",
            ),
        ],
    );
    let read = Crate::read(&root);
    let imports = read.imports();
    assert!(imports.keys().all(|file| circle(&imports, file).is_none()));
}
