//! How unusual a window is.
//!
//! The modified z-score of Iglewicz and Hoaglin ("How to Detect and Handle Outliers", 1993): how far a value is from the median
//! of those before it, in units of their median absolute deviation, scaled to a standard deviation of normal values. Neither is
//! moved by a few outliers among them. Beyond 3.5 either way is unusual, they recommend. Where more than half of the values
//! before are equal the median deviation is zero; then the mean one is taken.

/// Fewer windows before it say nothing.
pub const FEWEST: usize = 8;

/// Scales a median absolute deviation to a standard deviation.
const MEDIAN: f64 = 1.4826;

/// Scales a mean absolute deviation to one.
const MEAN: f64 = 1.253_314;

/// The largest that is said.
const MOST: f64 = 100.0;

/// A value's score among those before it; `None` if there are too few.
pub fn score(value: f64, before: &[f64]) -> Option<f64> {
    if before.len() < FEWEST {
        return None;
    }
    let middle = median(before.to_vec())?;
    let deviations: Vec<f64> = before.iter().map(|other| (other - middle).abs()).collect();
    let mean = deviations.iter().sum::<f64>() / deviations.len() as f64;
    let spread = match median(deviations)? {
        0.0 => mean * MEAN,
        spread => spread * MEDIAN,
    };
    let away = value - middle;
    Some(if away == 0.0 { 0.0 } else { (away / spread).clamp(-MOST, MOST) })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some(lower + (upper - lower) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_stand_out_and_do_not_hide_each_other() {
        let calm = [100.0, 102.0, 98.0, 101.0, 99.0, 100.0, 103.0, 97.0, 100.0];
        assert_eq!(score(100.0, &calm), Some(0.0));
        // Median 100; deviations 0 0 0 1 1 2 2 3 3, of which the median is 1.
        assert!((score(110.0, &calm).unwrap() - 10.0 / 1.4826).abs() < 1e-9);
        assert!((score(90.0, &calm).unwrap() + 10.0 / 1.4826).abs() < 1e-9);
        let with_one = [calm.as_slice(), &[10_000.0]].concat();
        assert!(score(110.0, &with_one).unwrap() > 3.5, "one outlier before does not hide the next");
    }

    #[test]
    fn few_windows_say_nothing_and_equal_ones_much() {
        assert_eq!(score(5.0, &[1.0; 7]), None);
        assert_eq!(score(5.0, &[5.0; 9]), Some(0.0));
        assert_eq!(score(6.0, &[5.0; 9]), Some(100.0));
        assert_eq!(score(4.0, &[5.0; 9]), Some(-100.0));
        // Most are equal: by the mean deviation, 2/9.
        let most = [5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 6.0, 6.0];
        assert!((score(7.0, &most).unwrap() - 2.0 / (2.0 / 9.0 * 1.253_314)).abs() < 1e-9);
    }
}
