//! `weir generate`: realistic data, the same for the same seed.

use std::io::{BufWriter, Write};

use clap::{Args, ValueEnum};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::{Stop, out};

/// Make realistic data on standard output.
#[derive(Args)]
pub(crate) struct Generate {
    dataset: Dataset,
    /// How many rows.
    #[arg(long, default_value_t = 1000)]
    rows: u64,
    #[arg(long, value_enum, default_value_t = Written::Csv)]
    format: Written,
    /// The same seed makes the same data.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Over how many days, up to a year's 336 (of 28 a month).
    #[arg(long, default_value_t = 336, value_parser = clap::value_parser!(u16).range(1..=336))]
    days: u16,
    /// The share of rows with something wrong in them, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    bad: f64,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Dataset {
    Trips,
    PageLogs,
    Orders,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Written {
    Csv,
    Ndjson,
}

/// A value as it is written: text is quoted where the format wants it.
enum Value {
    Number(String),
    Text(String),
}

type Row = Vec<(&'static str, Value)>;

impl Generate {
    pub(crate) fn run(&self) -> Result<(), Stop> {
        if !(0.0..=1.0).contains(&self.bad) {
            return Err(Stop(2, format!("--bad is {}, but must be from 0 to 1", self.bad)));
        }
        let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
        self.write(&mut out).and_then(|()| out.flush()).unwrap_or_else(|error| out::failed(&error));
        Ok(())
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut line = String::new();
        for number in 0..self.rows {
            let mut row = match self.dataset {
                Dataset::Trips => trip(&mut random, number, self.days),
                Dataset::PageLogs => page_log(&mut random, number, self.days),
                Dataset::Orders => order(&mut random, self.days),
            };
            if self.bad > 0.0 && random.random_bool(self.bad) {
                spoil(&mut random, &mut row);
            }
            if number == 0 && self.format == Written::Csv {
                let names: Vec<&str> = row.iter().map(|(name, _)| *name).collect();
                writeln!(out, "{}", names.join(","))?;
            }
            line.clear();
            match self.format {
                Written::Csv => write_csv(&mut line, &row),
                Written::Ndjson => write_json(&mut line, &row),
            }
            out.write_all(line.as_bytes())?;
        }
        Ok(())
    }
}

/// Makes one value something its column does not hold.
fn spoil(random: &mut StdRng, row: &mut Row) {
    let at = random.random_range(1..row.len());
    if let Some((_, value)) = row.get_mut(at) {
        *value = Value::Text(pick(random, &["", "n/a", "??"]).to_owned());
    }
}

fn pick(random: &mut StdRng, from: &[&'static str]) -> &'static str {
    from.get(random.random_range(0..from.len())).copied().unwrap_or_default()
}

fn time(random: &mut StdRng, separator: char, days: u16) -> (String, u32) {
    let second = random.random_range(0..86_400u32);
    let day = random.random_range(0..days);
    let (month, day) = (day / 28 + 1, day % 28 + 1);
    (
        format!("2024-{month:02}-{day:02}{separator}{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60),
        second,
    )
}

fn trip(random: &mut StdRng, number: u64, days: u16) -> Row {
    let (pickup, second) = time(random, ' ', days);
    let duration = random.random_range(60..3600u32).min(86_399 - second);
    let end = second + duration;
    let day = pickup.get(..10).unwrap_or_default();
    let dropoff = format!("{day} {:02}:{:02}:{:02}", end / 3600, end / 60 % 60, end % 60);
    let degrees =
        |random: &mut StdRng, from: f64, to: f64| Value::Number(format!("{:.6}", random.random_range(from..to)));
    let distance = f64::from(duration) * random.random_range(2.0..9.0);
    vec![
        ("id", Value::Text(format!("id{number:07}"))),
        ("vendorId", Value::Number(random.random_range(1..=2u8).to_string())),
        ("pickupDate", Value::Text(pickup)),
        ("dropoffDate", Value::Text(dropoff)),
        ("passengerCount", Value::Number(random.random_range(1..=6u8).to_string())),
        ("pickupLongitude", degrees(random, -74.02, -73.75)),
        ("pickupLatitude", degrees(random, 40.63, 40.85)),
        ("dropoffLongitude", degrees(random, -74.02, -73.75)),
        ("dropoffLatitude", degrees(random, 40.63, 40.85)),
        ("storeAndFwdFlag", Value::Text(if random.random_bool(0.01) { "Y" } else { "N" }.to_owned())),
        ("gcDistance", Value::Number(format!("{distance:.2}"))),
        ("tripDuration", Value::Number(duration.to_string())),
        ("googleDistance", Value::Number(((distance * 1.3) as u64).to_string())),
        ("googleDuration", Value::Number((f64::from(duration) * 0.9).round().to_string())),
        ("source", Value::Text("generated".to_owned())),
    ]
}

fn page_log(random: &mut StdRng, number: u64, days: u16) -> Row {
    let (at, _) = time(random, 'T', days);
    let tti = random.random_range(80..4000u32);
    let page = pick(random, &["home", "search", "cart", "checkout", "product"]);
    vec![
        ("event_timestamp", Value::Text(format!("{at}.{:03}Z", number % 1000))),
        ("session_id", Value::Text(format!("s-{:08x}", random.random::<u32>()))),
        ("page_url", Value::Text(format!("https://shop.example/{page}?q={}", random.random_range(0..100u8)))),
        ("user_id", Value::Number(random.random_range(1..100_000u32).to_string())),
        ("TTI", Value::Number(tti.to_string())),
        ("TTAR", Value::Number((tti + random.random_range(10..900u32)).to_string())),
    ]
}

fn order(random: &mut StdRng, days: u16) -> Row {
    let (at, _) = time(random, 'T', days);
    let street = pick(random, &["Aguilar Terrace", "Castro Center", "Miller Grove", "Main Street"]);
    let paid = pick(random, &["Debit Card", "Credit Card", "Bank Transfer", "Cash"]);
    let id = random.random::<u128>();
    vec![
        ("transactionId", Value::Text(format!("{id:032x}"))),
        ("customerId", Value::Number(random.random_range(1..100_000u32).to_string())),
        ("productId", Value::Number(random.random_range(1..1000u32).to_string())),
        ("quantity", Value::Number(random.random_range(1..=5u8).to_string())),
        ("price", Value::Number(format!("{:.2}", random.random_range(1.0..500.0)))),
        ("transactionTime", Value::Text(format!("{at}.{:06}", random.random_range(0..1_000_000u32)))),
        (
            "shippingAddress",
            Value::Text(format!(
                "{} {street}\nSpringfield, OH {:05}",
                random.random_range(1..9999u16),
                random.random_range(1000..99_999u32)
            )),
        ),
        ("paymentMethod", Value::Text(paid.to_owned())),
    ]
}

fn write_csv(line: &mut String, row: &Row) {
    for (index, (_, value)) in row.iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        match value {
            Value::Text(text) if text.contains(['"', ',', '\n']) => {
                line.push('"');
                line.push_str(&text.replace('"', "\"\""));
                line.push('"');
            }
            Value::Number(text) | Value::Text(text) => line.push_str(text),
        }
    }
    line.push('\n');
}

fn write_json(line: &mut String, row: &Row) {
    for (index, (name, value)) in row.iter().enumerate() {
        line.push(if index == 0 { '{' } else { ',' });
        line.push('"');
        line.push_str(name);
        line.push_str("\":");
        match value {
            Value::Number(text) => line.push_str(text),
            Value::Text(text) => line.push_str(&serde_json::Value::from(text.as_str()).to_string()),
        }
    }
    line.push_str("}\n");
}
