//! A machine that reads a JSON value byte by byte, in all ways at once in which the schema may be
//! meant.

use std::rc::Rc;

use super::{
    decimal::{Begun, Decimals},
    refusal::refused,
};
use crate::Result;

/// Ways to go on that are followed at once; a schema that takes more goes in circles or says
/// everything twice.
const MAX_WAYS: usize = 2048;

/// Digits of a number's integer, its fraction and its exponent: what f64 tells apart.
const MAX_DIGITS: [u8; 3] = [15, 15, 2];

/// The integers that f64 has without gaps.
pub(super) const MAX_INTEGER: i64 = 1 << 53;

/// What the machine does at a place of its program. Places are indices into the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Instruction {
    /// Reads this byte.
    Byte(u8),
    /// Reads nothing or a space. Where there may be more, a model that can't decide what to say
    /// next goes on with white space.
    Space,
    /// Reads a text in quotation marks of so many characters.
    Text { min: u32, max: u32 },
    /// Reads any number.
    Number,
    /// Reads an integer in this range.
    Integer { min: i64, max: i64 },
    /// Reads a number in a range.
    Decimal(Decimals),
    /// Goes on at each of these places.
    Either(Vec<usize>),
    /// Goes on there.
    Jump(usize),
    /// Goes on there until `Return`, then behind this.
    Call(usize),
    /// Goes back.
    Return,
    /// Begins to count the items of a list.
    Count,
    /// Where there were fewer items than `max`, goes on with one at `first` or `next`; where there
    /// were `min`, behind this.
    Items {
        min: u32,
        max: u32,
        first: usize,
        next: usize,
    },
    /// The value is whole.
    End,
}

use Instruction as I;

/// The machine at a point of an answer.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Machine {
    program: Rc<Vec<Instruction>>,
    /// Each stands before an instruction that reads, or at the end.
    ways: Vec<Way>,
}

/// What a byte leads to.
pub(super) enum Step {
    On(Machine),
    Wrong,
}

#[derive(Clone, PartialEq, Eq)]
struct Way {
    at: usize,
    /// How much of the instruction is read.
    part: ValueState,
    stack: Option<Rc<Frame>>,
}

#[derive(PartialEq, Eq)]
struct Frame {
    /// A place to return to, or a count of items.
    value: usize,
    below: Option<Rc<Frame>>,
}

