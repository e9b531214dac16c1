//! Conversations to prompts.
//!
//! ```text
//! Conversation ──┐
//!                ├─> Prompt (texts and visuals in order) ── encode ──> Slots (ids and visuals)
//! raw `<image>` ─┘
//! ```

use std::ops::Range;

use crate::{
    Error, Result,
    chat_template::{Message, unusable},
    gguf::Metadata,
    tokenizer::{EncodeOptions, Tokenizer},
};

pub use crate::chat_template::ChatTemplate;

/// Where a visual stands in a raw prompt: once per picture, once per frame of a clip.
pub const IMAGE_MARKER: &str = "<image>";

/// Around a visual, for models trained with them (`mm_use_im_start_end`).
pub const IM_START: &str = "<im_start>";
/// Behind a visual, for models trained with them.
pub const IM_END: &str = "<im_end>";

/// Metadata key: the name of a built-in [`Template`].
pub const TEMPLATE_KEY: &str = "univi.template";
/// Metadata key: whether [`IM_START`] and [`IM_END`] stand around visuals.
pub const WRAPS_VISUALS_KEY: &str = "univi.use_im_start_end";
/// Metadata key of GGUF files: the model's own Jinja template.
pub const CHAT_TEMPLATE_KEY: &str = "tokenizer.chat_template";

/// Something to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptVisual {
    /// One picture.
    Image,
    /// A clip.
    Video {
        /// How many of its frames are looked at.
        frames: usize,
    },
}

/// A part of what a user says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptPart {
    /// Words. An `<image>` in them is five letters between two brackets.
    Text(String),
    /// Something to look at.
    Visual(PromptVisual),
}

/// What the user says, and what the model answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Words and visuals in their order.
    pub parts: Vec<PromptPart>,
    /// The answer; `None` where it is the model's turn.
    pub answer: Option<String>,
}

impl Turn {
    /// Whether the model speaks without having been asked.
    fn is_greeting(&self) -> bool {
        self.parts.is_empty() && self.answer.as_deref().is_some_and(|text| !text.is_empty())
    }
}

/// A conversation, in full.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// How it is written down.
    pub template: Template,
    /// Instead of the template's own system text.
    pub system: Option<String>,
    /// Whether [`IM_START`] and [`IM_END`] stand around visuals.
    pub wraps_visuals: bool,
    /// All turns so far.
    pub turns: Vec<Turn>,
}

/// How a conversation is written down.
#[derive(Debug, Clone, PartialEq)]
pub enum Template {
    /// The default of Chat-UniVi: `Human` and `Assistant`, parted by `###`, after a greeting.
    Simple,
    /// As `Simple`, for questions with short answers.
    SimpleQa,
    /// Vicuna's: `USER` and `ASSISTANT`, answers end with `</s>`.
    V1,
    /// As `V1`, without a system text: for models whose context is short.
    Bare,
    /// The model's own.
    Jinja(ChatTemplate),
}

