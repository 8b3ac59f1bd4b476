//! Families of metrics whose labels are enums.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// A label whose values the source names.
pub trait Label: Copy + Eq + Hash + fmt::Debug + Send + Sync + 'static {
    /// The name of the label.
    const KEY: &'static str;
    /// Its values that exist from the start.
    const ALL: &'static [Self];

    /// The value as text.
    fn name(self) -> &'static str;
}

/// The labels of a metric: one or two.
pub trait LabelSet: Copy + Eq + Hash + fmt::Debug + Send + Sync + 'static {
    /// All combinations.
    fn all() -> Vec<Self>;

    /// Keys and values.
    fn pairs(self) -> impl Iterator<Item = (&'static str, &'static str)>;
}

impl<L: Label> LabelSet for L {
    fn all() -> Vec<Self> {
        L::ALL.to_vec()
    }

    fn pairs(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        std::iter::once((L::KEY, self.name()))
    }
}

impl<A: Label, B: Label> LabelSet for (A, B) {
    fn all() -> Vec<Self> {
        let each = A::ALL.iter();
        each.flat_map(|a| B::ALL.iter().map(|b| (*a, *b))).collect()
    }

    fn pairs(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        [(A::KEY, self.0.name()), (B::KEY, self.1.name())].into_iter()
    }
}

/// The labels of one series, for the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct One<L>(L);

impl<L: LabelSet> EncodeLabelSet for One<L> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for pair in self.0.pairs() {
            EncodeLabelSet::encode(&[pair], encoder)?;
        }
        Ok(())
    }
}

/// Counters by label.
#[derive(Debug)]
pub struct Counters<L>(Family<One<L>, Counter>);

impl<L: LabelSet> Default for Counters<L> {
    fn default() -> Self {
        Self(complete(Family::default()))
    }
}

impl<L: LabelSet> Counters<L> {
    /// Counts one event.
    pub fn count(&self, labels: L) {
        self.0.get_or_create(&One(labels)).inc();
    }

    /// The events so far.
    pub fn get(&self, labels: L) -> u64 {
        self.0.get(&One(labels)).map_or(0, |counter| counter.get())
    }

    /// The family, for a registry.
    pub fn family(&self) -> Family<One<L>, Counter> {
        self.0.clone()
    }
}

/// Gauges by label, which only guards move.
#[derive(Debug)]
pub struct Gauges<L>(Family<One<L>, Gauge>);

impl<L: LabelSet> Default for Gauges<L> {
    fn default() -> Self {
        Self(complete(Family::default()))
    }
}

impl<L: LabelSet> Gauges<L> {
    /// Counts one thing until the guard is dropped.
    pub fn enter(&self, labels: L) -> InQueue {
        let gauge = self.0.get_or_create_owned(&One(labels));
        gauge.inc();
        InQueue(gauge)
    }

    /// The family, for a registry.
    pub fn family(&self) -> Family<One<L>, Gauge> {
        self.0.clone()
    }
}

/// One thing that a gauge counts.
#[derive(Debug)]
pub struct InQueue(Gauge);

impl Drop for InQueue {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Histograms of times by label.
#[derive(Debug)]
pub struct Histograms<L>(Family<One<L>, Histogram, Bounds>);

/// The upper bounds of a histogram, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Bounds(&'static [f64]);

impl MetricConstructor<Histogram> for Bounds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

impl<L: LabelSet> Histograms<L> {
    /// Histograms with these upper bounds, in seconds.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self(complete(Family::new_with_constructor(Bounds(bounds))))
    }

    /// Notes a time.
    pub fn observe(&self, labels: L, time: Duration) {
        self.0
            .get_or_create(&One(labels))
            .observe(time.as_secs_f64());
    }

    /// The family, for a registry.
    pub fn family(&self) -> Family<One<L>, Histogram, Bounds> {
        self.0.clone()
    }
}

/// The family with a series for each value of its labels.
fn complete<L: LabelSet, M: Clone, C: MetricConstructor<M>>(
    family: Family<One<L>, M, C>,
) -> Family<One<L>, M, C> {
    for labels in L::all() {
        drop(family.get_or_create(&One(labels)));
    }
    family
}

/// Defines an enum that is a [`Label`]: its key, its values and their texts.
#[macro_export]
macro_rules! label {
    (
        $(#[$about:meta])*
        $name:ident as $key:literal { $( $(#[$meaning:meta])* $variant:ident = $text:literal, )+ }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$meaning])* $variant, )+ }

        impl $crate::metrics::Label for $name {
            const KEY: &'static str = $key;
            const ALL: &'static [Self] = &[$( Self::$variant, )+];

            fn name(self) -> &'static str {
                match self { $( Self::$variant => $text, )+ }
            }
        }
    };
}
