//! Which executor folds which units of a training's rows: the one that holds them, unless that would leave
//! others idle.

use std::collections::HashMap;

use crate::members::Member;

/// A unit of rows: its name and its size.
#[derive(Clone, Debug)]
pub struct Sized {
    /// Its short name.
    pub id: u64,
    /// Bytes of its file.
    pub bytes: u64,
}

/// The units of one partition of a step, by their index, and the executor that it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The executor.
    pub executor: String,
    /// Indices of units.
    pub units: Vec<usize>,
}

/// An executor takes units from another when it has less than this part of what the other has for each core.
const IDLE: f64 = 0.5;

/// Shares of all units, at most one for each core. `holders` says which executor holds a unit.
pub fn assign(units: &[Sized], holders: &HashMap<u64, String>, members: &[Member]) -> Vec<Share> {
    if members.is_empty() {
        return Vec::new();
    }
    let at: HashMap<&str, usize> = members.iter().enumerate().map(|(i, m)| (m.id.as_str(), i)).collect();
    let mut owned: Vec<Vec<usize>> = vec![Vec::new(); members.len()];
    let mut load = vec![0u64; members.len()];
    let mut free = Vec::new();
    for (index, unit) in units.iter().enumerate() {
        match holders.get(&unit.id).and_then(|holder| at.get(holder.as_str())) {
            Some(member) => {
                owned[*member].push(index);
                load[*member] += unit.bytes.max(1);
            }
            None => free.push(index),
        }
    }
    // The largest first, each to whoever has least to do.
    let per_core = |load: &[u64], member: usize| load[member] as f64 / members[member].cores.max(1) as f64;
    let least =
        |load: &[u64]| (0..members.len()).min_by(|a, b| per_core(load, *a).total_cmp(&per_core(load, *b))).unwrap_or(0);
    free.sort_by_key(|index| std::cmp::Reverse(units[*index].bytes));
    for index in free {
        let member = least(&load);
        owned[member].push(index);
        load[member] += units[index].bytes.max(1);
    }
    // An executor that joined, or lost its rows, takes some over.
    for _ in 0..units.len() {
        let to = least(&load);
        let from = (0..members.len()).max_by(|a, b| per_core(&load, *a).total_cmp(&per_core(&load, *b)));
        let Some(from) = from.filter(|from| owned[*from].len() > 1) else { break };
        let Some(index) = owned[from].last().copied() else { break };
        let bytes = units[index].bytes.max(1);
        let after = (load[to] + bytes) as f64 / members[to].cores.max(1) as f64;
        if per_core(&load, to) >= IDLE * per_core(&load, from) || after >= per_core(&load, from) {
            break;
        }
        owned[from].pop();
        owned[to].push(index);
        load[from] -= bytes;
        load[to] += bytes;
    }
    let mut shares = Vec::new();
    for (member, mut indices) in members.iter().zip(owned) {
        // The same units give the same shares, whatever their history.
        indices.sort_by_key(|index| (std::cmp::Reverse(units[*index].bytes), *index));
        let cores = member.cores.max(1).min(indices.len());
        let mut parts: Vec<(u64, Vec<usize>)> = vec![(0, Vec::new()); cores];
        for index in indices {
            if let Some(part) = parts.iter_mut().min_by_key(|part| part.0) {
                part.0 += units[index].bytes.max(1);
                part.1.push(index);
            }
        }
        shares.extend(parts.into_iter().map(|(_, units)| Share { executor: member.id.clone(), units }));
    }
    if shares.is_empty() {
        // A query without rows still has a result.
        shares.push(Share { executor: members[0].id.clone(), units: Vec::new() });
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(cores: &[usize]) -> Vec<Member> {
        cores.iter().enumerate().map(|(i, cores)| Member { id: format!("e{i}"), cores: *cores }).collect()
    }

    fn units(count: u64) -> Vec<Sized> {
        (0..count).map(|id| Sized { id, bytes: 10 }).collect()
    }

    fn counts(shares: &[Share]) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for share in shares {
            *counts.entry(share.executor.clone()).or_insert(0) += share.units.len();
        }
        counts
    }

    #[test]
    fn every_unit_is_in_one_share() {
        for (count, cores) in [(0, vec![1]), (1, vec![2, 2]), (7, vec![1, 3]), (100, vec![4, 4, 1])] {
            let shares = assign(&units(count), &HashMap::new(), &members(&cores));
            let mut all: Vec<usize> = shares.iter().flat_map(|share| share.units.clone()).collect();
            all.sort();
            assert_eq!(all, (0..count as usize).collect::<Vec<_>>());
            assert!(shares.len() <= cores.iter().sum::<usize>().max(1));
        }
    }

    #[test]
    fn units_stay_where_they_are() {
        let holders = (0..8).map(|id| (id, format!("e{}", id % 2))).collect();
        let shares = assign(&units(8), &holders, &members(&[1, 1]));
        for share in shares {
            let parity = if share.executor == "e0" { 0 } else { 1 };
            assert!(share.units.iter().all(|unit| unit % 2 == parity));
        }
    }

    #[test]
    fn a_late_executor_takes_its_part_and_a_lost_one_leaves_its_own() {
        let holders = (0..8).map(|id| (id, "e0".to_string())).collect();
        let shared = counts(&assign(&units(8), &holders, &members(&[1, 1])));
        assert!(shared["e1"] >= 2, "{shared:?}");
        let holders = (0..8).map(|id| (id, "gone".to_string())).collect();
        let shared = counts(&assign(&units(8), &holders, &members(&[1, 3])));
        assert_eq!((shared["e0"], shared["e1"]), (2, 6));
    }
}
