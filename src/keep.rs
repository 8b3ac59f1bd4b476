//! Which snapshots of a project are kept: `keep = { last, daily, weekly, monthly }`.
//!
//! A rule counts snapshots, days, weeks and months by the snapshots' own times, in the project's time zone. The present time
//! has no part in it: a clock that jumps deletes nothing, and a project whose refreshes fail keeps its snapshots.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// How many snapshots a project keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeepRule {
    /// The newest ones.
    pub last: usize,
    /// The newest one of each of so many days that have any.
    pub daily: usize,
    /// The newest one of each of so many weeks that have any. A week begins on Monday.
    pub weekly: usize,
    /// The newest one of each of so many months that have any.
    pub monthly: usize,
}

impl fmt::Display for KeepRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            last,
            daily,
            weekly,
            monthly,
        } = self;
        write!(
            f,
            "last {last}, daily {daily}, weekly {weekly}, monthly {monthly}"
        )
    }
}

/// A snapshot that a rule decides about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// When its data was taken.
    pub taken_at: Timestamp,
    /// When its import ended.
    pub imported_at: Timestamp,
    /// Why it stays regardless of the rule.
    pub held: Option<Held>,
    /// Whether it is derived from an instance.
    pub derived: bool,
    /// Equal for snapshots with the same migrations.
    pub migrations: usize,
}

/// Why a snapshot stays regardless of the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// So many instances are reset to it.
    Instances(usize),
    /// It is pinned.
    Pinned,
    /// A job works on it.
    Job,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Regardless of the rule.
    Held(Held),
    /// It is the newest one of its project.
    Newest,
    /// It is derived, and the newest one that has its migrations.
    Derived,
    /// It is one of the newest ones.
    Last {
        /// After so many newer ones it is not any more.
        newer: usize,
    },
    /// It is the newest one of a period.
    Period {
        /// The kind of period.
        period: Period,
        /// Its first day.
        begins: Date,
        /// After so many newer ones that have snapshots it is not kept for it any more.
        newer: usize,
    },
}

/// A period of which the newest snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// A day.
    Day,
    /// A week, from Monday on.
    Week,
    /// A month.
    Month,
}

impl Period {
    fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The first day of the period that a day is in.
    fn first_day(self, day: Date) -> Date {
        match self {
            Self::Day => day,
            Self::Week => {
                let since_monday = i64::from(day.weekday().to_monday_zero_offset());
                day.saturating_sub(jiff::Span::new().days(since_monday))
            }
            Self::Month => day.first_of_month(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(Held::Instances(1)) => f.write_str("1 instance needs it"),
            Self::Held(Held::Instances(count)) => write!(f, "{count} instances need it"),
            Self::Held(Held::Pinned) => f.write_str("pinned"),
            Self::Held(Held::Job) => f.write_str("a job uses it"),
            Self::Newest => f.write_str("newest"),
            Self::Derived => f.write_str("derived (until a fresh one has its migrations)"),
            Self::Last { newer } => write!(f, "last (until {newer} newer)"),
            Self::Period {
                period,
                begins,
                newer,
            } => {
                let (name, plural) = (period.name(), if *newer == 1 { "" } else { "s" });
                write!(f, "{name} {begins} (until {newer} newer {name}{plural})")
            }
        }
    }
}

/// The reasons to keep each snapshot of a project, in the order of the candidates. One without a reason goes.
///
/// Derived ones take no place in the counts: of each set of migrations that no other snapshot has, the newest one stays.
pub fn reasons(candidates: &[Candidate], rule: &KeepRule, zone: &TimeZone) -> Vec<Vec<Reason>> {
    let mut newest_first: Vec<usize> = (0..candidates.len()).collect();
    newest_first.sort_by_key(|&at| {
        let candidate = &candidates[at];
        std::cmp::Reverse((candidate.taken_at, candidate.imported_at, at))
    });
    let (derived, newest_first): (Vec<usize>, Vec<usize>) = newest_first
        .into_iter()
        .partition(|&at| candidates[at].derived);
    let mut reasons: Vec<Vec<Reason>> = candidates
        .iter()
        .map(|candidate| candidate.held.map(Reason::Held).into_iter().collect())
        .collect();
    let fresh = newest_first.iter().map(|&at| candidates[at].migrations);
    let mut seen: BTreeSet<usize> = fresh.collect();
    for at in derived {
        if seen.insert(candidates[at].migrations) {
            reasons[at].push(Reason::Derived);
        }
    }
    if let Some(&newest) = newest_first.first() {
        reasons[newest].push(Reason::Newest);
    }
    for (rank, &at) in newest_first.iter().take(rule.last).enumerate() {
        let newer = rule.last - rank;
        reasons[at].push(Reason::Last { newer });
    }
    for (period, count) in [
        (Period::Day, rule.daily),
        (Period::Week, rule.weekly),
        (Period::Month, rule.monthly),
    ] {
        let mut seen = BTreeSet::new();
        for &at in &newest_first {
            let day = zone.to_datetime(candidates[at].taken_at).date();
            let begins = period.first_day(day);
            let rank = seen.len();
            if rank < count && seen.insert(begins) {
                reasons[at].push(Reason::Period {
                    period,
                    begins,
                    newer: count - rank,
                });
            }
        }
    }
    reasons
}

#[cfg(test)]
mod years;

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use proptest::prelude::*;

