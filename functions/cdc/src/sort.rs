//! A batch of the stream, sorted by table and reduced, purely.

use std::collections::BTreeMap;

use weir_changes::{At, Change, Control, Entry, Message, Operation, Source, is_captures_own, read, reduce};
use weir_contract::Contract;
use weir_delivery::kinesis::Record;
use weir_delivery::{Outcome, Poison};

use crate::columns::Columns;
use crate::routes::Routes;
use crate::staged::{Line, Name, padded};

/// What a batch holds, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Rows that were there when the capture began.
    pub loaded: u64,
    /// Rows that came.
    pub inserted: u64,
    /// Rows that changed.
    pub updated: u64,
    /// Rows that went.
    pub deleted: u64,
    /// Messages about tables that are taken.
    pub controls: u64,
    /// Messages that say nothing, or are about tables that the capture keeps for itself.
    pub skipped: u64,
}

/// A batch, sorted.
#[derive(Debug, Default)]
pub struct Sorted {
    /// One a record; that of a staged one holds once it is staged.
    pub outcomes: Vec<Outcome>,
    /// What is to be staged.
    pub shares: Vec<Share>,
    /// What was said about tables that are taken.
    pub controls: Vec<Control>,
    /// Messages about tables that are not taken.
    pub not_taken: BTreeMap<Source, u64>,
    /// By kind.
    pub counts: Counts,
}

/// What a batch has for one table.
#[derive(Debug)]
pub struct Share {
    /// What the file is called.
    pub name: Name,
    /// What it holds.
    pub lines: Vec<Line>,
    /// The records that it is made of, by their number in the batch.
    pub records: Vec<usize>,
}

fn poison(reason: String, raw: &[u8]) -> Outcome {
    Outcome::Poison(Poison { reason, raw: raw.to_vec() })
}

/// What is to be staged of a shard's table, with the record's number.
type Lines = Vec<(usize, Line)>;

/// Sorts a batch by table, and reduces what it has for each.
pub fn sort(routes: &Routes, records: &[Record]) -> Sorted {
    let mut sorted = Sorted::default();
    let mut ranges: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut tables: BTreeMap<(String, Source), Lines> = BTreeMap::new();
    for (number, record) in records.iter().enumerate() {
        let origin = &record.origin;
        let outcome = match (&record.data, &origin.sequence_number) {
            (Err(unreadable), _) => poison(unreadable.reason.clone(), &unreadable.raw),
            (Ok(bytes), None) => poison("the record has no sequence number, and so no place".to_owned(), bytes),
            (Ok(bytes), Some(sequence)) => {
                let at = At { sequence: sequence.as_str(), sub: origin.sub_index.unwrap_or(0) };
                let (shard, place) = (format!("{}.{}", origin.stream, origin.shard), padded(sequence.as_str()));
                let (first, last) = ranges.entry(shard.clone()).or_insert_with(|| (place.clone(), place.clone()));
                if place < *first {
                    first.clone_from(&place);
                }
                if place > *last {
                    last.clone_from(&place);
                }
                match read(bytes, at) {
                    Err(unreadable) => poison(unreadable.to_string(), bytes),
                    Ok(None) => sorted.skipped("it says nothing"),
                    Ok(Some(message)) => match sorted.line(routes, message) {
                        Err(outcome) => outcome,
                        Ok((source, line)) => {
                            tables.entry((shard, source)).or_default().push((number, line));
                            Outcome::Done
                        }
                    },
                }
            }
        };
        sorted.outcomes.push(outcome);
    }
    for ((shard, source), lines) in tables {
        let Some((first, last)) = ranges.get(&shard).cloned() else { continue };
        let contract = routes.of(&source).and_then(|taken| taken.contract.as_deref());
        let (lines, of) = match contract {
            Some(contract) => sorted.reduced(contract, lines, records),
            None => lines.into_iter().map(|(number, line)| (line, number)).unzip(),
        };
        if !lines.is_empty() {
            let name = Name { source, shard, last, first };
            sorted.shares.push(Share { name, lines, records: of });
        }
    }
    sorted
}

impl Sorted {
    fn skipped(&mut self, why: &str) -> Outcome {
        self.counts.skipped += 1;
        Outcome::Skipped(why.to_owned())
    }

    /// What is to be staged of a message, or its outcome if that is nothing.
    fn line(&mut self, routes: &Routes, message: Message) -> Result<(Source, Line), Outcome> {
        let (Message::Change(Change { source, .. }) | Message::Control(Control { source, .. })) = &message;
        if is_captures_own(source) {
            return Err(self.skipped("the capture keeps it for itself"));
        }
        if routes.of(source).is_none() {
            *self.not_taken.entry(source.clone()).or_default() += 1;
            return Err(Outcome::Skipped("its table is not taken".to_owned()));
        }
        match message {
            Message::Change(change) => {
                let counts = &mut self.counts;
                *match change.operation {
                    Operation::Load => &mut counts.loaded,
                    Operation::Insert => &mut counts.inserted,
                    Operation::Update => &mut counts.updated,
                    Operation::Delete => &mut counts.deleted,
                } += 1;
                Ok((change.source.clone(), Line::Change(Entry::from(change))))
            }
            Message::Control(control) => {
                self.counts.controls += 1;
                self.controls.push(control.clone());
                match control.table {
                    Some(table) => Ok((control.source, Line::Definition(table))),
                    None => Err(Outcome::Done),
                }
            }
        }
    }

