//! What a device can do at most.

use univi::{Load, OpenDevice, Result};

use crate::{report::Ceilings, stopwatch::Stopwatch};

/// A measurement of this many seconds hides what it takes to begin one.
const LONG_ENOUGH_SECONDS: f64 = 0.1;
/// The most that a measurement begins with, in bytes or operations.
const FIRST_AMOUNT: u64 = 256 << 20;

pub(crate) async fn measure(
    device: &OpenDevice,
    stopwatch: &mut Stopwatch<'_>,
) -> Result<Ceilings> {
    stopwatch.begins("what the device can do");
    Ok(Ceilings {
        read_bytes_per_second: ceiling(device, Load::Read, stopwatch).await?,
        copy_bytes_per_second: ceiling(device, Load::Copy, stopwatch).await?,
        operations_per_second: ceiling(device, Load::MultiplyAdd, stopwatch).await?,
    })
}

/// Bytes or operations a second.
async fn ceiling(device: &OpenDevice, load: Load, stopwatch: &Stopwatch<'_>) -> Result<f64> {
    let mut amount = FIRST_AMOUNT;
    // Twice as much until it is enough; a device that does even the first slowly is done at once.
    loop {
        let mut exert = async || device.exert(load, amount).await.map(drop);
        if stopwatch.once(&mut exert).await? >= LONG_ENOUGH_SECONDS {
            break;
        }
        amount *= 2;
    }
    // What every call takes, for its buffers and for the wait, is in both times.
    let (less, less_seconds) = at_best(device, load, amount, stopwatch).await?;
    let (more, more_seconds) = at_best(device, load, 3 * amount, stopwatch).await?;
    let seconds = more_seconds - less_seconds;
    Ok(match seconds > 0. {
        true => (more - less) as f64 / seconds,
        // Something else ran during the first.
        false => more as f64 / more_seconds,
    })
}

/// What was done of an amount, and the seconds that it took at best.
async fn at_best(
    device: &OpenDevice,
    load: Load,
    amount: u64,
    stopwatch: &Stopwatch<'_>,
) -> Result<(u64, f64)> {
    let mut done = 0;
    let spread = stopwatch
        .time(async || {
            done = device.exert(load, amount).await?;
            Ok(())
        })
        .await?;
    Ok((done, spread.min))
}
