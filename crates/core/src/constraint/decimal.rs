//! Numbers between bounds, read digit by digit: none is begun that can't end between them.

/// Digits of a number, of its integer and fraction together: what f64 tells apart.
const MAX_DIGITS: u32 = 15;

/// Numbers are counted in units of the last digit that a fraction may have.
const ONE: i128 = 10i128.pow(MAX_DIGITS);

/// Numbers from `min` to `max`, in units of 10^-15, written without an exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimals {
    min: i128,
    max: i128,
}

/// A number that is being read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Begun {
    is_negative: bool,
    /// All digits so far, as an integer.
    digits: i64,
    /// How many there are; a zero in front of the point is none.
    count: u32,
    has_integer: bool,
    /// How many of them are behind the point; `None` before that.
    behind_point: Option<u32>,
}

impl Decimals {
    /// Every number that has so few digits.
    pub(super) fn all() -> Decimals {
        let most = 10i128.pow(MAX_DIGITS) * ONE - 1;
        Decimals {
            min: -most,
            max: most,
        }
    }

    pub(super) fn at_least(&mut self, bound: f64, is_exclusive: bool) {
        let (floor, is_exact) = units(bound);
        let least = floor + i128::from(is_exclusive || !is_exact);
        self.min = self.min.max(least);
    }

    pub(super) fn at_most(&mut self, bound: f64, is_exclusive: bool) {
        let (floor, is_exact) = units(bound);
        let most = floor - i128::from(is_exclusive && is_exact);
        self.max = self.max.min(most);
    }

    /// Whether no number is left.
    pub(super) fn is_empty(&self) -> bool {
        let begins = |is_negative: bool| {
            let begun = Begun {
                is_negative,
                ..Begun::default()
            };
            self.can_end(begun)
        };
        !(begins(false) || begins(true))
    }

    /// What a number has become with this byte; `None` where it can't end between the bounds then.
    pub(super) fn step(&self, begun: Option<Begun>, byte: u8) -> Option<Begun> {
        let mut next = begun.unwrap_or_default();
        match byte {
            b'-' if begun.is_none() => next.is_negative = true,
            b'.' if next.has_integer && next.behind_point.is_none() => next.behind_point = Some(0),
            b'0'..=b'9' => {
                let is_zero_in_front = next.has_integer && next.digits == 0;
                match &mut next.behind_point {
                    Some(count) => *count += 1,
                    None if is_zero_in_front => return None,
                    None => {}
                }
                let is_leading_zero = !next.has_integer && byte == b'0';
                next.has_integer = true;
                next.count += u32::from(!is_leading_zero);
                next.digits = next.digits * 10 + i64::from(byte - b'0');
            }
            _ => return None,
        }
        (next.count <= MAX_DIGITS && self.can_end(next)).then_some(next)
    }

    /// Whether it may end here.
    pub(super) fn may_end(&self, begun: Begun) -> bool {
        begun.has_integer && begun.behind_point != Some(0) && {
            let value = i128::from(begun.digits) * unit(begun.behind_point.unwrap_or(0));
            let (least, most) = self.magnitudes(begun.is_negative);
            (least..=most).contains(&value)
        }
    }

    /// The bounds of what follows the sign.
    fn magnitudes(&self, is_negative: bool) -> (i128, i128) {
        match is_negative {
            true => ((-self.max).max(0), -self.min),
            false => (self.min.max(0), self.max),
        }
    }

    /// Whether more digits lead between the bounds, or none.
    fn can_end(&self, begun: Begun) -> bool {
        let (least, most) = self.magnitudes(begun.is_negative);
        let left = MAX_DIGITS - begun.count;
        if begun.behind_point == Some(0) && left == 0 {
            return false; // A digit has to follow the point.
        }
        let digits = i128::from(begun.digits);
        // With `more` digits before the point, and as many behind it as are left.
        let leads_there = |more: u32| {
            let behind = begun.behind_point.unwrap_or(0);
            let last = (behind + left - more).min(MAX_DIGITS);
            let first = if begun.behind_point.is_some() {
                behind
            } else {
                0
            };
            let from = digits * 10i128.pow(more) * unit(first);
            let width = 10i128.pow(more) * unit(first);
            let step = unit(last);
            let (from, to) = (from.max(least), (from + width - step).min(most));
            // The next number of that many digits.
            from <= to && (from + step - 1) / step * step <= to
        };
        let may_grow = begun.behind_point.is_none() && !(begun.has_integer && begun.digits == 0);
        let most_digits = if may_grow { left } else { 0 };
        (0..=most_digits).any(leads_there)
    }
}

/// What a digit counts that stands so far behind the point.
fn unit(behind_point: u32) -> i128 {
    10i128.pow(MAX_DIGITS - behind_point)
}

/// A bound in units, rounded down, and whether that is exact. It is read as it is written, so that
/// 0.1 is a tenth. One beyond all numbers is the first beyond them: sums with it stay in range.
fn units(bound: f64) -> (i128, bool) {
    let written = format!("{bound:e}");
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let behind_point = mantissa
        .split_once('.')
        .map_or(0, |(_, behind)| behind.len());
    let digits: i128 = digits.parse().unwrap_or(0);
    let shift = exponent - behind_point as i32 + MAX_DIGITS as i32;
    if shift >= 0 {
        // Beyond 10^16 no bound matters.
        let factor = 10i128.pow((shift as u32).min(2 * MAX_DIGITS));
        let beyond = 10i128.pow(2 * MAX_DIGITS);
        return (digits.saturating_mul(factor).clamp(-beyond, beyond), true);
    }
    match 10i128.checked_pow(shift.unsigned_abs()) {
        Some(divisor) => (digits.div_euclid(divisor), digits.rem_euclid(divisor) == 0),
        None => (if digits < 0 { -1 } else { 0 }, digits == 0),
    }
}
