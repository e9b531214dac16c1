//! A model's own chat template, in Jinja as `transformers` renders it, within limits.
//!
//! A template comes out of a file, so none of its work is trusted. `minijinja` counts operations
//! and bytes, but it recurses over values and expressions, and walks over all that a list refers
//! to, however often it refers to the same. So its nesting is bounded before it is parsed, and
//! every list, mapping and assignment in its source is put through [`bounded`], which refuses
//! values that are too deep or too large: whatever filter or operator sees them then ends soon.

use std::{fmt::Write as _, ops::Range, sync::Arc};

use minijinja::{
    Environment, ErrorKind, State, Value, context,
    machinery::{Token, tokenize},
    syntax::SyntaxConfig,
    value::ValueKind,
};

use crate::{
    Error, Result,
    tokenizer::{ControlNames, Tokenizer},
};

/// The longest template, in bytes; published ones have up to 30,000.
const MAX_BYTES: usize = 256 * 1024;

/// The most tokens of one tag: operators without brackets nest as deep as that.
const MAX_TAG_TOKENS: usize = 1024;

/// The most branches of `if`, which nest in each other.
const MAX_BRANCHES: usize = 1024;

/// How deep macros may call each other; a call counts as several.
const MAX_CALL_DEPTH: usize = 150;

/// How deep lists and mappings may lie in each other.
const MAX_VALUE_DEPTH: usize = 16;

/// The most that one value may hold, in bytes, beyond a few times the conversation.
const MAX_VALUE_BYTES: usize = 1 << 20;

/// Operations, or 64 bytes each: real templates take some hundreds, and some tens for a message.
const FUEL: u64 = 200_000;

/// The same, for each message.
const FUEL_PER_MESSAGE: u64 = 2_000;

/// What each container and number counts, in bytes.
const VALUE_BYTES: usize = 32;

/// A message as a template sees it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) role: &'static str,
    pub(crate) content: String,
}

/// How the content of messages is given to a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// As a text.
    Text,
    /// As a list of parts, of which one is a text.
    Parts,
    /// As such a list where a user speaks, as a text else.
    PartsOfUsers,
}

/// A model's own template. Nothing of it is read before it is used.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatTemplate {
    source: Arc<str>,
    bos: String,
    eos: String,
    control: ControlNames,
}