/// A template in the reference's terms.
struct Layout {
    system: &'static str,
    roles: [&'static str; 2],
    /// An exchange that every conversation begins with.
    example: Option<[&'static str; 2]>,
    /// What follows a message of the user, and one of the model.
    separators: [&'static str; 2],
}

impl Template {
    /// Returns a built-in template by the name that the reference gives it.
    ///
    /// # Errors
    /// `BadRequest` for another name.
    pub fn from_name(name: &str) -> Result<Template> {
        match name {
            "simple" | "default" => Ok(Template::Simple),
            "simpleqa" => Ok(Template::SimpleQa),
            "v1" => Ok(Template::V1),
            "bare" => Ok(Template::Bare),
            other => Err(Error::BadRequest {
                reason: format!(
                    "there is no template {other:?}; there are simple, simpleqa, v1 and bare"
                ),
            }),
        }
    }

    /// Returns the template that a model's metadata asks for: a built-in one by name, or its own;
    /// `None` where it asks for none.
    ///
    /// # Errors
    /// `BadMetadata` where the keys are of the wrong type or name nothing. What is wrong with a
    /// Jinja template shows where it is used.
    pub fn from_metadata(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Option<Template>> {
        if let Some(name) = metadata.opt_str(TEMPLATE_KEY)? {
            let template = Template::from_name(name).map_err(|e| Error::BadMetadata {
                key: TEMPLATE_KEY.into(),
                reason: e.to_string(),
            });
            return template.map(Some);
        }
        let source = metadata.opt_str(CHAT_TEMPLATE_KEY)?;
        Ok(source.map(|source| Template::Jinja(ChatTemplate::new(source, tokenizer))))
    }

    /// Returns what ends an answer when the model generates it as text.
    pub fn stop(&self) -> Option<&'static str> {
        self.layout().map(|layout| layout.separators[1])
    }

    fn layout(&self) -> Option<Layout> {
        match self {
            Template::Simple => Some(Layout {
                system: "A chat between a curious human and an artificial intelligence assistant. \
                    The assistant gives helpful, detailed, and polite answers to the human's questions.",
                roles: ["Human", "Assistant"],
                example: Some(["Hi!", "Hi there! How can I help you today?"]),
                separators: ["###", "###"],
            }),
            // Two blanks before the last sentence, as the model was trained.
            Template::SimpleQa => Some(Layout {
                system: "A chat between a curious human and an artificial intelligence assistant. \
                    The assistant gives helpful, detailed, and polite answers to the human's questions.  \
                    If you don't know the answer to a question, please don't share false information.",
                roles: ["Human", "Assistant"],
                example: Some([
                    "Is there a snowboard in the image?",
                    "Yes, there is a snowboard in the image, and the person is riding it down a \
                    snow-covered slope.",
                ]),
                separators: ["###", "###"],
            }),
            Template::V1 | Template::Bare => Some(Layout {
                system: match self {
                    Template::Bare => "",
                    _ => {
                        "A chat between a curious user and an artificial intelligence assistant. \
                        The assistant gives helpful, detailed, and polite answers to the user's questions."
                    }
                },
                roles: ["USER", "ASSISTANT"],
                example: None,
                separators: [" ", "</s>"],
            }),
            Template::Jinja(_) => None,
        }
    }
}

/// A piece of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Text, tokenized on its own.
    Text(PromptText),
    /// The visual of this index.
    Visual(usize),
}

/// A text of a prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptText {
    /// All of it.
    pub text: String,
    /// Bytes of it that somebody said: names of control tokens there are letters.
    pub said: Vec<Range<usize>>,
}

impl From<&str> for PromptText {
    /// A text of the template's.
    fn from(text: &str) -> PromptText {
        PromptText {
            text: text.into(),
            said: Vec::new(),
        }
    }
}

/// A conversation written down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Texts and visuals in their order.
    pub segments: Vec<Segment>,
    /// What [`Segment::Visual`] counts.
    pub visuals: Vec<PromptVisual>,
}

/// A piece of a prompt as the model takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// Rows of the embedding table.
    Tokens(Vec<u32>),
    /// The merged tokens of the visual of this index.
    Visual(usize),
}

impl Conversation {
    /// Writes the conversation down, ready for the model's next answer.
    ///
    /// Each visual stands where its turn put it, followed by a line break, and all text stays.
    /// Source: the reference's `Conversation.get_prompt`.
    ///
    /// # Errors
    /// `Tokenizer` where a Jinja template refuses the conversation.
    pub fn prompt(&self) -> Result<Prompt> {
        match (&self.template, self.template.layout()) {
            (_, Some(layout)) => Ok(self.laid_out(&layout)),
            (Template::Jinja(template), None) => self.rendered(template),
            (_, None) => unreachable!("every template but Jinja has a layout"),
        }
    }

