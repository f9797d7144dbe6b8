//! Ratios of two sides that take turns, and what is printed of them.

use std::fmt;
use std::time::Instant;

use crate::Outcome;

/// What a ratio should be.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// A rate: the more the better.
    AtLeast(f64),
    /// A time: the less the better.
    AtMost(f64),
}

/// Two sides of one measurement.
pub(crate) trait Race {
    /// What is measured, for the title.
    fn title(&self) -> String;
    /// Names of the measured side and of what it is measured by, and the unit of both figures.
    fn sides(&self) -> (&'static str, &'static str, &'static str);
    /// What the ratio should be; none where it is shown for information.
    fn target(&self) -> Option<Target>;
    /// Brings the database into the state in which each turn begins.
    async fn reset(&mut self) -> Outcome<()>;
    /// One turn of the measured side; its figure.
    async fn measured(&mut self) -> Outcome<f64>;
    /// One turn of the other; its figure.
    async fn yardstick(&mut self) -> Outcome<f64>;
}

/// Runs both in turns, after a round that does not count, and prints the ratio.
pub(crate) async fn run_race<R: Race>(race: &mut R, rounds: usize) -> Outcome<bool> {
    let (measured_name, yardstick_name, unit) = race.sides();
    println!("\n{}", race.title());
    let mut ratios = Vec::new();
    let (mut measured_all, mut yardstick_all) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        // Who goes first changes, so that what one leaves behind hits both.
        let (measured, yardstick) = if round % 2 == 0 {
            race.reset().await?;
            let measured = race.measured().await?;
            race.reset().await?;
            (measured, race.yardstick().await?)
        } else {
            race.reset().await?;
            let yardstick = race.yardstick().await?;
            race.reset().await?;
            (race.measured().await?, yardstick)
        };
        let ratio = measured / yardstick;
        let label = if round == 0 {
            "warm-up".to_owned()
        } else {
            format!("round {round}")
        };
        println!(
            "  {label}: {measured_name} {measured:.1} {unit}, {yardstick_name} {yardstick:.1} {unit}, ratio {ratio:.2}"
        );
        if round > 0 {
            ratios.push(ratio);
            measured_all.push(measured);
            yardstick_all.push(yardstick);
        }
    }
    println!("  {measured_name}: {} {unit}", Spread::of(&measured_all));
    println!("  {yardstick_name}: {} {unit}", Spread::of(&yardstick_all));
    let spread = Spread::of(&ratios);
    Ok(print_ratio(&spread, race.target()))
}

/// Prints a ratio beside its target; whether that is met, by the median.
pub(crate) fn print_ratio(spread: &Spread, target: Option<Target>) -> bool {
    let (met, wanted) = match target {
        None => (true, String::new()),
        Some(Target::AtLeast(limit)) => (spread.median >= limit, format!("at least {limit}")),
        Some(Target::AtMost(limit)) => (spread.median <= limit, format!("at most {limit}")),
    };
    let verdict = match target {
        None => "for information".to_owned(),
        Some(_) if met => format!("target {wanted}: met"),
        Some(_) => format!("target {wanted}: MISSED"),
    };
    println!("  RATIO {spread}; {verdict}");
    met
}

/// Least, middle and greatest of some figures.
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of these figures, of which there must be one at least.
    pub(crate) fn of(figures: &[f64]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Self {
            min: sorted[0],
            median,
            max: sorted[sorted.len() - 1],
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = if self.median < 100.0 { 2 } else { 0 };
        write!(
            formatter,
            "min {:.decimals$} median {:.decimals$} max {:.decimals$}",
            self.min, self.median, self.max
        )
    }
}

/// How many a second since then.
pub(crate) fn rate(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}
