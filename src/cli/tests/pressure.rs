//! The output about a disk above its mark.

use super::*;
use crate::control::model::{PressureStepView, PressureView};

pub(super) fn pressure(nothing_left: bool) -> PressureView {
    PressureView {
        since: at("2026-03-11T08:00:00Z"),
        bytes_above: 2 << 30,
        steps: vec![
            PressureStepView {
                at: at("2026-03-11T08:00:01Z"),
                what: "emptied the trash".to_owned(),
                bytes_freed: 0,
            },
            PressureStepView {
                at: at("2026-03-11T08:00:02Z"),
                what: "deleted instance old, the least recently used one".to_owned(),
                bytes_freed: 3 << 30,
            },
        ],
        nothing_left,
    }
}

#[test]
fn pressure_of_the_disk_is_a_finding_of_doctor() {
    let over = PressureView {
        bytes_above: 0,
        ..pressure(false)
    };
    let all = [
        (Some(85), Some(pressure(true))),
        (Some(85), Some(over)),
        (Some(85), None),
        (None, None),
    ];
    let found =
        all.map(|(mark, pressure)| crate::doctor::pressure::finding(87, mark, pressure.as_ref()));
    insta::assert_snapshot!("doctor_pressure", doctor::text(&found));
}
