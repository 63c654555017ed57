//! Reads a filter: comparisons, joined by `and`, `or`, `not` and parentheses.

use regex::RegexBuilder;

use super::field::Field;
use super::{Order, Term, Test};

/// Longer filters are none that anybody wrote.
const LENGTH_MAX: usize = 4096;
/// Parentheses and `not`s within each other: a bound for the stack.
const DEPTH_MAX: usize = 32;
/// What a pattern may take when it is compiled.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Longer ones first, so that `>=` is not read as `>`.
const SIGNS: &[&str] = &[
    "!=", "!~", ">=", "<=", "==", "&&", "||", "=", "~", ">", "<", "(", ")", "!",
];

/// A word, or a sign.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Sign(&'static str),
    Word(String),
    /// In quotes: never a keyword.
    Quoted(String),
}

/// The filter in `text`.
pub(super) fn parse(text: &str) -> Result<Term, String> {
    if text.len() > LENGTH_MAX {
        return Err(format!("the filter has more than {LENGTH_MAX} bytes"));
    }
    let mut tokens = tokens(text)?;
    tokens.reverse();
    let mut reader = Reader { tokens, depth: 0 };
    let term = reader
        .any()
        .map_err(|problem| format!("filter `{text}`: {problem}"))?;
    match reader.tokens.pop() {
        None => Ok(term),
        Some(token) => Err(format!(
            "filter `{text}`: `{}` does not belong there: join comparisons with `and` or `or`",
            token.text()
        )),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let mut signs = SIGNS.iter();
        // A bare pattern may begin with what is a sign elsewhere.
        let pattern = matches!(tokens.last(), Some(Token::Sign("~" | "!~")));
        let after;
        if pattern && first != '"' && first != '\'' {
            let (word, tail) = rest.split_at(word_end(rest, true));
            tokens.push(Token::Word(word.to_owned()));
            after = tail;
        } else if let Some((sign, tail)) =
            signs.find_map(|sign| Some((*sign, rest.strip_prefix(sign)?)))
        {
            tokens.push(Token::Sign(sign));
            after = tail;
        } else if first == '"' || first == '\'' {
            let inner = rest.strip_prefix(first).unwrap_or_default();
            let (quoted, tail) = inner
                .split_once(first)
                .ok_or_else(|| format!("filter `{text}`: a quote {first} is not closed"))?;
            tokens.push(Token::Quoted(quoted.to_owned()));
            after = tail;
        } else {
            let (word, tail) = rest.split_at(word_end(rest, false));
            tokens.push(Token::Word(word.to_owned()));
            after = tail;
        }
        rest = after.trim_start();
    }
    Ok(tokens)
}

/// A bare pattern goes on to the next space, another word also ends before a sign.
fn word_end(text: &str, pattern: bool) -> usize {
    let ends =
        |letter: char| letter.is_whitespace() || (!pattern && "=!~<>()&|\"'".contains(letter));
    text.find(ends).unwrap_or(text.len()).max(1)
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Sign(sign) => sign,
            Self::Word(word) | Self::Quoted(word) => word,
        }
    }
}

/// Tokens, the next one last.
struct Reader {
    tokens: Vec<Token>,
    depth: usize,
}

impl Reader {
    fn any(&mut self) -> Result<Term, String> {
        let mut terms = vec![self.all()?];
        while self.takes("or", "||") {
            terms.push(self.all()?);
        }
        Ok(Term::Any(terms))
    }

    fn all(&mut self) -> Result<Term, String> {
        let mut terms = vec![self.one()?];
        while self.takes("and", "&&") {
            terms.push(self.one()?);
        }
        Ok(Term::All(terms))
    }

    fn one(&mut self) -> Result<Term, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!(
                "more than {DEPTH_MAX} parentheses within each other"
            ));
        }
        let term = if self.takes("not", "!") {
            Term::Not(Box::new(self.one()?))
        } else if self.takes_sign("(") {
            let inner = self.any()?;
            if !self.takes_sign(")") {
                return Err("a parenthesis is not closed".to_owned());
            }
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(term)
    }

    fn comparison(&mut self) -> Result<Term, String> {
        let field = match self.tokens.pop() {
            Some(Token::Word(word)) => self.field(word)?,
            Some(token) => return Err(format!("a field is wanted, not `{}`", token.text())),
            None => return Err("a field is wanted at the end".to_owned()),
        };
        let sign = match self.tokens.last() {
            Some(Token::Sign(sign)) if !matches!(*sign, "(" | ")" | "!" | "&&" | "||") => *sign,
            _ => return Ok(Term::Exists(field)),
        };
        self.tokens.pop();
        let Some(Token::Word(text) | Token::Quoted(text)) = self.tokens.pop() else {
            return Err(format!("a value is wanted after `{sign}`"));
        };
        Ok(Term::Compare(field.clone(), test(&field, sign, &text)?))
    }

    /// An attribute's key may be in quotes: `attr."a b"`.
    fn field(&mut self, word: String) -> Result<Field, String> {
        match self.tokens.last() {
            Some(Token::Quoted(key)) if word.ends_with('.') => {
                let field = Field::parse(&format!("{word}{key}"));
                self.tokens.pop();
                field
            }
            _ => Field::parse(&word),
        }
    }

    fn takes(&mut self, word: &str, sign: &'static str) -> bool {
        let next = self.tokens.last();
        let found = next == Some(&Token::Sign(sign))
            || matches!(next, Some(Token::Word(next)) if next.eq_ignore_ascii_case(word));
        if found {
            self.tokens.pop();
        }
        found
    }

    fn takes_sign(&mut self, sign: &'static str) -> bool {
        let found = self.tokens.last() == Some(&Token::Sign(sign));
        if found {
            self.tokens.pop();
        }
        found
    }
}

fn test(field: &Field, sign: &str, text: &str) -> Result<Test, String> {
    let pattern = || {
        let mut builder = RegexBuilder::new(text);
        let built = builder.size_limit(PATTERN_BYTES_MAX).build();
        built.map_err(|problem| format!("the pattern `{text}` is wrong: {problem}"))
    };
    let order = |order| {
        let value = field.value(text)?;
        let (first, last) = value
            .numbers
            .ok_or_else(|| format!("`{sign}` wants a number, not `{text}`"))?;
        // Above `warn` is what is above all of it.
        let limit = match order {
            Order::Less | Order::GreaterOrEqual => first,
            Order::LessOrEqual | Order::Greater => last,
        };
        Ok(Test::Order(order, limit))
    };
    match sign {
        "=" | "==" => Ok(Test::Is(field.value(text)?)),
        "!=" => Ok(Test::IsNot(field.value(text)?)),
        "~" => Ok(Test::Matches(pattern()?)),
        "!~" => Ok(Test::MatchesNot(pattern()?)),
        "<" => order(Order::Less),
        "<=" => order(Order::LessOrEqual),
        ">" => order(Order::Greater),
        _ => order(Order::GreaterOrEqual),
    }
}
