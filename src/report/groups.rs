//! What a table says once: equal things, grouped.

/// Groups what is the same, in the order in which each group's first stands. The groups have at least one member.
pub(crate) fn grouped<T>(items: impl IntoIterator<Item = T>, same: impl Fn(&T, &T) -> bool) -> Vec<Vec<T>> {
    let mut groups: Vec<Vec<T>> = Vec::new();
    for item in items {
        match groups.iter_mut().find(|group| same(&group[0], &item)) {
            Some(group) => group.push(item),
            None => groups.push(vec![item]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stand_where_their_first_stood_and_keep_their_order() {
        let groups = grouped([31, 12, 21, 42, 11, 53], |one, other| one % 10 == other % 10);
        assert_eq!(groups, [vec![31, 21, 11], vec![12, 42], vec![53]]);
        assert_eq!(grouped(Vec::<u8>::new(), |_, _| true), Vec::<Vec<u8>>::new());
    }
}
