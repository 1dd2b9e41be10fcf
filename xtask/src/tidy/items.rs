//! The items of one Rust file that tell which files it imports. Used by `modules`, which follows
//! them.

use std::collections::{BTreeMap, BTreeSet};

use super::rust::Token;
use super::source::Source;

/// A module's path from the crate's root, which is empty.
pub(super) type ModulePath = Vec<String>;

#[derive(Debug, Default)]
pub(super) struct Module {
    /// The file in which it stands.
    pub(super) file: String,
    pub(super) defined: BTreeSet<String>,
    pub(super) uses: Vec<Use>,
    pub(super) paths: Vec<(usize, Vec<String>)>,
    /// The words of its code outside `use`.
    pub(super) words: BTreeSet<String>,
}

#[derive(Debug)]
pub(super) struct Use {
    pub(super) line: usize,
    /// `*` ends it if all names of a module are imported.
    pub(super) path: Vec<String>,
    pub(super) name: String,
    pub(super) is_public: bool,
}

/// The items of one file.
#[derive(Debug, Default)]
pub(super) struct Items {
    /// Its own module, and those that it holds between braces.
    pub(super) modules: BTreeMap<ModulePath, Module>,
    /// The modules that it puts into files of their own, each with what `#[path]` says.
    pub(super) children: Vec<(ModulePath, Option<String>)>,
}

/// Reads a file whose module is `at`, without what is there for tests only.
pub(super) fn read(source: &Source, at: &ModulePath) -> Items {
    let nested = vec![(at.clone(), usize::MAX)];
    let mut reader = Reader { items: Items::default(), file: &source.path, nested, depth: 0 };
    reader.read(&without_tests(&source.rust().tokens));
    reader.items
}

/// Reads the tokens of one file.
struct Reader<'a> {
    items: Items,
    file: &'a str,
    /// The modules in which the next token stands, each with the depth of braces at which it ends.
    nested: Vec<(ModulePath, usize)>,
    depth: usize,
}

const DEFINING: [&str; 8] = ["fn", "struct", "enum", "trait", "type", "const", "static", "union"];

impl Reader<'_> {
    fn read(&mut self, tokens: &[(usize, Token)]) {
        self.module();
        let mut index = 0;
        while let Some((_, token)) = tokens.get(index) {
            index = match token {
                Token::Word(word) if word == "use" => self.read_use(tokens, index),
                Token::Word(word) if word == "mod" => self.read_mod(tokens, index),
                Token::Word(_) => self.read_word(tokens, index),
                Token::Sign('{') => {
                    self.depth += 1;
                    index + 1
                }
                Token::Sign('}') => {
                    self.depth = self.depth.saturating_sub(1);
                    self.nested.pop_if(|(_, depth)| *depth == self.depth);
                    index + 1
                }
                _ => index + 1,
            };
        }
    }

    fn at(&self) -> &ModulePath {
        &self.nested.last().expect("the file's own module stays").0
    }

    fn module(&mut self) -> &mut Module {
        let at = self.at().clone();
        let file = self.file;
        self.items.modules.entry(at).or_insert_with(|| Module { file: file.to_owned(), ..Module::default() })
    }

    fn read_mod(&mut self, tokens: &[(usize, Token)], index: usize) -> usize {
        let token = |offset: usize| tokens.get(index + offset).map(|(_, token)| token);
        let Some(name) = token(1).and_then(Token::word) else { return index + 1 };
        let path = [&self.at()[..], &[name.to_owned()]].concat();
        match token(2) {
            Some(Token::Sign('{')) => {
                self.nested.push((path, self.depth));
                self.depth += 1;
                self.module();
            }
            Some(Token::Sign(';')) => self.items.children.push((path, path_attribute(&tokens[..index]))),
            _ => {}
        }
        index + 3
    }

    fn read_use(&mut self, tokens: &[(usize, Token)], index: usize) -> usize {
        let before = tokens[..index].last().map(|(_, token)| token);
        let is_public = before.is_some_and(|token| token.is_word("pub") || token.is_sign(')'));
        let length = tokens[index..].iter().position(|(_, token)| token.is_sign(';')).unwrap_or(tokens.len() - index);
        let tree = &tokens[index + 1..index + length];
        let mut uses = Vec::new();
        read_tree(tree, &mut Vec::new(), &mut uses);
        self.module().uses.extend(uses.into_iter().map(|(line, path, name)| Use { line, path, name, is_public }));
        index + length
    }

    /// Reads a word and the path that begins with it.
    fn read_word(&mut self, tokens: &[(usize, Token)], index: usize) -> usize {
        let (line, first) = &tokens[index];
        let mut path = vec![first.word().expect("it is a word").to_owned()];
        let mut end = index + 1;
        while let [(_, Token::Separator), (_, Token::Word(word)), ..] = &tokens[end..] {
            path.push(word.clone());
            end += 2;
        }
        let module = self.module();
        if DEFINING.contains(&path[0].as_str())
            && let Some(name) = tokens.get(end).and_then(|(_, token)| token.word())
        {
            module.defined.insert(name.to_owned());
        }
        // `macro_rules! name`
        if path[0] == "macro_rules"
            && let Some(name) = tokens.get(end + 1).and_then(|(_, token)| token.word())
        {
            module.defined.insert(name.to_owned());
        }
        module.words.insert(path[0].clone());
        if path.len() > 1 {
            module.paths.push((*line, path));
        }
        end
    }
}