    use super::*;

    fn at(time: &str) -> Candidate {
        let taken_at = time.parse().unwrap();
        Candidate {
            taken_at,
            imported_at: taken_at,
            held: None,
            derived: false,
            migrations: 0,
        }
    }

    fn kept(candidates: &[Candidate], rule: &KeepRule, zone: &TimeZone) -> Vec<bool> {
        let reasons = reasons(candidates, rule, zone);
        reasons.iter().map(|reasons| !reasons.is_empty()).collect()
    }

    #[test]
    fn days_are_those_of_the_time_zone() {
        let sydney = TimeZone::get("Australia/Sydney").unwrap();
        let rule = KeepRule {
            daily: 2,
            ..KeepRule::default()
        };
        // 13:00 UTC is midnight in Sydney, in summer.
        let candidates = [
            at("2026-01-05T12:00:00Z"),
            at("2026-01-05T14:00:00Z"),
            at("2026-01-06T12:00:00Z"),
        ];
        assert_eq!(kept(&candidates, &rule, &sydney), [true, false, true]);
        assert_eq!(
            kept(&candidates, &rule, &TimeZone::UTC),
            [false, true, true]
        );
    }

    #[test]
    fn reasons_say_how_long_they_hold() {
        let rule = KeepRule {
            last: 2,
            daily: 3,
            weekly: 2,
            monthly: 1,
        };
        let candidates = [at("2026-03-01T03:00:00Z"), at("2026-03-02T03:00:00Z")];
        let texts: Vec<Vec<String>> = reasons(&candidates, &rule, &TimeZone::UTC)
            .iter()
            .map(|reasons| reasons.iter().map(ToString::to_string).collect())
            .collect();
        // The 1st was a Sunday.
        assert_eq!(
            texts,
            [
                vec![
                    "last (until 1 newer)",
                    "day 2026-03-01 (until 2 newer days)",
                    "week 2026-02-23 (until 1 newer week)",
                ],
                vec![
                    "newest",
                    "last (until 2 newer)",
                    "day 2026-03-02 (until 3 newer days)",
                    "week 2026-03-02 (until 2 newer weeks)",
                    "month 2026-03-01 (until 1 newer month)",
                ],
            ]
        );
    }

    #[test]
    fn three_years_of_nights_leave_what_the_rule_says() {
        let rule = KeepRule {
            last: 3,
            daily: 14,
            weekly: 8,
            monthly: 12,
        };
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let mut time: jiff::civil::DateTime = "2024-01-01T03:00:00".parse().unwrap();
        let mut all: Vec<Candidate> = Vec::new();
        for _ in 0..3 * 365 {
            all.push(at(&zone.to_timestamp(time).unwrap().to_string()));
            let kept = kept(&all, &rule, &zone);
            let mut kept = kept.iter();
            all.retain(|_| *kept.next().unwrap());
            time = time.checked_add(1.day()).unwrap();
        }
        let months: BTreeSet<(i16, i8)> = all
            .iter()
            .map(|one| zone.to_datetime(one.taken_at).date())
            .map(|day| (day.year(), day.month()))
            .collect();
        assert_eq!(months.len(), 12);
        assert!(all.len() <= 14 + 8 + 12, "{}", all.len());
    }

    fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let held = prop_oneof![
            5 => Just(None),
            1 => Just(Some(Held::Pinned)),
            1 => (1_usize..4).prop_map(|count| Some(Held::Instances(count))),
            1 => Just(Some(Held::Job)),
        ];
        // Also of a clock that stood in 1970 or in 2200.
        let (taken, later) = (0_i64..7_258_118_400, 0_i64..1000);
        let (derived, migrations) = (prop::bool::weighted(0.3), 0_usize..4);
        let one = (taken, later, held, derived, migrations).prop_map(
            |(taken, later, held, derived, migrations)| Candidate {
                taken_at: Timestamp::from_second(taken).unwrap(),
                imported_at: Timestamp::from_second(taken + later).unwrap(),
                held,
                derived,
                migrations,
            },
        );
        prop::collection::vec(one, 0..40)
    }

    pub(super) fn any_rule() -> impl Strategy<Value = KeepRule> {
        (0_usize..5, 0_usize..8, 0_usize..5, 0_usize..5).prop_map(
            |(last, daily, weekly, monthly)| KeepRule {
                last,
                daily,
                weekly,
                monthly,
            },
        )
    }

    proptest! {
        #[test]
        fn held_ones_the_newest_and_the_last_stay(candidates in any_candidates(), rule in any_rule()) {
            let kept = kept(&candidates, &rule, &TimeZone::UTC);
            for (candidate, kept) in candidates.iter().zip(&kept) {
                prop_assert!(*kept || candidate.held.is_none());
                if candidate.derived {
                    continue;
                }
                let newer = candidates.iter()
                    .filter(|other| !other.derived && other.taken_at > candidate.taken_at);
                prop_assert!(*kept || newer.count() >= rule.last.max(1));
            }
        }

        #[test]
        fn nobody_goes_before_so_many_newer_periods_have_snapshots(
            candidates in any_candidates(), rule in any_rule()
        ) {
            let kept = kept(&candidates, &rule, &TimeZone::UTC);
            let candidates: Vec<Candidate> = candidates.into_iter().zip(kept)
                .filter(|(one, _)| !one.derived).map(|(one, _)| one).collect();
            let kept = super::tests::kept(&candidates, &rule, &TimeZone::UTC);
            let day = |one: &Candidate| TimeZone::UTC.to_datetime(one.taken_at).date();
            for (candidate, _) in candidates.iter().zip(&kept).filter(|(_, kept)| !**kept) {
                let of_day = candidates.iter().any(|other| {
                    day(other) == day(candidate)
                        && (other.taken_at, other.imported_at) >= (candidate.taken_at, candidate.imported_at)
                        && !std::ptr::eq(other, candidate)
                });
                let newer_days: BTreeSet<Date> = candidates.iter().map(day)
                    .filter(|other| *other > day(candidate)).collect();
                prop_assert!(of_day || newer_days.len() >= rule.daily);
            }
        }

        #[test]
        fn a_second_run_deletes_nothing_more(candidates in any_candidates(), rule in any_rule()) {
            let kept_first = kept(&candidates, &rule, &TimeZone::UTC);
            let left: Vec<Candidate> = candidates.iter().zip(kept_first)
                .filter(|(_, kept)| *kept).map(|(one, _)| *one).collect();
            prop_assert!(kept(&left, &rule, &TimeZone::UTC).into_iter().all(|kept| kept));
        }

        #[test]
        fn a_new_snapshot_from_any_time_costs_at_most_one_of_each_kind(
            candidates in any_candidates(), rule in any_rule(), taken in 0_i64..7_258_118_400
        ) {
            // A clock that jumped gives a snapshot a wrong time, and no more than that.
            let left: Vec<Candidate> = {
                let kept = kept(&candidates, &rule, &TimeZone::UTC);
                candidates.iter().zip(kept).filter(|(_, kept)| *kept).map(|(one, _)| *one).collect()
            };
            let mut more = left.clone();
            let taken_at = Timestamp::from_second(taken).unwrap();
            more.push(Candidate { taken_at, imported_at: taken_at, held: None, derived: false, migrations: 0 });
            let gone = kept(&more, &rule, &TimeZone::UTC).into_iter().filter(|kept| !kept).count();
            // And the derived snapshot with its migrations.
            prop_assert!(gone <= 6, "{gone} of {}", more.len());
        }

        #[test]
        fn derived_ones_change_nothing_for_others_and_one_stays_of_each_set_that_no_other_has(
            candidates in any_candidates(), rule in any_rule()
        ) {
            let all = reasons(&candidates, &rule, &TimeZone::UTC);
            let is_fresh = |one: &&Candidate| !one.derived;
            let fresh: Vec<Candidate> = candidates.iter().filter(is_fresh).copied().collect();
            let of_fresh = candidates.iter().zip(&all).filter(|(one, _)| !one.derived);
            let of_fresh: Vec<_> = of_fresh.map(|(_, reasons)| reasons.clone()).collect();
            prop_assert_eq!(of_fresh, reasons(&fresh, &rule, &TimeZone::UTC));
            for migrations in 0..4 {
                let alike = candidates.iter().zip(&all).filter(|(one, _)| one.migrations == migrations);
                let (derived, others): (Vec<_>, Vec<_>) = alike.partition(|(one, _)| one.derived);
                let stay = derived.iter().filter(|(_, reasons)| reasons.contains(&Reason::Derived));
                let stay: Vec<_> = stay.map(|(one, _)| one.taken_at).collect();
                let newest = derived.iter().map(|(one, _)| one.taken_at).max();
                let expected: Vec<_> = newest.filter(|_| others.is_empty()).into_iter().collect();
                prop_assert_eq!(stay, expected);
            }
        }
    }
}
