//! From the reader to the sender: so many rows, and so many bytes of them, and then the reader waits.

use std::sync::Arc;

use futures::executor::block_on;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::lanes::Row;

/// What a semaphore counts: it can't count gigabytes by the byte.
const UNIT: usize = 1 << 10;

/// The reader's end.
pub(crate) struct RowsIn {
    rows: Sender<Row>,
    room: Arc<Semaphore>,
    most_units: usize,
}

/// The sender's end.
pub(crate) struct RowsOut {
    rows: Receiver<Row>,
    room: Arc<Semaphore>,
    most_units: usize,
}

/// A channel that holds up to so many rows and about so many bytes; one row fits always.
pub(crate) fn bounded(most_rows: usize, most_bytes: usize) -> (RowsIn, RowsOut) {
    let (sender, receiver) = channel(most_rows);
    let most_units = most_bytes / UNIT;
    let room = Arc::new(Semaphore::new(most_units));
    let rows_in = RowsIn { rows: sender, room: Arc::clone(&room), most_units };
    (rows_in, RowsOut { rows: receiver, room, most_units })
}

fn units(row: &Row, most: usize) -> u32 {
    row.memory().div_ceil(UNIT).min(most) as u32
}

impl RowsIn {
    /// Waits until there is room; false if nobody wants more.
    pub(crate) fn send(&self, row: Row) -> bool {
        match block_on(self.room.acquire_many(units(&row, self.most_units))) {
            Ok(room) => room.forget(),
            Err(_) => return false,
        }
        self.rows.blocking_send(row).is_ok()
    }
}

impl RowsOut {
    /// Waits for rows; how many came, and none at the end. Nothing is lost if it is cancelled.
    pub(crate) async fn recv_many(&mut self, buffer: &mut Vec<Row>, most: usize) -> usize {
        let before = buffer.len();
        let count = self.rows.recv_many(buffer, most).await;
        buffer.iter().skip(before).for_each(|row| self.give_back(row));
        count
    }

    /// Takes no more; what is here can still be received.
    pub(crate) fn close(&mut self) {
        self.room.close();
        self.rows.close();
    }

    fn give_back(&self, row: &Row) {
        self.room.add_permits(units(row, self.most_units) as usize);
    }
}

impl Drop for RowsOut {
    fn drop(&mut self) {
        // A reader that waits for room would wait for ever.
        self.room.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    fn row(bytes: usize) -> Row {
        Row { key: "k".into(), data: vec![b'x'; bytes].into(), read_at: Instant::now() }
    }

    #[test]
    fn rows_wait_outside_when_their_bytes_are_too_many_and_all_come_through() {
        let (rows_in, mut rows_out) = bounded(1000, 1 << 20);
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let reader = std::thread::spawn(move || {
            for _ in 0..20 {
                assert!(rows_in.send(row(300 << 10)));
                count.fetch_add(1, Ordering::SeqCst);
            }
            assert!(rows_in.send(row(5 << 20)), "larger than all the room there is");
        });
        let (mut buffer, mut received) = (Vec::new(), 0);
        while sent.load(Ordering::SeqCst) < 3 {
            std::thread::yield_now();
        }
        // Time for a fourth, if there were room for it.
        std::thread::sleep(std::time::Duration::from_millis(100));
        loop {
            let ahead = sent.load(Ordering::SeqCst).saturating_sub(received);
            assert!(ahead <= 3, "{ahead} rows of 300 KiB wait in 1 MiB");
            match block_on(rows_out.recv_many(&mut buffer, 1)) {
                0 => break,
                count => received += count,
            }
        }
        assert_eq!(received, 21);
        reader.join().unwrap();
    }

    #[test]
    fn a_reader_that_waits_is_told_when_nobody_listens_any_more() {
        let (rows_in, rows_out) = bounded(10, 1 << 10);
        assert!(rows_in.send(row(1)));
        let reader = std::thread::spawn(move || rows_in.send(row(1)));
        drop(rows_out);
        assert!(!reader.join().unwrap());
        let (rows_in, mut rows_out) = bounded(10, 1 << 20);
        assert!(rows_in.send(row(1)));
        rows_out.close();
        assert!(!rows_in.send(row(1)));
        let mut buffer = Vec::new();
        assert_eq!([0; 2].map(|_| block_on(rows_out.recv_many(&mut buffer, 9))), [1, 0]);
    }
}
