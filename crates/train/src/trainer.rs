//! The loop that all stages share: batches over threads, accumulation, clipping, a schedule, states that resume.

use std::{collections::BTreeMap, ops::ControlFlow, ops::Range, path::Path, thread};

use candle_core::Tensor;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use univi::{Error, Result};

use crate::{
    optimizer::{Gradients, Optimizer, Rates},
    parameters::{Parameters, candle, numbers},
};

/// What is learned in a stage: how wrong the parameters are about an item.
pub trait Task: Sync {
    /// The loss over items `items` of the batch of `step`. The same step and items are always the same: what is random
    /// about them follows from these numbers, so that training goes on after a break as if there had been none.
    ///
    /// # Errors
    /// Whatever an item can't be made of.
    fn loss(&self, parameters: &Parameters, step: u64, items: Range<usize>) -> Result<Share>;
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
    /// Of these, how many a thread computes at a time: what bounds memory.
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
    pub warm_up: f32,
    /// The share of steps up to which they stay there.
    pub hold: f32,
    /// What is left of them at the end of the half cosine that follows.
    pub floor: f32,
}

impl Schedule {
    /// The paper's: 3 % warm-up, then a cosine down to nothing.
    pub const COSINE: Schedule = Schedule {
        warm_up: 0.03,
        hold: 0.03,
        floor: 0.,
    };

    /// What the rates are multiplied by in a step of a stage.
    pub fn factor(&self, step: u64, steps: u64) -> f32 {
        let at = (step as f32 + 1.) / steps as f32;
        if at < self.warm_up {
            return at / self.warm_up;
        }
        let fallen = ((at - self.hold) / (1. - self.hold)).clamp(0., 1.);
        self.floor + (1. - self.floor) * 0.5 * (1. + (std::f32::consts::PI * fallen).cos())
    }
}

/// What a step brought.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Which, from 0.
    pub step: u64,
    /// The mean loss over its batch, before it.
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
    /// The next step.
    pub step: u64,
}

impl Trainer {
    /// Begins a stage; parameters learn whose names fit.
    pub fn new(parameters: Parameters, learns: impl Fn(&str) -> bool) -> Trainer {
        Trainer {
            learning: parameters.only(learns),
            parameters,
            optimizer: Optimizer::default(),
            step: 0,
        }
    }

    /// Runs the plan from where it stands to its end, or until `on_step` breaks off.
    ///
    /// # Errors
    /// As [`Task::loss`]; `BadRequest` where the loss is no number any more.
    pub fn run(
        &mut self,
        task: &impl Task,
        plan: &Plan,
        mut on_step: impl FnMut(&Trainer, Report) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
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
        let (loss, mut gradients) = self.gradients(task, plan)?;
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
        self.step += 1;
        Ok(Report {
            step: self.step - 1,
            loss,
            norm,
        })
    }

    /// The mean loss of a batch and its gradient.
    fn gradients(&self, task: &impl Task, plan: &Plan) -> Result<(f32, Gradients)> {
        let share = |thread: usize| {
            let items = |i: usize| i * plan.batch / plan.threads;
            self.share(task, items(thread)..items(thread + 1), plan.micro_batch)
        };
        let shares: Vec<Result<(f32, f32, Gradients)>> = thread::scope(|scope| {
            let others: Vec<_> = (1..plan.threads)
                .map(|thread| scope.spawn(move || share(thread)))
                .collect();
            let mut shares = vec![share(0)];
            shares.extend(others.into_iter().map(|other| match other.join() {
                Ok(share) => share,
                Err(panic) => std::panic::resume_unwind(panic),
            }));
            shares
        });
        let (mut loss, mut weight, mut sum) = (0., 0., Gradients::new());
        // In the order of the threads, so that sums are always the same.
        for share in shares {
            let share = share?;
            loss += share.0;
            weight += share.1;
            add(&mut sum, share.2);
        }
        let scale = 1. / f32::max(weight, f32::MIN_POSITIVE);
        sum.values_mut().flatten().for_each(|x| *x *= scale);
        Ok((loss * scale, sum))
    }

