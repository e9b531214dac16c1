//! What is to be measured.

/// What is measured.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Tokens of the prompts that are read.
    pub prompts: Vec<usize>,
    /// Tokens that stand before an answer.
    pub contexts: Vec<usize>,
    /// Conversations that are answered at a time, beside one, after the first of the contexts.
    pub together: Vec<usize>,
    /// Tokens of an answer.
    pub answer: usize,
    /// Pictures that are encoded at once.
    pub pictures: Vec<usize>,
    /// Frames of a clip that is merged.
    pub frames: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            prompts: vec![32, 256, 1024, 2048],
            contexts: vec![0, 1024, 4096],
            together: vec![8],
            answer: 16,
            pictures: vec![1, 8],
            frames: 64,
        }
    }
}