impl ChatTemplate {
    /// Takes a template's source.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> ChatTemplate {
        let text = |id: Option<u32>| {
            let text = id.and_then(|id| tokenizer.text(id));
            text.unwrap_or_default().to_string()
        };
        ChatTemplate {
            source: source.into(),
            bos: text(tokenizer.bos()),
            eos: text(tokenizer.eos()),
            control: tokenizer.control_names(),
        }
    }

    /// Checks that it can be used, which rendering does, too.
    ///
    /// # Errors
    /// `Tokenizer` where it is no Jinja, or beyond the limits.
    pub fn check(&self) -> Result<()> {
        let source = self.guarded_source()?;
        self.environment(&source, 0, 0).map(|_| ())
    }

    /// Whether the source has this character.
    pub(crate) fn contains(&self, character: char) -> bool {
        self.source.len() <= MAX_BYTES && self.source.contains(character)
    }

    /// The names of control tokens, as they are parted by [`ControlNames::mark`].
    pub(crate) fn control(&self) -> &ControlNames {
        &self.control
    }

    /// Writes messages down. `mark` is a character that occurs in none of them.
    ///
    /// Contents are given as texts, or as lists of parts where the template leaves texts out: a
    /// rendering of marks in their places shows that.
    ///
    /// # Errors
    /// `Tokenizer` where the template can't be used, refuses the conversation, or leaves out what a
    /// user or the system says.
    pub(crate) fn render(&self, messages: &[Message], mark: char) -> Result<String> {
        let source = self.guarded_source()?;
        let bytes = messages.iter().map(|message| message.content.len()).sum();
        let environment = self.environment(&source, messages.len(), bytes)?;
        let place = |i: usize| format!("{mark}{i}{mark}");
        let marks: Vec<Message> = (0..)
            .zip(messages)
            .map(|(i, message)| Message {
                role: message.role,
                content: place(i),
            })
            .collect();
        let mut reason = None;
        for shape in [Shape::Text, Shape::Parts, Shape::PartsOfUsers] {
            let lost = match self.run(&environment, &marks, shape) {
                Ok(rendered) => ["user", "system"].into_iter().find(|role| {
                    let mut said = (0..).zip(messages).filter(|(_, m)| m.role == *role);
                    said.any(|(i, _)| is_lost(&rendered, &place(i)))
                }),
                Err(error) if error.kind() == ErrorKind::OutOfFuel => {
                    return Err(unusable(&described(&error)));
                }
                Err(error) => {
                    reason.get_or_insert(described(&error));
                    continue;
                }
            };
            let Some(lost) = lost else {
                let rendered = self.run(&environment, messages, shape);
                return rendered.map_err(|error| unusable(&described(&error)));
            };
            reason.get_or_insert_with(|| match lost {
                "system" => "it leaves out the system text: ask without one, or choose a \
                    built-in template"
                    .into(),
                _ => "it leaves out what the user says: choose a built-in template".into(),
            });
        }
        Err(unusable(&reason.unwrap_or_default()))
    }

    fn run(
        &self,
        environment: &Environment,
        messages: &[Message],
        shape: Shape,
    ) -> Result<String, minijinja::Error> {
        let messages = messages.iter().map(|message| {
            let in_parts = match shape {
                Shape::Text => false,
                Shape::Parts => true,
                Shape::PartsOfUsers => message.role == "user",
            };
            let text = Value::from(message.content.as_str());
            let content = match in_parts {
                true => Value::from(vec![context! { type => "text", text => text }]),
                false => text,
            };
            context! { role => message.role, content => content }
        });
        let messages: Vec<Value> = messages.collect();
        environment.get_template("chat")?.render(context! {
            messages => messages,
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        })
    }

    fn environment<'s>(
        &self,
        source: &'s str,
        messages: usize,
        bytes: usize,
    ) -> Result<Environment<'s>> {
        let mut environment = Environment::new();
        environment.set_syntax(syntax()?);
        environment.set_recursion_limit(MAX_CALL_DEPTH);
        let fuel = FUEL + FUEL_PER_MESSAGE * messages as u64 + bytes as u64 / 4;
        environment.set_fuel(Some(fuel));
        let most = MAX_VALUE_BYTES + 4 * (bytes + 8 * VALUE_BYTES * messages);
        environment.set_unknown_method_callback(
            move |state: &mut State, value: &Value, method: &str, args: &[Value]| {
                bounded_method(value, method, args, most)?;
                minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
            },
        );
        environment.remove_global("debug");
        environment.add_function(BOUNDED, move |value: Value| bounded(value, true, most));
        environment.add_function(BOUNDED_FIELD, move |value: Value| {
            bounded(value, false, most)
        });
        environment.add_function("raise_exception", |reason: String| {
            Err::<(), _>(refused(reason))
        });
        environment
            .add_template("chat", source)
            .map_err(|e| unusable(&described(&e)))?;
        Ok(environment)
    }

    /// The source with [`bounded`] around all that makes values, and without the tags of
    /// `transformers` that say which part of a prompt the model wrote.
    fn guarded_source(&self) -> Result<String> {
        if self.source.len() > MAX_BYTES {
            return Err(unusable(&format!(
                "it has {} bytes, at most {MAX_BYTES} are read",
                self.source.len()
            )));
        }
        let mut guard = Guard::default();
        for token in tokenize(&self.source, false, syntax()?) {
            let (token, span) = token.map_err(|e| unusable(&described(&e)))?;
            let range = span.start_offset as usize..span.end_offset as usize;
            guard
                .push(&token, range)
                .map_err(|reason| unusable(&reason))?;
        }
        Ok(guard.apply(&self.source))
    }
}

