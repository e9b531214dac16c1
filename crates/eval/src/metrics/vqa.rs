//! Accuracy against what ten people said, with the answers' spelling made alike as the official
//! scripts do: VQA's `vqaEval.py`, and the M4C processor that LLaVA puts before it.
//!
//! Source: github.com/GT-Vision-Lab/VQA, `PythonEvaluationTools`; arXiv 1505.00468.

/// Words that are written with apostrophes; without any, they are the same.
const CONTRACTIONS: &str = "\
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd \
    he's how'd how'll how's isn't it'd it'll ma'am mightn't might've mustn't must've needn't \
    not've o'clock oughtn't shan't should've shouldn't somebody'll somebody's someone'd \
    someone'll someone's something'd something'll that's there'd there're there's they'd \
    they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's \
    where'd where's where've who'd who'll who's who've why'll why're why's won't would've \
    wouldn't y'all you'd you'll you're you've";

/// What else the scripts write otherwise.
const OTHER_CONTRACTIONS: [(&str, &str); 41] = [
    ("couldn'tve", "couldn't've"),
    ("couldnt've", "couldn't've"),
    ("hadnt've", "hadn't've"),
    ("hadn'tve", "hadn't've"),
    ("hed've", "he'd've"),
    ("he'dve", "he'd've"),
    ("itd've", "it'd've"),
    ("it'dve", "it'd've"),
    ("mightnt've", "mightn't've"),
    ("mightn'tve", "mightn't've"),
    ("ow's'at", "'ow's'at"),
    ("'ows'at", "'ow's'at"),
    ("'ow'sat", "'ow's'at"),
    ("shed've", "she'd've"),
    ("she'dve", "she'd've"),
    ("shouldnt've", "shouldn't've"),
    ("shouldn'tve", "shouldn't've"),
    ("somebody'd", "somebodyd"),
    ("somebodyd've", "somebody'd've"),
    ("somebody'dve", "somebody'd've"),
    ("someoned've", "someone'd've"),
    ("someone'dve", "someone'd've"),
    ("somethingd've", "something'd've"),
    ("something'dve", "something'd've"),
    ("thered've", "there'd've"),
    ("there'dve", "there'd've"),
    ("theyd've", "they'd've"),
    ("they'dve", "they'd've"),
    ("wed've", "we'd've"),
    ("we'dve", "we'd've"),
    ("whod've", "who'd've"),
    ("who'dve", "who'd've"),
    ("wouldnt've", "wouldn't've"),
    ("wouldn'tve", "wouldn't've"),
    ("yall'll", "y'all'll"),
    ("y'allll", "y'all'll"),
    ("yall'd've", "y'all'd've"),
    ("y'alld've", "y'all'd've"),
    ("y'all'dve", "y'all'd've"),
    ("youd've", "you'd've"),
    ("you'dve", "you'd've"),
];

/// Becomes nothing where a blank is beside it, else a blank.
const PUNCTUATION: [char; 21] = [
    ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',',
    '?', '!',
];

/// The scripts hand `re.UNICODE` to a parameter that counts: so many full stops go, no more.
const MOST_FULL_STOPS: usize = 32;

/// Returns an answer as LLaVA hands it in: in small letters, without articles and most
/// punctuation, numbers up to ten as digits.
pub fn processed(answer: &str) -> String {
    let words = answer.to_lowercase().replace([',', '?'], "");
    let words = words.replace("'s", " 's");
    let words = words.trim().replace(['\n', '\t'], " ");
    digits_and_articles(&punctuation(words.trim()))
}

/// Returns the share, from 0 to 1, that VQA's script gives an answer: with three of the other
/// people it is right.
pub fn accuracy(answer: &str, given: &[String]) -> f64 {
    let plain = |text: &str| text.replace(['\n', '\t'], " ").trim().to_owned();
    let mut answer = plain(answer);
    let mut given: Vec<String> = given.iter().map(|text| plain(text)).collect();
    // Where all people agree, nothing is made alike.
    if differ(&given) {
        let alike = |text: &str| digits_and_articles(&punctuation(text));
        answer = alike(&answer);
        given = given.iter().map(|text| alike(text)).collect();
    }
    shared(&answer, &given)
}

/// The same as TextVQA's script gives it, which always makes alike.
pub fn text_accuracy(answer: &str, given: &[String]) -> f64 {
    let given: Vec<String> = given.iter().map(|text| processed(text)).collect();
    shared(&processed(answer), &given)
}

fn differ(given: &[String]) -> bool {
    given.windows(2).any(|pair| pair[0] != pair[1])
}

/// The mean over all people of how far the answer agrees with the others, in the order in which
/// the scripts add.
fn shared(answer: &str, given: &[String]) -> f64 {
    let agree = given.iter().filter(|one| *one == answer).count();
    let of_one = |one: &String| {
        let others = agree - usize::from(one == answer);
        f64::min(1., others as f64 / 3.)
    };
    given.iter().map(of_one).fold(0., |sum, share| sum + share) / given.len() as f64
}

fn punctuation(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let is_digit = |c: Option<&char>| c.is_some_and(char::is_ascii_digit);
    let has_grouped_digits = chars
        .windows(3)
        .any(|three| is_digit(three.first()) && three[1] == ',' && is_digit(three.last()));
    let mut out = text.to_owned();
    for mark in PUNCTUATION {
        let is_beside_blank = chars
            .windows(2)
            .any(|two| two == [mark, ' '] || two == [' ', mark]);
        let with = if is_beside_blank || has_grouped_digits {
            ""
        } else {
            " "
        };
        out = out.replace(mark, with);
    }
    let chars: Vec<char> = out.chars().collect();
    let mut gone = 0;
    let stays = |(i, c): &(usize, &char)| {
        let goes = **c == '.' && !is_digit(chars.get(i + 1)) && gone < MOST_FULL_STOPS;
        gone += usize::from(goes);
        !goes
    };
    chars
        .iter()
        .enumerate()
        .filter(stays)
        .map(|(_, c)| *c)
        .collect()
}

fn digits_and_articles(text: &str) -> String {
    const NUMBERS: [&str; 11] = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    ];
    let word = |word: &str| -> Option<String> {
        if ["a", "an", "the"].contains(&word) {
            return None;
        }
        if let Some(number) = NUMBERS.iter().position(|number| *number == word) {
            return Some(number.to_string());
        }
        if word == "none" {
            return Some("0".into());
        }
        let other = OTHER_CONTRACTIONS.iter().find(|(from, _)| *from == word);
        let contracted = CONTRACTIONS
            .split_whitespace()
            .find(|long| !word.contains('\'') && long.replace('\'', "") == word);
        let right = other.map(|(_, to)| *to).or(contracted);
        Some(right.unwrap_or(word).to_owned())
    };
    let lower = text.to_lowercase();
    let words: Vec<String> = lower.split_whitespace().filter_map(word).collect();
    words.join(" ")
}
