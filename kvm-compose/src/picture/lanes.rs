//! Lines side by side: each run gets a lane in which nothing else comes near it.

/// A lane for each run (first and last place, in any order), and how many lanes there are. Runs of one lane are more
/// than `apart` from each other.
pub fn lanes(runs: &[(i32, i32)], apart: i32) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..runs.len()).collect();
    let ends = |run: usize| (runs[run].0.min(runs[run].1), runs[run].0.max(runs[run].1));
    order.sort_by_key(|run| ends(*run));
    let (mut chosen, mut until): (Vec<usize>, Vec<i32>) = (vec![0; runs.len()], Vec::new());
    for run in order {
        let (from, to) = ends(run);
        match until.iter().position(|end| end.saturating_add(apart) < from) {
            Some(lane) => (chosen[run], until[lane]) = (lane, to),
            None => {
                chosen[run] = until.len();
                until.push(to);
            }
        }
    }
    (chosen, until.len())
}

/// The place nearest to `wished` from `low` to `high` that is at least `apart` from each of those taken; `wished` when
/// there is none.
pub fn free(wished: i32, (low, high): (i32, i32), taken: &[i32], apart: i32) -> i32 {
    let wished = wished.clamp(low, high.max(low));
    let is_free = |place: &i32| (low..=high).contains(place) && taken.iter().all(|other| (other - place).abs() >= apart);
    (0..=(high - low).max(0)).flat_map(|step| [wished - step, wished + step]).find(is_free).unwrap_or(wished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_touch_are_in_different_lanes_and_others_share_one() {
        assert_eq!(lanes(&[(0, 10), (5, 20), (30, 26), (50, 60)], 4), (vec![0, 1, 0, 0], 2));
        assert_eq!(lanes(&[(0, 10), (15, 20)], 4), (vec![0, 0], 1));
        assert_eq!(lanes(&[], 4), (vec![], 0));
    }

    #[test]
    fn the_nearest_free_place_is_found() {
        assert_eq!(free(10, (0, 20), &[10, 14], 4), 6);
        assert_eq!(free(50, (0, 20), &[], 4), 20);
        assert_eq!(free(1, (0, 2), &[1], 4), 1, "no room: better crowded than lost");
    }
}
