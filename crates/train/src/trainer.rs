//! The loop that all stages share: batches over threads, accumulation, clipping, a schedule, states
//! that resume.

use std::{cell::RefCell, collections::BTreeMap, ops::ControlFlow, path::Path, thread};

use candle_core::{Tensor, backprop::GradStore};
use rayon::prelude::*;
use univi::{Error, Result};

use crate::{
    optimizer::{Gradients, Optimizer, Rates},
    parameters::{Parameters, candle, f32s},
    state::{self, Fetched, RunIdentity, StateFile, bad_state},
};

/// What is learned in a stage: how wrong the parameters are about an item.
pub trait Task: Sync {
    /// What is learned from.
    type Item: Send + Sync;

    /// The item of this number in the batch of this step: always the same. What is random about it
    /// follows from these numbers, so that training goes on after a break as if there had been
    /// none.
    ///
    /// # Errors
    /// Whatever an item can't be made of, where that ends the training; else it is left out, which
    /// is `None`.
    fn item(&self, step: u64, number: usize) -> Result<Option<Self::Item>>;

    /// How long an item takes, about, beside others: what a batch is shared out by.
    fn cost(&self, item: &Self::Item) -> f64;

    /// The loss over items.
    ///
    /// # Errors
    /// Whatever can't be computed.
    fn loss(&self, parameters: &Parameters, items: &[&Self::Item]) -> Result<Share>;
}

/// A part of a batch's loss.
pub struct Share {
    /// `[1]`: summed, with all that it was computed from.
    pub loss: Tensor,
    /// What the sum is divided by, all shares together: answers' tokens, pictures.
    pub weight: f32,
}

/// How a stage runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Steps of the whole stage.
    pub steps: u64,
    /// Items in a step.
    pub batch: usize,
    /// Of these, how many a thread computes at a time at most: what bounds memory.
    pub micro_batch: usize,
    /// Threads that share a batch. The sums, and so the last bits of the losses, depend on it.
    pub threads: usize,
    /// The rates at their highest.
    pub rates: Rates,
    /// How they rise and fall.
    pub schedule: Schedule,
    /// Gradients longer than this are shortened to it.
    pub clip_norm: f32,
}

/// How rates rise and fall over a stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The share of steps in which they rise to their highest.
    pub warmup_steps: f32,
    /// The share of steps up to which they stay there.
    pub hold: f32,
    /// What is left of them at the end of the half cosine that follows.
    pub floor: f32,
    /// Whether they rise and fall once more.
    pub restart: Option<Restart>,
}

/// A second fall of the rates (after arXiv 1608.03983). What was learned is the mean of the weights
/// at the ends of both, since such means are known to answer better about what is unlike anything
/// seen (arXiv 1803.05407).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Restart {
    /// The share of steps after which it begins; the first fall ends there.
    pub at: f32,
    /// How high rates are then, beside their highest.
    pub height: f32,
}

impl Schedule {
    /// The paper's: 3 % warm-up, then a cosine down to nothing.
    pub const COSINE: Schedule = Schedule {
        warmup_steps: 0.03,
        hold: 0.03,
        floor: 0.,
        restart: None,
    };

    /// Returns what the rates are multiplied by in a step of a stage.
    pub fn factor(&self, step: u64, steps: u64) -> f32 {
        let half_cosine = |from: f32, fallen: f32| {
            let fallen = fallen.clamp(0., 1.);
            self.floor + (from - self.floor) * 0.5 * (1. + (std::f32::consts::PI * fallen).cos())
        };
        let first = self.restart_step(steps).unwrap_or(steps);
        if let Some(restart) = self.restart.filter(|_| step >= first) {
            let fallen = (step + 1 - first) as f32 / (steps - first) as f32;
            return half_cosine(restart.height, fallen);
        }
        let at = (step as f32 + 1.) / first as f32;
        if at < self.warmup_steps {
            return at / self.warmup_steps;
        }
        half_cosine(1., (at - self.hold) / (1. - self.hold))
    }

    /// The first step of the second fall, where there is room for both.
    fn restart_step(&self, steps: u64) -> Option<u64> {
        let first = (steps as f64 * self.restart?.at as f64).round() as u64;
        (1..steps).contains(&first).then_some(first)
    }
}

