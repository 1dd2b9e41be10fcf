//! Splits Rust source into tokens and comments. Used by the rules that look into `.rs` files. It
//! knows strings, characters, lifetimes and nested comments, and no grammar.

/// One token. A number is a word, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    /// One character of punctuation; `::` is [`Token::Separator`].
    Sign(char),
    Separator,
    /// A string's content as it is written, with its escapes.
    Text(String),
}

impl Token {
    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            _ => None,
        }
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        self.word() == Some(word)
    }

    pub(super) fn is_sign(&self, sign: char) -> bool {
        *self == Self::Sign(sign)
    }
}

/// One line of a comment, with its slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comment {
    pub(super) line: usize,
    pub(super) text: String,
}

/// A file's tokens, each with its line, and its comments.
#[derive(Debug, Default)]
pub(super) struct Lexed {
    pub(super) tokens: Vec<(usize, Token)>,
    pub(super) comments: Vec<Comment>,
}

pub(super) fn lex(text: &str) -> Lexed {
    let mut lexer = Lexer { rest: text, line: 1, lexed: Lexed::default() };
    while !lexer.rest.is_empty() {
        lexer.step();
    }
    lexer.lexed
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    lexed: Lexed,
}

impl<'a> Lexer<'a> {
    fn step(&mut self) {
        let rest = self.rest;
        let first = rest.as_bytes()[0];
        match first {
            b' ' | b'\n' | b'\t' | b'\r' => {
                self.take(rest.bytes().take_while(u8::is_ascii_whitespace).count());
            }
            b'/' if rest.starts_with("//") => {
                let text = self.take(rest.find('\n').unwrap_or(rest.len()));
                self.lexed.comments.push(Comment { line: self.line, text: text.to_owned() });
            }
            b'/' if rest.starts_with("/*") => self.block_comment(),
            b'"' => self.string(1, end_of_string(&rest[1..], '"'), 1),
            b'\'' => self.character_or_lifetime(),
            b'b' | b'c' | b'r' if self.prefixed_string() => {}
            b':' if rest.starts_with("::") => {
                self.push(Token::Separator);
                self.take(2);
            }
            _ if is_of_word(first) => {
                let word = self.take(rest.bytes().take_while(|byte| is_of_word(*byte)).count());
                self.push(Token::Word(word.to_owned()));
            }
            _ => {
                self.push(Token::Sign(first.into()));
                self.take(1);
            }
        }
    }

    /// Takes `r"..."`, `br#"..."#`, `b"..."`, `c"..."` or `b'...'`, if the source begins with one.
    fn prefixed_string(&mut self) -> bool {
        let rest = self.rest;
        if let Some(opening) = opening_of_raw_string(rest) {
            let closing = format!("\"{}", "#".repeat(opening.matches('#').count()));
            let content = &rest[opening.len()..];
            let length = content.find(&closing).unwrap_or(content.len());
            self.string(opening.len(), length, closing.len());
        } else if rest.starts_with("b\"") || rest.starts_with("c\"") {
            self.string(2, end_of_string(&rest[2..], '"'), 1);
        } else if rest.starts_with("b'") {
            self.character_or_lifetime();
        } else {
            return false;
        }
        true
    }

    fn block_comment(&mut self) {
        let (mut depth, mut end) = (0, 0);
        let rest = self.rest;
        loop {
            let here = &rest[end..];
            if here.starts_with("/*") {
                (depth, end) = (depth + 1, end + 2);
            } else if here.starts_with("*/") {
                (depth, end) = (depth - 1, end + 2);
            } else {
                end += here.chars().next().map_or(0, char::len_utf8);
            }
            if depth == 0 || end >= rest.len() {
                break;
            }
        }
        for (index, line) in rest[..end].lines().enumerate() {
            self.lexed.comments.push(Comment { line: self.line + index, text: line.to_owned() });
        }
        self.take(end);
    }

    fn string(&mut self, opening: usize, length: usize, closing: usize) {
        let content = self.rest[opening..opening + length].to_owned();
        self.push(Token::Text(content));
        self.take((opening + length + closing).min(self.rest.len()));
    }

    /// `'x'`, `b'\n'` and `'\u{1F600}'` are characters; `'a` is a lifetime.
    fn character_or_lifetime(&mut self) {
        let opening = self.rest.find('\'').expect("it was seen") + 1;
        let content = &self.rest[opening..];
        let mut following = content.chars();
        let (first, second) = (following.next(), following.next());
        if first == Some('\\') || second == Some('\'') {
            let length = end_of_string(content, '\'');
            self.take((opening + length + 1).min(self.rest.len()));
        } else {
            let length = content.find(|one: char| one != '_' && !one.is_alphanumeric()).unwrap_or(content.len());
            self.take(opening + length);
        }
    }

    fn push(&mut self, token: Token) {
        self.lexed.tokens.push((self.line, token));
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }
}

/// Letters of other scripts count as parts of a word.
fn is_of_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

/// `r"`, `br##"` and the like, if the source begins with one.
fn opening_of_raw_string(rest: &str) -> Option<&str> {
    let after = ["br", "cr", "r"].iter().find_map(|prefix| rest.strip_prefix(prefix))?;
    let quote = after.find(|one| one != '#')?;
    after[quote..].starts_with('"').then(|| &rest[..rest.len() - after.len() + quote + 1])
}

/// Returns the place of the quote that ends a string, before which `content` stands.
fn end_of_string(content: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (index, one) in content.char_indices() {
        match one {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if one == quote => return index,
            _ => {}
        }
    }
    content.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        lex(text).tokens.iter().filter_map(|(_, token)| token.word().map(str::to_owned)).collect()
    }

    #[test]
    fn strings_are_no_words_and_no_comments() {
        let text = "a(\"x // \\\" y\", r#\"z \" // \"#, b\"q\", 'c', '\\'', b'd', '\\u{41}') b";
        assert_eq!(words(text), ["a", "b"]);
        assert!(lex(text).comments.is_empty());
    }

    #[test]
    fn lifetimes_end_where_their_name_does() {
        assert_eq!(words("fn f<'a>(x: &'a str) {}"), ["fn", "f", "x", "str"]);
    }

    #[test]
    fn comments_have_their_lines() {
        let lexed = lex("//! Head.\nlet x = \"two\nlines\"; // why\n/* one\n/* two */ */ end");
        let comments: Vec<_> = lexed.comments.iter().map(|comment| (comment.line, comment.text.as_str())).collect();
        assert_eq!(comments, [(1, "//! Head."), (3, "// why"), (4, "/* one"), (5, "/* two */ */")]);
        assert_eq!(lexed.tokens.last(), Some(&(5, Token::Word("end".into()))));
    }

    #[test]
    fn separators_are_one_token() {
        let tokens: Vec<_> = lex("a::b:c").tokens.into_iter().map(|(_, token)| token).collect();
        let word = |word: &str| Token::Word(word.into());
        assert_eq!(tokens, [word("a"), Token::Separator, word("b"), Token::Sign(':'), word("c")]);
    }

    #[test]
    fn raw_strings_keep_their_content() {
        assert_eq!(lex("r##\"a\"#b\"##").tokens, [(1, Token::Text("a\"#b".into()))]);
    }
}
