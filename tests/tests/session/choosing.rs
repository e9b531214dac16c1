//! How tokens are chosen, and what is reported of the choice.

use pollster::block_on;
use univi::{Backend, sampler::Sampling};

use crate::{Step, generate, greedy, ids, model, prompt_tokens, session};

pub fn reports_what_logits_say<B: Backend>(backend: B) {
    let model = model(&backend, 200);
    let prompt = prompt_tokens(&ids(30, 1));
    let logits = block_on(session(&model).logits(&prompt)).unwrap();
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    let expected = |id: u32| f64::from(logits[id as usize]) - sum.ln();
    // Neither draws nor penalties change what is reported.
    let drawn = Sampling::default().temperature(2.0).repetition_penalty(1.5);
    for sampling in [Sampling::greedy(), drawn] {
        let options = greedy(8).sampling(sampling).logprobs(5);
        let mut session = session(&model);
        session.begin(prompt.clone(), options).unwrap();
        let mut text = String::new();
        loop {
            match block_on(session.step()).unwrap() {
                Step::Text(piece) => text += &piece,
                Step::Prompt => {}
                Step::Done => break,
            }
            assert_eq!(session.logprobs().is_empty(), text.is_empty());
        }
        let first = session.logprobs()[0].clone();
        assert_eq!(first.chosen.id, session.end().unwrap().ids[0]);
        for token in first.top.iter().chain([&first.chosen]) {
            let apart = (f64::from(token.logprob) - expected(token.id)).abs();
            assert!(apart < 1e-4, "{token:?}: {apart}");
        }
        let mut best: Vec<u32> = (0..logits.len() as u32).collect();
        best.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        let top: Vec<u32> = first.top.iter().map(|token| token.id).collect();
        assert_eq!(top, best[..5]);
    }
}

pub fn seeds_decide<B: Backend>(backend: B) {
    let model = model(&backend, 200);
    let mut session = session(&model);
    let mut with = |seed| {
        let sampling = Sampling::default().temperature(1.).seed(seed);
        generate(&mut session, &ids(20, 7), &greedy(10).sampling(sampling))
            .unwrap()
            .ids
    };
    let first = with(1);
    assert_ne!(with(2), first);
    assert_eq!(with(1), first);
    let sampling = Sampling::default().top_p(7.);
    let refused = generate(&mut session, &ids(20, 7), &greedy(10).sampling(sampling));
    assert_eq!(refused.unwrap_err().code(), "bad-request");
}

/// A token is chosen where its logits are, and those after it are computed before it is read; where
/// what was said counts, all logits are read and nothing is ahead.
pub fn devices_choose_what_the_host_chooses<B: Backend>(backend: B) {
    let model = model(&backend, 200);
    for sampling in [
        Sampling::greedy(),
        Sampling::default().temperature(1.).seed(3),
        Sampling::default()
            .temperature(1.5)
            .top_k(30)
            .top_p(0.9)
            .seed(4),
        Sampling::default().temperature(0.7).min_p(0.1).seed(5),
    ] {
        let nothing_counts = sampling.repetition_penalty(2.).repetition_window(0);
        let [device, host] = [sampling, nothing_counts].map(|sampling| {
            let mut session = session(&model);
            let answer = generate(&mut session, &ids(20, 7), &greedy(12).sampling(sampling));
            // What was ahead of the end is not taken for a part of the conversation.
            let next = generate(&mut session, &ids(20, 7), &greedy(3));
            (answer.unwrap().ids, next.unwrap().ids)
        });
        assert_eq!(device, host, "{sampling:?}");
        assert_eq!(device.0.len(), 12);
    }
}