/// Whether a text is not there, or only in a part that was written down as a whole.
fn is_lost(rendered: &str, text: &str) -> bool {
    let is_in_part =
        |before: &str| before.ends_with("'text': '") || before.ends_with("\"text\": \"");
    let mut found = rendered.match_indices(text);
    found.all(|(at, _)| is_in_part(&rendered[..at]))
}

/// The functions that [`Guard`] puts into a source.
const BOUNDED: &str = "__bounded";
const BOUNDED_FIELD: &str = "__bounded_field";

/// Finds the places of a source where lists, mappings, tuples, products and assignments begin and
/// end.
#[derive(Default)]
struct Guard {
    /// Texts to put in, or instead of the source's, in order.
    edits: Vec<(Range<usize>, String)>,
    /// Whether each open bracket began a value.
    open: Vec<bool>,
    /// What `+` and `~` would take as one operand, outside of brackets and in each open one.
    operands: Vec<Operand>,
    /// Where the last token ended.
    end: usize,
    /// Tokens of the current tag so far.
    tokens: usize,
    /// Whether the last token ended a value, so that a bracket behind it belongs to that.
    after_value: bool,
    after_dot: bool,
    after_pipe: bool,
    after_is: bool,
    tag: Tag,
    branches: usize,
}

/// What stands between operators that bind no tighter than `~`.
#[derive(Default, Clone, Copy)]
struct Operand {
    /// Where it begins, and how many edits there were by then; `None` in front of it.
    start: Option<(usize, usize)>,
    /// Whether it may turn out large: a list that is multiplied shares its items, and so may the
    /// fields of a namespace, until `~` writes all of them out.
    may_be_large: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Tag {
    #[default]
    Other,
    /// `{% for` up to `in`: what stands there is assigned to.
    ForTarget,
    /// `{% set` up to `=`, and whether that names a field.
    SetTarget(bool),
    /// Behind the `=`.
    SetValue,
}

impl Guard {
    fn push(&mut self, token: &Token, range: Range<usize>) -> std::result::Result<(), String> {
        self.tokens += 1;
        if self.tokens > MAX_TAG_TOKENS {
            return Err(format!("a tag has more than {MAX_TAG_TOKENS} parts"));
        }
        let (before, behind) = (range.start..range.start, range.end..range.end);
        let end = range.end;
        let is_target = matches!(self.tag, Tag::ForTarget | Tag::SetTarget(_));
        self.follow_operand(token, range.start);
        let mut after_value = false;
        match token {
            Token::TemplateData(_) | Token::VariableStart | Token::BlockStart => {
                (self.tokens, self.tag) = (0, Tag::Other);
                self.open.clear();
                self.operands = vec![Operand::default()];
            }
            Token::BlockEnd => {
                if self.tag == Tag::SetValue {
                    self.edits.push((before, ")) ".into()));
                }
                self.tag = Tag::Other;
            }
            Token::Ident(name) => {
                after_value = self.after_dot || self.after_pipe || !is_operator(name);
                match *name {
                    "generation" if self.tokens == 1 => self.edits.push((range, "if true".into())),
                    "endgeneration" if self.tokens == 1 => {
                        self.edits.push((range, "endif".into()));
                    }
                    "for" if self.tokens == 1 => self.tag = Tag::ForTarget,
                    "in" if self.tag == Tag::ForTarget => self.tag = Tag::Other,
                    "set" if self.tokens == 1 => self.tag = Tag::SetTarget(false),
                    "if" | "elif" if self.tokens == 1 => {
                        self.branches += 1;
                        if self.branches > MAX_BRANCHES {
                            return Err(format!("there are more than {MAX_BRANCHES} branches"));
                        }
                    }
                    _ => {}
                }
            }
            Token::Dot if self.tag == Tag::SetTarget(false) => self.tag = Tag::SetTarget(true),
            Token::Assign => {
                if let (Tag::SetTarget(is_field), true) = (self.tag, self.open.is_empty()) {
                    let name = if is_field { BOUNDED_FIELD } else { BOUNDED };
                    self.edits.push((behind, format!(" {name}((")));
                    self.tag = Tag::SetValue;
                }
            }
            Token::BracketOpen | Token::BraceOpen | Token::ParenOpen => {
                let begins_value = !self.after_value && !is_target;
                if begins_value {
                    self.edits.push((before, format!("{BOUNDED}(")));
                }
                self.open.push(begins_value);
                self.operands.push(Operand::default());
            }
            Token::BracketClose | Token::BraceClose | Token::ParenClose => {
                self.operands.pop();
                if self.open.pop() == Some(true) {
                    self.edits.push((behind, ")".into()));
                }
                after_value = true;
            }
            Token::Str(_)
            | Token::String(_)
            | Token::Int(_)
            | Token::Int128(_)
            | Token::Float(_) => after_value = true,
            _ => {}
        }
        self.after_value = after_value;
        self.after_dot = matches!(token, Token::Dot);
        self.after_pipe = matches!(token, Token::Pipe);
        self.after_is = matches!(token, Token::Ident("is"));
        self.end = end;
        Ok(())
    }

