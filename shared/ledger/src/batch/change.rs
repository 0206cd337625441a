//! A change of a lane that several may be changing.

use weir_delivery::Failure;

use super::{Book, Lane, Swap};
use crate::Writer;

/// Stores a change of a lane, made again from what is there if another was faster: the lane before and after it. `None` if there is
/// nothing to change then.
///
/// # Errors
/// The book's.
pub async fn change(
    book: &dyn Book,
    writer: &Writer,
    lane: &Lane,
    to: impl Fn(&Lane) -> Option<Lane> + Send,
) -> Result<Option<(Lane, Lane)>, Failure> {
    let mut lane = lane.clone();
    loop {
        let Some(next) = to(&lane) else { return Ok(None) };
        let next = Lane { write_token: writer.token(), ..next };
        match book.put_lane(&next).await? {
            Swap::Conflict(Some(there)) if there.write_token != next.write_token => lane = *there,
            Swap::Conflict(None) => lane = Lane::new(&lane.name),
            // Stored; or the write's own repeat finds that it was.
            _ => return Ok(Some((lane, next))),
        }
    }
}
