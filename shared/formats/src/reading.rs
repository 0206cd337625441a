//! Inputs, looked at and read: how every road through them begins.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::buffer::Pool;
use crate::source::{Source, Unit};
use crate::{ConvertError, FileFormat, Input, Settings, Sniffed, Wrapping, sniff};

/// Inputs that hold something, and a note of each that doesn't.
pub(crate) struct Surveyed {
    pub(crate) inputs: Vec<(Arc<dyn Input>, Sniffed)>,
    pub(crate) notes: Vec<String>,
}

/// Says what each input is. `doing` is what is to be done with them, for the message that there is nothing to do it with.
pub(crate) fn survey(inputs: &[Arc<dyn Input>], doing: &str) -> Result<Surveyed, ConvertError> {
    let mut surveyed = Surveyed { inputs: Vec::with_capacity(inputs.len()), notes: Vec::new() };
    for input in inputs {
        let found = sniff(input)?;
        match found.format {
            FileFormat::Empty => surveyed.notes.push(format!("{} is empty: {}", input.name(), found.saw)),
            _ => surveyed.inputs.push((Arc::clone(input), found)),
        }
    }
    if surveyed.inputs.is_empty() {
        let nothing = format!("nothing to {doing}");
        let what = surveyed.notes.first().unwrap_or(&nothing);
        return Err(ConvertError::data(&nothing, what));
    }
    Ok(surveyed)
}

/// Small inputs are cut into enough blocks for every thread to have its share. What a compression hides isn't known.
pub(crate) fn block_bytes(inputs: &[(Arc<dyn Input>, Sniffed)], settings: &Settings) -> usize {
    const LEAST: usize = 2 << 20;
    if inputs.iter().any(|(_, sniffed)| sniffed.wrapping != Wrapping::None) {
        return settings.block_bytes;
    }
    let bytes: u64 = inputs.iter().map(|(input, _)| input.size()).sum();
    let share = usize::try_from(bytes).unwrap_or(usize::MAX) / (settings.threads.max(1) * 4);
    settings.block_bytes.min(share.max(LEAST))
}

/// So many tickets: that many units are anywhere between being read and being written.
pub(crate) fn tickets(count: usize) -> (Sender<()>, Receiver<()>) {
    let (give, take) = bounded(count);
    for () in std::iter::repeat_n((), count) {
        let _ = give.send(());
    }
    (give, take)
}

/// Reads all inputs, each unit for a ticket, numbered from zero; how many there were. It ends when the inputs do, with an
/// error, or when nobody gives tickets or takes units any more: then whoever has given up says why.
pub(crate) fn read(
    inputs: &[(Arc<dyn Input>, Sniffed)],
    settings: &Settings,
    tickets: &Receiver<()>,
    units: &Sender<(u64, Unit)>,
) -> Result<u64, ConvertError> {
    let pool = Pool::default();
    let mut number = 0;
    for (input, sniffed) in inputs {
        let Some(mut source) = Source::open(input, sniffed, settings, &pool)? else { continue };
        while let Some(unit) = source.next()? {
            if settings.stopped() {
                return Err(ConvertError::Stopped);
            }
            if tickets.recv().is_err() || units.send((number, unit)).is_err() {
                return Ok(number);
            }
            number += 1;
        }
    }
    Ok(number)
}