    /// Notices where operands begin and end, and puts [`bounded`] around products and whatever `~`
    /// writes out.
    fn follow_operand(&mut self, token: &Token, start: usize) {
        let is_name = self.after_dot || self.after_pipe;
        let is_end = match token {
            // Tests bind as tightly as filters do.
            Token::Ident("is") => false,
            Token::Ident("not") if self.after_is => false,
            Token::Ident("recursive") => !is_name && self.after_value,
            Token::Ident(name) => !is_name && is_operator(name),
            // Behind a value they are operators, else signs.
            Token::Plus | Token::Minus => self.after_value,
            Token::VariableEnd
            | Token::BlockEnd
            | Token::BracketClose
            | Token::BraceClose
            | Token::ParenClose
            | Token::Comma
            | Token::Colon
            | Token::Tilde
            | Token::Assign
            | Token::Eq
            | Token::Ne
            | Token::Gt
            | Token::Gte
            | Token::Lt
            | Token::Lte => true,
            _ => false,
        };
        let Some(operand) = self.operands.last_mut() else {
            return;
        };
        if is_end {
            let joins = matches!(token, Token::Tilde);
            let next = Operand {
                start: None,
                may_be_large: joins,
            };
            let ended = std::mem::replace(operand, next);
            if let (Some((start, at)), true) = (ended.start, ended.may_be_large || joins) {
                self.edits.insert(at, (start..start, format!("{BOUNDED}(")));
                self.edits.push((self.end..self.end, ")".into()));
            }
        } else if matches!(token, Token::Mul) {
            // In front of an operand it spreads arguments.
            operand.may_be_large |= operand.start.is_some();
        } else if !matches!(token, Token::Pow) || operand.start.is_some() {
            operand.start.get_or_insert((start, self.edits.len()));
        }
    }