    /// What one thread does of a batch: summed loss, weight, summed gradient.
    fn share(
        &self,
        task: &impl Task,
        items: Range<usize>,
        micro_batch: usize,
    ) -> Result<(f32, f32, Gradients)> {
        let (mut loss, mut weight, mut sum) = (0., 0., Gradients::new());
        let mut start = items.start;
        while start < items.end {
            let end = (start + micro_batch).min(items.end);
            let share = task.loss(&self.parameters, self.step, start..end)?;
            let mut grads = share.loss.backward().map_err(candle)?;
            let mut found = Gradients::new();
            for (name, var) in self.learning.iter() {
                if let Some(grad) = grads.remove(var.as_tensor()) {
                    found.insert(name.to_string(), numbers(&grad)?);
                }
            }
            add(&mut sum, found);
            loss += numbers(&share.loss)?[0];
            weight += share.weight;
            start = end;
        }
        Ok((loss, weight, sum))
    }

    /// Writes everything that a stage needs to go on, in one piece: a break leaves the state before it.
    ///
    /// # Errors
    /// `Io`.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut tensors: Vec<(String, Vec<f32>)> = Vec::new();
        for (name, var) in self.parameters.iter() {
            tensors.push((format!("parameter/{name}"), numbers(var)?));
        }
        for (name, moments) in &self.optimizer.moments {
            for (i, moment) in moments.iter().enumerate() {
                tensors.push((format!("moment{i}/{name}"), moment.clone()));
            }
        }
        let views = tensors.iter().map(|(name, numbers)| {
            let bytes = bytemuck::cast_slice(numbers);
            let view = TensorView::new(Dtype::F32, vec![numbers.len()], bytes);
            (name.clone(), view.expect("as many bytes as numbers"))
        });
        let about = [("step".to_string(), self.step.to_string())];
        let bytes = safetensors::serialize(views, Some(about.into_iter().collect()))
            .map_err(|e| io(e.to_string()))?;
        let new = path.with_extension("new");
        std::fs::write(&new, bytes)
            .and_then(|()| std::fs::rename(&new, path))
            .map_err(|e| io(e.to_string()).in_file(path.display().to_string()))
    }

    /// Goes on where [`Trainer::save`] was called, in a stage that began as that one did.
    ///
    /// # Errors
    /// `Io`; `BadFile` for what is no state of this stage.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        self.read_state(path)
            .map_err(|e| e.in_file(path.display().to_string()))
    }

    fn read_state(&mut self, path: &Path) -> Result<()> {
        let bytes = std::fs::read(path).map_err(|e| io(e.to_string()))?;
        let (_, header) =
            SafeTensors::read_metadata(&bytes).map_err(|e| not_ours(e.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| not_ours(e.to_string()))?;
        let step = header
            .metadata()
            .as_ref()
            .and_then(|about| about.get("step")?.parse().ok())
            .ok_or_else(|| not_ours("it has no step"))?;
        let read = |name: &str| -> Result<Option<Vec<f32>>> {
            let Ok(view) = file.tensor(name) else {
                return Ok(None);
            };
            if view.dtype() != Dtype::F32 {
                return Err(not_ours(format!("{name} is not f32")));
            }
            Ok(Some(bytemuck::pod_collect_to_vec(view.data())))
        };
        let mut moments = BTreeMap::new();
        for (name, var) in self.parameters.iter() {
            let numbers = read(&format!("parameter/{name}"))?
                .filter(|numbers| numbers.len() == var.elem_count())
                .ok_or_else(|| not_ours(format!("{name} is missing or of another size")))?;
            let tensor = Tensor::from_vec(numbers, var.shape(), var.device());
            tensor.and_then(|tensor| var.set(&tensor)).map_err(candle)?;
            let fits = |m: &Vec<f32>| m.is_empty() || m.len() == var.elem_count();
            if let Some(first) = read(&format!("moment0/{name}"))?.filter(fits) {
                let second = read(&format!("moment1/{name}"))?.filter(fits);
                moments.insert(name.to_string(), [first, second.unwrap_or_default()]);
            }
        }
        self.optimizer.moments = moments;
        self.step = step;
        Ok(())
    }
}

fn add(sum: &mut Gradients, more: Gradients) {
    for (name, more) in more {
        match sum.get_mut(&name) {
            Some(sum) => sum
                .iter_mut()
                .zip(more)
                .for_each(|(sum, more)| *sum += more),
            None => drop(sum.insert(name, more)),
        }
    }
}

fn io(reason: impl Into<String>) -> Error {
    Error::Io {
        reason: reason.into(),
    }
}

fn not_ours(reason: impl Into<String>) -> Error {
    Error::BadFile {
        format: "training state",
        reason: reason.into(),
    }
}