    fn laid_out(&self, layout: &Layout) -> Prompt {
        let mut prompt = Prompt::default();
        let [user, model] = layout.roles;
        let [after_user, after_model] = layout.separators;
        let system = self.system.as_deref().unwrap_or(layout.system);
        if !(system.is_empty() && self.template == Template::Bare) {
            prompt.push_said(system);
            prompt.push_text(after_user);
        }
        if let Some([question, answer]) = layout.example {
            prompt.push_text(&format!(
                "{user}: {question}{after_user}{model}: {answer}{after_model}"
            ));
        }
        for turn in &self.turns {
            if !turn.is_greeting() {
                prompt.push_text(&format!("{user}: "));
                self.push_parts(&turn.parts, &mut prompt);
                prompt.push_text(after_user);
            }
            prompt.push_text(&format!("{model}:"));
            // The reference takes an empty answer for one that is yet to come.
            if let Some(answer) = turn.answer.as_deref().filter(|a| !a.is_empty()) {
                prompt.push_text(" ");
                prompt.push_said(answer);
                prompt.push_text(after_model);
            }
        }
        prompt
    }

    fn push_parts(&self, parts: &[PromptPart], prompt: &mut Prompt) {
        for part in parts {
            match part {
                PromptPart::Text(text) => prompt.push_said(text),
                PromptPart::Visual(visual) => {
                    let (before, after) = self.around_visuals();
                    prompt.push_text(before);
                    prompt.push_visual(*visual);
                    prompt.push_text(after);
                    prompt.push_text("\n");
                }
            }
        }
    }

    /// A template sees text only, so a character that occurs nowhere else stands for each visual
    /// while it is rendered, and another parts names of control tokens that somebody said.
    fn rendered(&self, template: &ChatTemplate) -> Result<Prompt> {
        let mut unused = ('\u{f0000}'..='\u{10fffd}')
            .rev()
            .filter(|&c| !template.contains(c) && !self.says(c));
        let [Some(visual), Some(parts_name)] = [unused.next(), unused.next()] else {
            return Err(unusable("no character is left to mark a picture with"));
        };
        let said = |text: &str| template.control().mark(text, parts_name);

        let mut visuals = Vec::new();
        let mut messages = Vec::new();
        let mut push = |role, content| messages.push(Message { role, content });
        if let Some(system) = &self.system {
            push("system", said(system));
        }
        for turn in &self.turns {
            // A name may begin in one part and end in the next.
            let (mut content, mut text) = (String::new(), String::new());
            for part in &turn.parts {
                match part {
                    PromptPart::Text(more) => text.push_str(more),
                    PromptPart::Visual(what) => {
                        visuals.push(*what);
                        content.push_str(&said(&std::mem::take(&mut text)));
                        let (before, after) = self.around_visuals();
                        content.extend([before, visual.encode_utf8(&mut [0; 4]), after, "\n"]);
                    }
                }
            }
            content.push_str(&said(&text));
            if !turn.is_greeting() {
                push("user", content);
            }
            if let Some(answer) = &turn.answer {
                push("assistant", said(answer));
            }
        }

        let rendered = template.render(&messages, visual)?;
        let mut prompt = Prompt::default();
        let mut visuals = visuals.into_iter();
        for (i, text) in rendered.split(visual).enumerate() {
            if i > 0 {
                let visual = visuals.next();
                prompt.push_visual(visual.ok_or_else(|| unusable("it repeats a picture"))?);
            }
            for (i, text) in text.split(parts_name).enumerate() {
                if i > 0 {
                    prompt.end_in_said();
                }
                prompt.push_text(text);
            }
        }
        match visuals.next() {
            None => Ok(prompt),
            Some(_) => Err(unusable("it leaves out a picture")),
        }
    }

    /// Whether this character occurs anywhere in it.
    fn says(&self, character: char) -> bool {
        let in_part = |part: &PromptPart| match part {
            PromptPart::Text(text) => text.contains(character),
            PromptPart::Visual(_) => false,
        };
        let in_text = |text: &Option<String>| text.as_ref().is_some_and(|t| t.contains(character));
        let in_turn = |turn: &Turn| turn.parts.iter().any(in_part) || in_text(&turn.answer);
        in_text(&self.system) || self.turns.iter().any(in_turn)
    }