impl Drop for Frame {
    /// Without a recursion as deep as a model has opened brackets.
    fn drop(&mut self) {
        let mut below = self.below.take();
        while let Some(mut frame) = below.and_then(Rc::into_inner) {
            below = frame.below.take();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueState {
    Nothing,
    Text {
        characters: u32,
        within: Within,
    },
    Number {
        group: u8,
        digits: u8,
        is_zero: bool,
        may_end: bool,
    },
    Integer {
        is_negative: bool,
        magnitude: i64,
        digits: u8,
    },
    Decimal(Begun),
}

/// Where in a character of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    Between,
    Escape,
    /// After so many hexadecimal digits of `\u`; whether the first was d, after which 8 and more
    /// are half a character.
    Hex(u8, bool),
    /// So many bytes are left of a UTF-8 sequence, the next of which is in this range.
    Utf8(u8, u8, u8),
}

impl Machine {
    /// At the start of a program.
    pub(super) fn new(program: Rc<Vec<Instruction>>) -> Result<Machine> {
        let mut machine = Machine {
            program,
            ways: Vec::new(),
        };
        machine.go(
            Way {
                at: 0,
                part: ValueState::Nothing,
                stack: None,
            },
            &mut 0,
        )?;
        Ok(machine)
    }

    /// Reads a byte.
    pub(super) fn step(&self, byte: u8) -> Result<Step> {
        let mut next = Machine {
            program: self.program.clone(),
            ways: Vec::new(),
        };
        let mut taken = 0;
        for way in &self.ways {
            let (part, is_over) = match (&self.program[way.at], way.part) {
                (I::Byte(wanted), _) if *wanted == byte => (ValueState::Nothing, true),
                (I::Space, _) if byte == b' ' => (ValueState::Nothing, true),
                (I::Text { min, max }, part) => match text(part, byte, *min, *max) {
                    Some(read) => read,
                    None => continue,
                },
                (I::Number, part) => match number(part, byte) {
                    Some(part) => (part, false),
                    None => continue,
                },
                (I::Integer { min, max }, part) => match integer(part, byte, *min, *max) {
                    Some(part) => (part, false),
                    None => continue,
                },
                (I::Decimal(decimals), part) => {
                    let begun = match part {
                        ValueState::Decimal(begun) => Some(begun),
                        _ => None,
                    };
                    match decimals.step(begun, byte) {
                        Some(begun) => (ValueState::Decimal(begun), false),
                        None => continue,
                    }
                }
                _ => continue,
            };
            let at = way.at + usize::from(is_over);
            next.go(
                Way {
                    at,
                    part,
                    stack: way.stack.clone(),
                },
                &mut taken,
            )?;
        }
        Ok(match next.ways.is_empty() {
            true => Step::Wrong,
            false => Step::On(next),
        })
    }

    /// In how many ways it may go on. The time of a step grows with the square.
    pub(super) fn ways(&self) -> usize {
        self.ways.len()
    }

    /// Whether the value may end here.
    pub(super) fn may_end(&self) -> bool {
        self.ways.iter().any(|way| self.program[way.at] == I::End)
    }

    /// Whether it has to.
    pub(super) fn is_complete(&self) -> bool {
        self.ways.iter().all(|way| self.program[way.at] == I::End)
    }

    /// Adds what `way` comes to before a byte is needed. `taken` counts against [`MAX_WAYS`].
    fn go(&mut self, way: Way, taken: &mut usize) -> Result<()> {
        let program = self.program.clone();
        let mut open = vec![way];
        while let Some(way) = open.pop() {
            *taken += 1;
            if *taken > MAX_WAYS {
                return Err(refused(
                    "there are too many ways to go on; it goes in circles, or its choices are too much alike",
                ));
            }
            let Way { at, part, stack } = way;
            let to = |at: usize, stack: Option<Rc<Frame>>| Way {
                at,
                part: ValueState::Nothing,
                stack,
            };
            let pushed =
                |value: usize, below: Option<Rc<Frame>>| Some(Rc::new(Frame { value, below }));
            match &program[at] {
                I::Jump(place) => open.push(to(*place, stack)),
                I::Either(places) => {
                    open.extend(places.iter().rev().map(|place| to(*place, stack.clone())))
                }
                I::Call(place) => open.push(to(*place, pushed(at + 1, stack))),
                I::Return => open.extend(stack.map(|frame| to(frame.value, frame.below.clone()))),
                I::Count => open.push(to(at + 1, pushed(0, stack))),
                I::Items {
                    min,
                    max,
                    first,
                    next,
                } => {
                    let Some(frame) = stack else { continue };
                    let count = frame.value as u32;
                    if count >= *min {
                        open.push(to(at + 1, frame.below.clone()));
                    }
                    if count < *max {
                        let place = if count == 0 { first } else { next };
                        // Beyond what matters there is no need to count, and equal states are found
                        // again.
                        let counted = if *max == u32::MAX {
                            (count + 1).min((*min).max(1))
                        } else {
                            count + 1
                        };
                        open.push(to(*place, pushed(counted as usize, frame.below.clone())));
                    }
                }
                instruction => {
                    if can_be_over(instruction, part) {
                        open.push(to(at + 1, stack.clone()));
                    }
                    let way = Way { at, part, stack };
                    if !self.ways.contains(&way) {
                        self.ways.push(way);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether an instruction that reads may be done without another byte.
fn can_be_over(instruction: &Instruction, part: ValueState) -> bool {
    match (instruction, part) {
        (I::Space, _) => true,
        (I::Number, ValueState::Number { may_end, .. }) => may_end,
        (I::Decimal(decimals), ValueState::Decimal(begun)) => decimals.may_end(begun),
        (
            I::Integer { min, max },
            ValueState::Integer {
                is_negative,
                magnitude,
                digits,
            },
        ) => {
            let value = if is_negative { -magnitude } else { magnitude };
            digits > 0 && (*min..=*max).contains(&value)
        }
        _ => false,
    }
}

/// What has been read then, and whether that is all.
fn text(part: ValueState, byte: u8, min: u32, max: u32) -> Option<(ValueState, bool)> {
    let ValueState::Text { characters, within } = part else {
        let begun = ValueState::Text {
            characters: 0,
            within: Within::Between,
        };
        return (byte == b'"').then_some((begun, false));
    };
    let within = match (within, byte) {
        (Within::Between, b'"') => {
            return (characters >= min).then_some((ValueState::Nothing, true));
        }
        (Within::Between, _) if characters == max => return None,
        (Within::Between, b'\\') => Some(Within::Escape),
        (Within::Between, 0x20..=0x7f) => None,
        (Within::Between, 0xc2..=0xdf) => Some(Within::Utf8(1, 0x80, 0xbf)),
        // No byte sequence longer than needed, no half of a surrogate pair, nothing beyond
        // U+10FFFF.
        (Within::Between, 0xe0) => Some(Within::Utf8(2, 0xa0, 0xbf)),
        (Within::Between, 0xed) => Some(Within::Utf8(2, 0x80, 0x9f)),
        (Within::Between, 0xe1..=0xef) => Some(Within::Utf8(2, 0x80, 0xbf)),
        (Within::Between, 0xf0) => Some(Within::Utf8(3, 0x90, 0xbf)),
        (Within::Between, 0xf1..=0xf3) => Some(Within::Utf8(3, 0x80, 0xbf)),
        (Within::Between, 0xf4) => Some(Within::Utf8(3, 0x80, 0x8f)),
        (Within::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => None,
        (Within::Escape, b'u') => Some(Within::Hex(0, false)),
        (Within::Hex(1, true), b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F') => return None,
        (Within::Hex(digits, _), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => match digits {
            3 => None,
            _ => Some(Within::Hex(
                digits + 1,
                digits == 0 && matches!(byte, b'd' | b'D'),
            )),
        },
        (Within::Utf8(left, least, most), _) if (least..=most).contains(&byte) => {
            (left > 1).then_some(Within::Utf8(left - 1, 0x80, 0xbf))
        }
        _ => return None,
    };
    let characters = match within {
        Some(_) => characters,
        // Beyond what matters there is no need to count, and equal states are found again.
        None if max == u32::MAX => (characters + 1).min(min),
        None => characters + 1,
    };
    Some((
        ValueState::Text {
            characters,
            within: within.unwrap_or(Within::Between),
        },
        false,
    ))
}

/// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`, with [`MAX_DIGITS`].
fn number(part: ValueState, byte: u8) -> Option<ValueState> {
    let (group, digits, is_zero, may_end) = match part {
        ValueState::Number {
            group,
            digits,
            is_zero,
            may_end,
        } => (group, digits, is_zero, may_end),
        _ => (0, 0, false, false),
    };
    let is_first = part == ValueState::Nothing;
    let sign = ValueState::Number {
        group,
        digits: 0,
        is_zero: false,
        may_end: false,
    };
    match byte {
        b'-' if is_first => Some(sign),
        // The sign of an exponent: `is_zero` stands for one that has come, so that there is no
        // second.
        b'+' | b'-' if group == 2 && digits == 0 && !is_zero => Some(ValueState::Number {
            group,
            digits,
            is_zero: true,
            may_end,
        }),
        b'0'..=b'9' if digits < MAX_DIGITS[usize::from(group)] && !(group == 0 && is_zero) => {
            Some(ValueState::Number {
                group,
                digits: digits + 1,
                is_zero: (group == 0 && byte == b'0' && digits == 0) || (group == 2 && is_zero),
                may_end: true,
            })
        }
        b'.' if group == 0 && may_end => Some(ValueState::Number {
            group: 1,
            digits: 0,
            is_zero: false,
            may_end: false,
        }),
        b'e' | b'E' if group < 2 && may_end => Some(ValueState::Number {
            group: 2,
            digits: 0,
            is_zero: false,
            may_end: false,
        }),
        _ => None,
    }
}

/// Only digits that still lead into the range.
fn integer(part: ValueState, byte: u8, min: i64, max: i64) -> Option<ValueState> {
    let (is_negative, magnitude, digits) = match part {
        ValueState::Integer {
            is_negative,
            magnitude,
            digits,
        } => (is_negative, magnitude, digits),
        _ if byte == b'-' => {
            return (min < 0).then_some(ValueState::Integer {
                is_negative: true,
                magnitude: 0,
                digits: 0,
            });
        }
        _ => (false, 0, 0),
    };
    // No second digit after a zero in front.
    if !byte.is_ascii_digit()
        || (digits == 1 && magnitude == 0)
        || (digits == 0 && is_negative && byte == b'0')
    {
        return None;
    }
    let magnitude = magnitude * 10 + i64::from(byte - b'0');
    let (least, most) = match is_negative {
        true => ((-max).max(1), -min),
        false => (min.max(0), max),
    };
    // What it may become: itself, or with more digits behind.
    let mut unit = 1;
    let leads_there = loop {
        let (from, to) = (magnitude * unit, magnitude * unit + (unit - 1));
        if from > most {
            break false;
        }
        if to >= least {
            break true;
        }
        if magnitude == 0 {
            break false;
        }
        unit *= 10;
    };
    leads_there.then_some(ValueState::Integer {
        is_negative,
        magnitude,
        digits: digits + 1,
    })
}