    fn apply(&self, source: &str) -> String {
        let (mut text, mut at) = (String::with_capacity(source.len() * 2), 0);
        for (range, edit) in &self.edits {
            text.push_str(&source[at..range.start]);
            text.push_str(edit);
            at = range.end;
        }
        text.push_str(&source[at..]);
        text
    }
}

/// Names behind which a value begins.
fn is_operator(name: &str) -> bool {
    [
        "and", "or", "not", "in", "is", "if", "elif", "else", "do", "set", "with", "for",
    ]
    .contains(&name)
}

/// A value that is neither deep nor large. Namespaces are values of variables alone: in each other
/// they could go in circles.
fn bounded(value: Value, may_be_namespace: bool, most: usize) -> Result<Value, minijinja::Error> {
    let mut left = most;
    measure(&value, may_be_namespace, MAX_VALUE_DEPTH, &mut left)?;
    Ok(value)
}

fn measure(
    value: &Value,
    may_be_namespace: bool,
    depth: usize,
    left: &mut usize,
) -> Result<(), minijinja::Error> {
    let bytes = VALUE_BYTES + value.as_str().map_or(0, str::len);
    *left = left
        .checked_sub(bytes)
        .ok_or_else(|| refused("it makes a value that is too large"))?;
    let kind = value.kind();
    if !matches!(kind, ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        return Ok(());
    }
    let deeper = depth
        .checked_sub(1)
        .ok_or_else(|| refused("it nests values too deep"))?;
    let is_namespace = value
        .as_object()
        .is_some_and(|object| object.type_name().ends_with("Namespace"));
    if is_namespace && !may_be_namespace {
        return Err(refused("it puts a namespace into another value"));
    }
    for item in value.try_iter()? {
        if kind == ValueKind::Map {
            measure(&value.get_item(&item)?, false, deeper, left)?;
        }
        measure(&item, false, deeper, left)?;
    }
    Ok(())
}

/// Checks that a method of Python's makes nothing too large, before it is called.
fn bounded_method(
    value: &Value,
    method: &str,
    args: &[Value],
    most: usize,
) -> Result<(), minijinja::Error> {
    let Some(text) = value.as_str() else {
        return Ok(());
    };
    let argument = |i: usize| args.get(i).and_then(Value::as_str).unwrap_or_default();
    let given = |all: usize, value: &Value| all.saturating_add(value.as_str().map_or(0, str::len));
    let bytes = match method {
        "replace" => {
            let found = text.matches(argument(0)).count();
            found.saturating_mul(argument(1).len())
        }
        // Each piece is a value.
        "split" if args.is_empty() => text.split_whitespace().count() * VALUE_BYTES,
        "split" => text.matches(argument(0)).count() * VALUE_BYTES,
        "splitlines" => text.lines().count() * VALUE_BYTES,
        // Each letter is compared with each of those.
        "strip" | "lstrip" | "rstrip" => text.len().saturating_mul(argument(0).len()) / 64,
        "join" => {
            let mut left = most;
            let mut count = 0usize;
            for list in args {
                measure(list, false, MAX_VALUE_DEPTH, &mut left)?;
                count = count.saturating_add(list.len().unwrap_or(0));
            }
            count.saturating_mul(text.len())
        }
        "format" => {
            // A width is written in digits.
            let mut digits = text.split(|c: char| !c.is_ascii_digit());
            if digits.any(|digits| digits.len() > 4) {
                return Err(refused("it formats a text too wide"));
            }
            let fields = text.matches('{').count();
            fields.saturating_mul(args.iter().fold(10_000, given))
        }
        _ => 0,
    };
    match bytes.saturating_add(text.len()) <= most {
        true => Ok(()),
        false => Err(refused(format!("{method} makes a text that is too large"))),
    }
}

fn refused(reason: impl Into<String>) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, reason.into())
}

fn syntax() -> Result<SyntaxConfig> {
    let mut syntax = SyntaxConfig::builder();
    let syntax = syntax.trim_blocks(true).lstrip_blocks(true).build();
    syntax.map_err(|e| unusable(&described(&e)))
}

/// An error with all its causes, on one line.
fn described(error: &minijinja::Error) -> String {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let _ = write!(reason, ": {inner}");
        cause = inner.source();
    }
    reason
}

/// The error of a template that can't be used; it quotes the file, so it is cut.
pub(crate) fn unusable(reason: &str) -> Error {
    const MAX_LETTERS: usize = 300;
    let plain = reason.replace(char::is_control, " ");
    let reason: String = plain.chars().take(MAX_LETTERS).collect();
    Error::Tokenizer {
        reason: format!("the model's chat template can't be used: {reason}"),
    }
}
