//! Several conversations that are answered at a time.

use pollster::block_on;
use univi::{
    Backend,
    sampler::Sampling,
    session::{Answer, EngineSession, Finish, GenerateOptions, Step},
};

use crate::{generate, greedy, ids, model, prompt_tokens, session};

/// Generates an answer to each prompt, the `i`th from round `i` on.
fn generate_together<B: Backend>(
    mut sessions: Vec<EngineSession<B>>,
    prompts: &[(Vec<u32>, GenerateOptions)],
) -> Vec<Answer> {
    let mut answers: Vec<Option<Answer>> = prompts.iter().map(|_| None).collect();
    let mut texts = vec![String::new(); prompts.len()];
    let mut begun = 0;
    while answers.iter().any(Option::is_none) {
        if let Some((prompt, options)) = prompts.get(begun) {
            let begins = sessions[begun].begin(prompt_tokens(prompt), options.clone());
            begins.unwrap();
            begun += 1;
        }
        let (mut numbers, mut active): (Vec<_>, Vec<_>) = sessions[..begun]
            .iter_mut()
            .enumerate()
            .filter(|(i, _)| answers[*i].is_none())
            .unzip();
        let steps = block_on(EngineSession::step_each(&mut active));
        for ((i, session), step) in numbers.drain(..).zip(active).zip(steps) {
            match step.unwrap() {
                Step::Prompt => {}
                Step::Text(text) => texts[i] += &text,
                Step::Done => answers[i] = session.end(),
            }
        }
    }
    let answers: Vec<Answer> = answers.into_iter().flatten().collect();
    for (answer, text) in answers.iter().zip(texts) {
        assert_eq!(answer.text, text);
    }
    answers
}

/// Whoever else is answered at the time, an answer is what it is alone.
pub fn answers_are_what_they_are_alone<B: Backend>(backend: B) {
    let model = model(&backend, 700);
    let drawn = |seed| Sampling::default().temperature(1.).seed(seed);
    let prompts = [
        (ids(20, 1), greedy(40)),
        (ids(600, 2), greedy(12)),
        (ids(1, 3), greedy(30).sampling(drawn(4))),
        (ids(33, 4), greedy(9).logprobs(3)),
        (
            ids(50, 5),
            greedy(30).sampling(drawn(1).repetition_penalty(1.3)),
        ),
        (ids(20, 1), greedy(40)),
        (ids(8, 7), greedy(0)),
        (ids(257, 8), greedy(25).sampling(drawn(9))),
        (ids(12, 9), greedy(1)),
        (ids(690, 10), greedy(100)),
    ];
    let sessions = prompts.iter().map(|_| session(&model)).collect();
    let answers = generate_together(sessions, &prompts);
    assert_eq!(answers[9].finish, Finish::Length);
    for (i, ((prompt, options), answer)) in prompts.iter().zip(answers).enumerate() {
        let alone = generate(&mut session(&model), prompt, options).unwrap();
        assert_eq!(answer, alone, "answer {i}");
    }
}

/// One that ends early, or fails, leaves the others as they are; it goes on alone from where it is.
pub fn answers_come_and_go<B: Backend>(backend: B) {
    let model = model(&backend, 300);
    let (mut one, mut other) = (session(&model), session(&model));
    let (first, second) = (ids(30, 1), ids(40, 2));
    let expected = generate(&mut session(&model), &first, &greedy(30)).unwrap();
    one.begin(prompt_tokens(&first), greedy(30)).unwrap();
    // Alone, so that tokens run ahead.
    let mut text = String::new();
    let mut take = |step: univi::Result<Step>| match step.unwrap() {
        Step::Text(piece) => {
            text += &piece;
            false
        }
        Step::Prompt => false,
        Step::Done => true,
    };
    for _ in 0..5 {
        assert!(!take(block_on(one.step())));
    }
    other.begin(prompt_tokens(&second), greedy(100)).unwrap();
    for _ in 0..5 {
        let steps = block_on(EngineSession::step_each(&mut [&mut one, &mut other]));
        assert!(!take(steps.into_iter().next().unwrap()));
    }
    assert_eq!(other.end().unwrap().finish, Finish::Aborted);
    while !take(block_on(one.step())) {}
    assert_eq!(
        (one.end().unwrap().ids, text),
        (expected.ids, expected.text)
    );
    let again = generate(&mut other, &second, &greedy(20)).unwrap();
    let alone = generate(&mut session(&model), &second, &greedy(20)).unwrap();
    assert_eq!(again.ids, alone.ids);
}

/// Prompts join one after the other, and what is being answered goes on meanwhile.
pub fn prompts_join_one_after_the_other<B: Backend>(backend: B) {
    let model = model(&backend, 700);
    let (mut one, mut first, mut second) = (session(&model), session(&model), session(&model));
    one.begin(prompt_tokens(&ids(5, 1)), greedy(60)).unwrap();
    let mut begun = [false; 3];
    let mut rounds = [0; 3];
    let mut round = |sessions: &mut [&mut EngineSession<B>]| {
        let steps = block_on(EngineSession::step_each(sessions));
        for (i, step) in steps.into_iter().enumerate() {
            begun[i] |= matches!(step.unwrap(), Step::Text(_));
            rounds[i] += usize::from(!begun[i]);
        }
        begun
    };
    while !round(&mut [&mut one, &mut first])[0] {}
    for session in [&mut first, &mut second] {
        session
            .begin(prompt_tokens(&ids(500, 2)), greedy(20))
            .unwrap();
    }
    while round(&mut [&mut one, &mut first, &mut second]) != [true; 3] {}
    // Eight parts each.
    assert!((6..=9).contains(&rounds[1]), "{rounds:?}");
    assert!((14..=18).contains(&rounds[2]), "{rounds:?}");
    assert!(one.end().unwrap().ids.len() >= 15);
}