    /// What stands before and behind each visual.
    fn around_visuals(&self) -> (&'static str, &'static str) {
        match self.wraps_visuals {
            true => (IM_START, IM_END),
            false => ("", ""),
        }
    }
}

impl Prompt {
    /// Reads a raw prompt, in which each [`IMAGE_MARKER`] is a picture or a frame.
    ///
    /// One or two markers in a row are that many pictures, three and more are one clip, as in the
    /// reference; only [`Conversation`] can tell a clip of two frames.
    pub fn parse(raw: &str) -> Prompt {
        let mut prompt = Prompt::default();
        let mut run = 0;
        for (i, text) in raw.split(IMAGE_MARKER).enumerate() {
            run += usize::from(i > 0);
            if !text.is_empty() {
                prompt.push_run(std::mem::take(&mut run));
                prompt.push_text(text);
            }
        }
        prompt.push_run(run);
        prompt
    }

    fn push_run(&mut self, markers: usize) {
        match markers {
            0..=2 => (0..markers).for_each(|_| self.push_visual(PromptVisual::Image)),
            frames => self.push_visual(PromptVisual::Video { frames }),
        }
    }

    /// Appends what the model said, so that it goes on from there.
    pub fn continued_by(mut self, said: &str) -> Prompt {
        self.push_said(said);
        self
    }

    /// Text of the template, in which names of control tokens are those tokens.
    fn push_text(&mut self, text: &str) {
        match self.segments.last_mut() {
            _ if text.is_empty() => {}
            Some(Segment::Text(last)) => last.text.push_str(text),
            _ => self.segments.push(Segment::Text(text.into())),
        }
    }

    /// Text that somebody said.
    fn push_said(&mut self, text: &str) {
        self.push_text(text);
        if let Some(Segment::Text(last)) = self.segments.last_mut().filter(|_| !text.is_empty()) {
            let end = last.text.len();
            last.said.push(end - text.len()..end);
        }
    }

    /// The last character was said by somebody, so that no name with it is a control token's.
    fn end_in_said(&mut self) {
        if let Some(Segment::Text(last)) = self.segments.last_mut()
            && let Some((start, _)) = last.text.char_indices().next_back()
        {
            last.said.push(start..last.text.len());
        }
    }

    fn push_visual(&mut self, visual: PromptVisual) {
        self.segments.push(Segment::Visual(self.visuals.len()));
        self.visuals.push(visual);
    }

    /// Returns the raw prompt.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for segment in &self.segments {
            match segment {
                Segment::Text(piece) => text.push_str(&piece.text),
                Segment::Visual(i) => {
                    let markers = match self.visuals[*i] {
                        PromptVisual::Image => 1,
                        PromptVisual::Video { frames } => frames,
                    };
                    text.push_str(&IMAGE_MARKER.repeat(markers));
                }
            }
        }
        text
    }

    /// Returns token ids and visuals in their order. Each text is tokenized on its own, with the
    /// space that the vocabulary puts in front of a text; a begin token stands at the very front,
    /// once.
    ///
    /// Source: the reference's `tokenizer_image_token`.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode(&self, tokenizer: &Tokenizer) -> Result<Vec<Slot>> {
        let mut slots = Vec::with_capacity(self.segments.len() + 1);
        for segment in &self.segments {
            slots.push(match segment {
                Segment::Text(PromptText { text, said }) => {
                    Slot::Tokens(tokenizer.encode_quoting(text, EncodeOptions::PIECE, said)?)
                }
                Segment::Visual(i) => Slot::Visual(*i),
            });
        }
        if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.adds_bos()) {
            match slots.first_mut() {
                // A model's own template may have written it.
                Some(Slot::Tokens(ids)) if ids.first() == Some(&bos) => {}
                Some(Slot::Tokens(ids)) => ids.insert(0, bos),
                _ => slots.insert(0, Slot::Tokens(vec![bos])),
            }
        }
        Ok(slots)
    }
}