    /// The last change of each row; with a contract the table's definition is of no interest. Changes without a key are poison.
    fn reduced(&mut self, contract: &Contract, lines: Lines, records: &[Record]) -> (Vec<Line>, Vec<usize>) {
        let columns = Columns::of(contract);
        let key: Vec<String> = contract.key().iter().map(|name| (*name).to_owned()).collect();
        let (mut of, mut entries) = (Vec::with_capacity(lines.len()), Vec::with_capacity(lines.len()));
        for (number, line) in lines {
            if let Line::Change(entry) = line {
                of.push(number);
                entries.push(columns.rename(entry));
            }
        }
        let (left, bad) = reduce(entries, &key);
        for keyless in bad {
            let number = of.get(keyless.number).copied().unwrap_or_default();
            if let (Some(outcome), Some(Ok(bytes))) =
                (self.outcomes.get_mut(number), records.get(number).map(|it| &it.data))
            {
                *outcome = poison(keyless.why.to_string(), bytes);
            }
        }
        (left.into_iter().map(Line::Change).collect(), of)
    }
}

#[cfg(test)]
mod tests {
    use weir_delivery::kinesis::{Origin, SequenceNumber, Unreadable};

    use super::*;

    fn record(number: u64, data: &str) -> Record {
        let sequence_number = Some(SequenceNumber::new(number.to_string()));
        let origin = Origin { stream: "s".into(), shard: "shardId-0".into(), sequence_number, ..Origin::unknown(0) };
        Record { origin, arrived_ms: 0, data: Ok(data.as_bytes().to_vec()) }
    }

    fn change(operation: &str, table: &str, row: &str) -> String {
        format!(
            r#"{{"data":{row},"metadata":{{"operation":"{operation}","record-type":"data","schema-name":"public","table-name":"{table}"}}}}"#
        )
    }

    fn routes() -> Routes {
        Routes::parse("public.customers=customers,public.items").unwrap()
    }

    #[test]
    fn every_record_has_one_outcome_and_tables_go_their_own_ways() {
        let control = r#"{"control":{"table-def":{"columns":{},"primary-key":["id"]}},"metadata":{"operation":"create-table","record-type":"control","schema-name":"public","table-name":"items"}}"#;
        let unreadable = Unreadable { reason: "not base64".into(), raw: b"x".to_vec() };
        let mut nowhere = record(0, &change("insert", "items", r#"{"id":1}"#));
        nowhere.origin.sequence_number = None;
        let records = [
            record(8, &change("insert", "customers", r#"{"id":1,"name":"a"}"#)),
            record(9, &change("insert", "items", r#"{"id":1}"#)),
            record(10, &change("update", "customers", r#"{"id":1,"name":"b"}"#)),
            record(11, control),
            record(12, "no json"),
            record(13, &change("insert", "others", r#"{"id":1}"#)),
            record(14, &change("insert", "awsdms_status", r#"{"id":1}"#)),
            record(15, &change("insert", "customers", r#"{"name":"nobody"}"#)),
            Record { data: Err(unreadable), ..record(16, "") },
            nowhere,
            record(17, ""),
        ];
        let sorted = sort(&routes(), &records);
        let kinds: String = sorted
            .outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Done => 'd',
                Outcome::Skipped(_) => 's',
                Outcome::Poison(_) => 'p',
                Outcome::Retry(_) => 'r',
            })
            .collect();
        assert_eq!(kinds, "ddddpsspp".to_owned() + "ps");
        assert_eq!(sorted.not_taken.keys().map(ToString::to_string).collect::<Vec<_>>(), ["public.others"]);
        let shares: Vec<_> =
            sorted.shares.iter().map(|share| (share.name.source.table.as_str(), share.lines.len())).collect();
        assert_eq!(shares, [("customers", 1), ("items", 2)], "the last change of a row; without a contract all of it");
        let name = &sorted.shares[0].name;
        assert_eq!((name.shard.as_str(), &name.first, &name.last), ("s.shardId-0", &padded("8"), &padded("17")));
        assert!(matches!(&sorted.shares[0].lines[0], Line::Change(entry) if entry.row["name"].get() == "\"b\""));
        let counts = Counts { inserted: 3, updated: 1, controls: 1, skipped: 2, ..Counts::default() };
        assert_eq!(sorted.counts, counts);
    }
}