/// What a step brought.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Which, from 0.
    pub step: u64,
    /// The mean loss over its batch, before it; not a number where all of it was left out.
    pub loss: f32,
    /// The length of the gradient, before clipping.
    pub norm: f32,
}

/// A stage on its way.
pub struct Trainer {
    /// What is known.
    pub parameters: Parameters,
    /// What learns.
    pub learning: Parameters,
    optimizer: Optimizer,
    /// What had been learned when rates rose again.
    before_restart: Option<BTreeMap<String, Vec<f32>>>,
    /// The next step.
    pub step: u64,
    /// What its states belong to; where it is empty, any state is resumed.
    pub identity: RunIdentity,
}

impl Trainer {
    /// Begins a stage; parameters learn whose names fit.
    pub fn new(parameters: Parameters, learns: impl Fn(&str) -> bool) -> Trainer {
        Trainer {
            learning: parameters.only(learns),
            parameters,
            optimizer: Optimizer::default(),
            before_restart: None,
            step: 0,
            identity: RunIdentity::new(),
        }
    }

    /// Runs the plan from where it stands to its end, or until `on_step` breaks off.
    ///
    /// # Errors
    /// As [`Task::item`] and [`Task::loss`]; `BadRequest` where the loss is no number any more, or
    /// for a state that a plan without this restart made.
    pub fn run(
        &mut self,
        task: &impl Task,
        plan: &Plan,
        mut on_step: impl FnMut(&Trainer, Report) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let restart = plan.schedule.restart_step(plan.steps);
        let fell = restart.is_some_and(|first| (first..plan.steps).contains(&self.step));
        if fell && self.before_restart.is_none() {
            let reason = format!(
                "the state of step {} is of a plan whose rates did not rise again: remove its file to begin this stage anew",
                self.step
            );
            return Err(Error::BadRequest { reason });
        }
        while self.step < plan.steps {
            let report = self.advance(task, plan)?;
            if on_step(self, report)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// One step.
    fn advance(&mut self, task: &impl Task, plan: &Plan) -> Result<Report> {
        let Some((loss, mut gradients)) = self.gradients(task, plan)? else {
            self.end_step(plan)?;
            return Ok(Report {
                step: self.step - 1,
                loss: f32::NAN,
                norm: 0.,
            });
        };
        let square: f64 = gradients
            .values()
            .flatten()
            .map(|&x| x as f64 * x as f64)
            .sum();
        let norm = square.sqrt() as f32;
        if !loss.is_finite() || !norm.is_finite() {
            let reason = format!(
                "the loss of step {} is {loss}, its gradient {norm} long: lower the learning rate",
                self.step
            );
            return Err(Error::BadRequest { reason });
        }
        if norm > plan.clip_norm {
            let scale = plan.clip_norm / norm;
            gradients.values_mut().flatten().for_each(|x| *x *= scale);
        }
        let factor = plan.schedule.factor(self.step, plan.steps);
        let rates = Rates {
            adam: plan.rates.adam * factor,
            muon: plan.rates.muon.map(|rate| rate * factor),
            ..plan.rates
        };
        self.optimizer
            .step(&self.learning, &gradients, rates, self.step)?;
        self.end_step(plan)?;
        Ok(Report {
            step: self.step - 1,
            loss,
            norm,
        })
    }

    /// Counts a step.
    fn end_step(&mut self, plan: &Plan) -> Result<()> {
        self.step += 1;
        if plan.schedule.restart_step(plan.steps) == Some(self.step) {
            self.before_restart = Some(self.learning.snapshot()?);
        }
        if self.step == plan.steps {
            // What was learned is the mean of both ends.
            self.learning
                .average(self.before_restart.take().unwrap_or_default())?;
        }
        Ok(())
    }

    /// The mean loss of a batch and its gradient; `None` where nothing could be learned from.
    fn gradients<T: Task>(&self, task: &T, plan: &Plan) -> Result<Option<(f32, Gradients)>> {
        let (mut loss, mut weight, mut sum) = (0., 0., Gradients::new());
        let at_a_time = plan.threads * plan.micro_batch;
        for start in (0..plan.batch).step_by(at_a_time) {
            let indices = (start..plan.batch.min(start + at_a_time)).into_par_iter();
            let items = indices.map(|index| task.item(self.step, index));
            let items: Vec<Option<T::Item>> = items.collect::<Result<_>>()?;
            let items: Vec<T::Item> = items.into_iter().flatten().collect();
            let costs: Vec<f64> = items.iter().map(|item| task.cost(item)).collect();
            let shares = share_out(&costs, plan.threads, plan.micro_batch);
            let shares: Vec<Result<Option<Differentiated>>> = thread::scope(|scope| {
                let share = |indices: &Vec<usize>| {
                    let items: Vec<&T::Item> = indices.iter().map(|&i| &items[i]).collect();
                    self.share(task, &items)
                };
                let others: Vec<_> = shares[1..]
                    .iter()
                    .map(|indices| scope.spawn(move || share(indices)))
                    .collect();
                let mut done = vec![share(&shares[0])];
                done.extend(others.into_iter().map(|other| match other.join() {
                    Ok(share) => share,
                    Err(panic) => std::panic::resume_unwind(panic),
                }));
                done
            });
            let shares = shares.into_iter().collect::<Result<Vec<_>>>()?;
            let mut shares: Vec<Differentiated> = shares.into_iter().flatten().collect();
            loss += shares.iter().map(|share| share.loss).sum::<f32>();
            weight += shares.iter().map(|share| share.weight).sum::<f32>();
            // In the order of the threads, so that sums are always the same, and tensor by tensor,
            // so that none is there once more than it must.
            for (name, var) in self.learning.iter() {
                for share in &mut shares {
                    if let Some(gradient) = share.gradients.remove(var.as_tensor()) {
                        add(&mut sum, name, f32s(&gradient)?);
                    }
                }
            }
        }
        if weight == 0. {
            return Ok(None);
        }
        let scale = 1. / weight;
        sum.values_mut().flatten().for_each(|x| *x *= scale);
        Ok(Some((loss * scale, sum)))
    }

    /// What one thread does of a batch.
    fn share<T: Task>(&self, task: &T, items: &[&T::Item]) -> Result<Option<Differentiated>> {
        if items.is_empty() {
            return Ok(None);
        }
        let share = task.loss(&self.parameters, items)?;
        Ok(Some(Differentiated {
            loss: f32s(&share.loss)?[0],
            weight: share.weight,
            gradients: share.loss.backward().map_err(candle)?,
        }))
    }

    /// Writes everything that a stage needs to go on, whole: a break leaves the state before it.
    /// What does not learn is not in it.
    ///
    /// # Errors
    /// `Io`.
    pub fn save(&self, path: &Path) -> Result<()> {
        let failed = RefCell::new(None);
        let mut tensors = Vec::new();
        for (name, var) in self.learning.iter() {
            let parameter = Fetched::new(var.elem_count(), &failed, move || f32s(var));
            tensors.push((format!("parameter/{name}"), parameter));
        }
        let before = self.before_restart.iter().flatten();
        let before = before.map(|(name, numbers)| (format!("before_restart/{name}"), numbers));
        let moments = self.optimizer.moments.iter().flat_map(|(name, moments)| {
            let moments = moments.iter().enumerate();
            moments.map(move |(i, moment)| (format!("moment{i}/{name}"), moment))
        });
        for (name, numbers) in moments.chain(before) {
            let numbers = Fetched::new(numbers.len(), &failed, move || Ok(numbers.clone()));
            tensors.push((name, numbers));
        }
        state::write(path, self.step, &self.identity, tensors, &failed)
    }

    /// Goes on where [`Trainer::save`] was called, in a stage that began as that one did.
    ///
    /// # Errors
    /// `Io`; `BadFile` for what is no state of this stage; `BadRequest` for the state of another
    /// run.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        self.read_state(path)
            .map_err(|e| e.in_file(path.display().to_string()))
    }

    fn read_state(&mut self, path: &Path) -> Result<()> {
        let file = StateFile::open(path)?;
        if !self.identity.is_empty() {
            file.check_run(&self.identity)?;
        }
        let (mut moments, mut before_restart) = (BTreeMap::new(), BTreeMap::new());
        for (name, var) in self.learning.iter() {
            let numbers = file
                .read(&format!("parameter/{name}"))?
                .filter(|numbers| numbers.len() == var.elem_count())
                .ok_or_else(|| bad_state(format!("{name} is missing or of another size")))?;
            let tensor = Tensor::from_vec(numbers, var.shape(), var.device());
            tensor.and_then(|tensor| var.set(&tensor)).map_err(candle)?;
            let fits = |m: &Vec<f32>| m.is_empty() || m.len() == var.elem_count();
            if let Some(first) = file.read(&format!("moment0/{name}"))?.filter(fits) {
                let second = file.read(&format!("moment1/{name}"))?.filter(fits);
                moments.insert(name.to_string(), [first, second.unwrap_or_default()]);
            }
            if let Some(before) = file.read(&format!("before_restart/{name}"))?
                && before.len() == var.elem_count()
            {
                before_restart.insert(name.to_string(), before);
            }
        }
        let all = self.learning.iter().len();
        if !before_restart.is_empty() && before_restart.len() != all {
            return Err(bad_state(format!(
                "of the weights before the restart {} of {all} are there and of their size",
                before_restart.len()
            )));
        }
        self.optimizer.moments = moments;
        self.before_restart = (!before_restart.is_empty()).then_some(before_restart);
        self.step = file.step;
        Ok(())
    }
}

/// A thread's part of a batch's loss, and what it says about the parameters.
struct Differentiated {
    loss: f32,
    weight: f32,
    gradients: GradStore,
}

/// Shares items out over threads, at most `most` to one, so that all are done at about the same
/// time: the numbers of each thread's items. The costliest comes first, and each goes to whom least
/// is left to do.
fn share_out(costs: &[f64], threads: usize, most: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by(|&a, &b| costs[b].total_cmp(&costs[a]));
    let mut shares = vec![(0_f64, Vec::new()); threads];
    for number in order {
        let free = shares.iter_mut().filter(|(_, items)| items.len() < most);
        let (sum, items) = free
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .expect("no more items than there is room for");
        *sum += costs[number];
        items.push(number);
    }
    shares.into_iter().map(|(_, items)| items).collect()
}

fn add(sum: &mut Gradients, name: &str, more: Vec<f32>) {
    match sum.get_mut(name) {
        Some(sum) => sum
            .iter_mut()
            .zip(more)
            .for_each(|(sum, more)| *sum += more),
        None => drop(sum.insert(name.to_string(), more)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_and_fall_and_once_more_where_they_are_to() {
        let schedule = Schedule {
            warmup_steps: 0.1,
            hold: 0.5,
            floor: 0.01,
            restart: Some(Restart {
                at: 0.75,
                height: 0.7,
            }),
        };
        let factors: Vec<f32> = (0..400).map(|step| schedule.factor(step, 400)).collect();
        assert!(factors[0] < 0.05 && factors[28] < 1., "{:?}", &factors[..3]);
        assert!(factors[30..149].iter().all(|&x| x == 1.), "{factors:?}");
        for falls in [149..300, 300..400] {
            assert!(factors[falls].is_sorted_by(|a, b| a > b), "{factors:?}");
        }
        assert!((factors[299] - 0.01).abs() < 1e-6 && (factors[399] - 0.01).abs() < 1e-6);
        assert!(factors[300] > 0.69 && factors[300] < 0.7);
        // Up to there they are those of a stage that ends there.
        let short = Schedule {
            restart: None,
            ..schedule
        };
        assert!((0..300).all(|step| short.factor(step, 300) == factors[step as usize]));
        // One step has no room for two falls.
        assert_eq!(schedule.factor(0, 1), short.factor(0, 1));
    }

    #[test]
    fn items_are_shared_out_by_what_they_cost() {
        let costs = [1., 9., 1., 1., 4., 1., 1.];
        assert_eq!(share_out(&costs, 2, 7), [vec![1], vec![4, 0, 2, 3, 5, 6]]);
        // No thread takes more than fit.
        assert_eq!(share_out(&costs, 2, 4), [vec![1, 5, 6], vec![4, 0, 2, 3]]);
        assert_eq!(share_out(&[1.], 2, 1), [vec![0], vec![]]);
    }
}
