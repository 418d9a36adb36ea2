//! Conditions of links, from what the user wrote to whole numbers.
//!
//! Pure.

use super::model::{Conditions, Shape};
use crate::spec::{model as wrote, reader::Reader};

/// The conditions of an interface's link.
pub fn of(wrote: &wrote::Impairment, reader: &mut Reader) -> Shape {
    Shape {
        to_guest: conditions(&wrote.both, wrote.to_guest.as_ref(), reader),
        from_guest: conditions(&wrote.both, wrote.from_guest.as_ref(), reader),
    }
}

/// The conditions at the two ends of a wire: each direction is hindered once, at its receiver.
pub fn of_wire(wrote: &wrote::LinkImpairment, reader: &mut Reader) -> [Shape; 2] {
    let [forward, backward] = [&wrote.forward, &wrote.backward].map(|own| conditions(&wrote.both, own.as_ref(), reader));
    [backward, forward].map(|to_guest| Shape { to_guest, from_guest: Conditions::default() })
}

fn conditions(both: &wrote::Conditions, own: Option<&wrote::Conditions>, reader: &mut Reader) -> Conditions {
    let own = own.unwrap_or(both);
    let value = |pick: fn(&wrote::Conditions) -> Option<f64>| pick(own).or_else(|| pick(both)).unwrap_or(0.0);
    let conditions = Conditions {
        delay_us: (value(|c| c.delay_ms.as_ref().map(|v| v.value)) * 1000.0).round() as u64,
        jitter_us: (value(|c| c.jitter_ms.as_ref().map(|v| v.value)) * 1000.0).round() as u64,
        loss_ppm: (value(|c| c.loss_percent.as_ref().map(|v| v.value)) * 10_000.0).round() as u32,
        duplicate_ppm: (value(|c| c.duplicate_percent.as_ref().map(|v| v.value)) * 10_000.0).round() as u32,
        reorder_ppm: (value(|c| c.reorder_percent.as_ref().map(|v| v.value)) * 10_000.0).round() as u32,
        rate_kbit: own.rate_mbit.as_ref().or(both.rate_mbit.as_ref()).map(|rate| (rate.value * 1000.0).round() as u64),
    };
    let reorder = own.reorder_percent.as_ref().or(both.reorder_percent.as_ref());
    if let (Some(reorder), 0) = (reorder.filter(|reorder| reorder.value > 0.0), conditions.delay_us) {
        let hint = Some("add `delay_ms`: only a packet that is held can be overtaken".to_string());
        reader.error(reorder.at, "E007", "`reorder_percent` needs `delay_ms`".to_string(), hint);
    }
    let jitter = own.jitter_ms.as_ref().or(both.jitter_ms.as_ref());
    if let Some(jitter) = jitter.filter(|_| conditions.jitter_us > conditions.delay_us) {
        let hint = Some("no packet arrives before it was sent: make `delay_ms` at least as large".to_string());
        reader.error(jitter.at, "E007", "`jitter_ms` is larger than `delay_ms`".to_string(), hint);
    }
    conditions
}
