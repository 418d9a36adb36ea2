//! Lines side by side: each run gets a lane in which nothing else comes near it.

/// A lane for each run (first and last place, in any order), and how many lanes there are. Runs of one lane are more
/// than `apart` from each other.
pub fn lanes(runs: &[(i32, i32)], apart: i32) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..runs.len()).collect();
    let ends = |run: usize| (runs[run].0.min(runs[run].1), runs[run].0.max(runs[run].1));
    order.sort_by_key(|run| ends(*run));
    let (mut chosen, mut until, mut count) = (vec![0; runs.len()], Ends::new(runs.len()), 0);
    for run in order {
        let (from, to) = ends(run);
        let lane = until.first_before(i64::from(from) - i64::from(apart));
        until.set(lane, i64::from(to));
        (chosen[run], count) = (lane, count.max(lane + 1));
    }
    (chosen, count)
}

/// Where the last run of each lane ends, as a tree: above two lanes stands the lesser of both.
struct Ends {
    tree: Vec<i64>,
    /// Where the lanes themselves begin.
    leaves: usize,
}

impl Ends {
    /// Lanes without runs, as many as there are runs at most.
    fn new(lanes: usize) -> Self {
        let leaves = lanes.max(1).next_power_of_two();
        Ends { tree: vec![i64::MIN; 2 * leaves], leaves }
    }

    /// The first lane that ends before a place. There is one: no run needs more lanes than there are runs.
    fn first_before(&self, place: i64) -> usize {
        let mut node = 1;
        while node < self.leaves {
            node = if self.tree[2 * node] < place { 2 * node } else { 2 * node + 1 };
        }
        node - self.leaves
    }

    fn set(&mut self, lane: usize, end: i64) {
        let mut node = lane + self.leaves;
        self.tree[node] = end;
        while node > 1 {
            node /= 2;
            self.tree[node] = self.tree[2 * node].min(self.tree[2 * node + 1]);
        }
    }
}

/// The place nearest to `wished` from `low` to `high` that is at least `apart` from each of those taken; `wished` when
/// there is none.
pub fn free(wished: i32, (low, high): (i32, i32), mut taken: Vec<i32>, apart: i32) -> i32 {
    let wished = wished.clamp(low, high.max(low));
    taken.sort_unstable();
    let is_free = |place: &i32| {
        let next = taken.partition_point(|other| other < place);
        let near = taken.get(next).into_iter().chain(next.checked_sub(1).and_then(|before| taken.get(before)));
        (low..=high).contains(place) && near.into_iter().all(|other| (other - place).abs() >= apart)
    };
    // What is free and nearest is the place itself, or beside one that is taken.
    let beside = taken.iter().flat_map(|other| [other - apart, other + apart]);
    let places = std::iter::once(wished).chain(beside).filter(is_free);
    places.min_by_key(|place| ((place - wished).abs(), *place)).unwrap_or(wished)
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
        assert_eq!(free(10, (0, 20), vec![10, 14], 4), 6);
        assert_eq!(free(50, (0, 20), Vec::new(), 4), 20);
        assert_eq!(free(1, (0, 2), vec![1], 4), 1, "no room: better crowded than lost");
    }
}