/// Returns what `#[path = "..."]` says among the attributes with which these tokens end.
fn path_attribute(before: &[(usize, Token)]) -> Option<String> {
    let begin = before.iter().rposition(|(_, token)| token.is_sign(';') || token.is_sign('}')).map_or(0, |end| end + 1);
    before[begin..].windows(3).find_map(|window| match window {
        [(_, name), (_, Token::Sign('=')), (_, Token::Text(text))] if name.is_word("path") => Some(text.clone()),
        _ => None,
    })
}

/// Reads what stands between `use` and `;`: each path, with the name that it gets.
fn read_tree(tokens: &[(usize, Token)], prefix: &mut Vec<String>, uses: &mut Vec<(usize, Vec<String>, String)>) {
    let length = prefix.len();
    let mut name = None;
    let mut index = 0;
    while let Some((line, token)) = tokens.get(index) {
        match token {
            Token::Word(word) if word == "as" => {
                name = tokens.get(index + 1).and_then(|(_, token)| token.word()).map(str::to_owned);
                index += 1;
            }
            Token::Word(word) => prefix.push(word.clone()),
            Token::Sign('*') => prefix.push("*".into()),
            Token::Sign('{') => {
                let end = end_of_braces(tokens, index);
                split_at_commas(&tokens[index + 1..end]).for_each(|part| read_tree(part, prefix, uses));
                prefix.truncate(length);
                return;
            }
            _ => {}
        }
        if index + 1 >= tokens.len() && prefix.len() > length {
            // `{self}` is the module itself.
            if prefix.last().is_some_and(|last| last == "self") && prefix.len() > 1 {
                prefix.pop();
            }
            let name = name.take().or_else(|| prefix.last().cloned()).unwrap_or_default();
            uses.push((*line, prefix.clone(), name));
        }
        index += 1;
    }
    // `{self}` has taken its own word off already.
    prefix.truncate(length.min(prefix.len()));
}

fn split_at_commas(tokens: &[(usize, Token)]) -> impl Iterator<Item = &[(usize, Token)]> {
    let mut depth = 0_usize;
    tokens
        .split(move |(_, token)| {
            match token {
                Token::Sign('{') => depth += 1,
                Token::Sign('}') => depth -= 1,
                _ => {}
            }
            depth == 0 && token.is_sign(',')
        })
        .filter(|part| !part.is_empty())
}

/// Returns the place of the brace that closes the one at `index`.
fn end_of_braces(tokens: &[(usize, Token)], index: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, (_, token)) in tokens[index..].iter().enumerate() {
        match token {
            Token::Sign('{') => depth += 1,
            Token::Sign('}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + offset;
        }
    }
    tokens.len()
}

/// Leaves out each item that stands below `#[cfg(test)]`.
fn without_tests(tokens: &[(usize, Token)]) -> Vec<(usize, Token)> {
    let is = |index: usize, word: &str| tokens.get(index).is_some_and(|(_, token)| token.is_word(word));
    let is_sign = |index: usize, sign: char| tokens.get(index).is_some_and(|(_, token)| token.is_sign(sign));
    let mut kept = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let is_test = is_sign(index, '#')
            && is_sign(index + 1, '[')
            && is(index + 2, "cfg")
            && is_sign(index + 3, '(')
            && (is(index + 4, "test") || (is(index + 4, "all") && is(index + 6, "test")));
        if is_test {
            let end = tokens[index..].iter().position(|(_, token)| token.is_sign(';') || token.is_sign('{'));
            let end = end.map_or(tokens.len(), |end| index + end);
            index = if is_sign(end, '{') { end_of_braces(tokens, end) + 1 } else { end + 1 };
        } else {
            kept.push(tokens[index].clone());
            index += 1;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(text: &str) -> Vec<String> {
        let items = read(&Source::new("a.rs", text), &Vec::new());
        items.modules[&Vec::new()].uses.iter().map(|one| format!("{} as {}", one.path.join("::"), one.name)).collect()
    }

    #[test]
    fn trees_of_use_are_spread() {
        let expected = ["a::b as b", "a::c as d", "a::e::f as f", "a::e as e", "a::g::* as *"];
        assert_eq!(uses("use a::{b, c as d, e::{f, self}, g::*};"), expected);
        assert_eq!(uses("pub(crate) use super::a::B;\nuse ::std::fmt;"), ["super::a::B as B", "std::fmt as fmt"]);
    }

    #[test]
    fn only_what_is_handed_on_is_public() {
        let items = read(&Source::new("a.rs", "use a::A; pub use b::B; pub(super) use c::C;"), &Vec::new());
        let is_public: Vec<bool> = items.modules[&Vec::new()].uses.iter().map(|one| one.is_public).collect();
        assert_eq!(is_public, [false, true, true]);
    }

    #[test]
    fn definitions_are_found() {
        let items = read(&Source::new("a.rs", "fn f() {} struct S; macro_rules! m { () => {} }"), &Vec::new());
        let defined = &items.modules[&Vec::new()].defined;
        assert_eq!(defined.iter().map(String::as_str).collect::<Vec<_>>(), ["S", "f", "m"]);
    }

    #[test]
    fn files_of_modules_are_found() {
        let items =
            read(&Source::new("a.rs", "mod b;\n#[path = \"x.rs\"]\nmod c;\nmod d { mod e; }"), &vec!["a".into()]);
        let children: Vec<_> = items.children.iter().map(|(path, file)| (path.join("::"), file.as_deref())).collect();
        assert_eq!(children, [("a::b".into(), None), ("a::c".into(), Some("x.rs")), ("a::d::e".into(), None)]);
    }
}
