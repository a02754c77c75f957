//! Values keep what they hold, regions come and go as they fill and drain.

use super::*;

/// A few hundred to a region.
type Value = [u64; 640];

const PLACES: usize = Regions::<Value>::PLACES;

fn value(number: usize) -> Value {
    [number as u64; 640]
}

fn mapped(regions: &Regions<Value>) -> usize {
    regions.regions.iter().flatten().count()
}

#[test]
fn values_share_no_byte_and_begin_at_cache_lines() {
    let mut regions = Regions::default();
    let mut boxes: Vec<_> = (0..3 * PLACES + 1)
        .map(|number| regions.put(value(number)))
        .collect();
    assert_eq!(mapped(&regions), 4);
    for (number, found) in boxes.iter_mut().enumerate() {
        assert_eq!(std::ptr::from_ref::<Value>(found).addr() % ALIGNMENT, 0);
        assert_eq!(**found, value(number));
        **found = value(number + 7);
    }
    for (number, found) in boxes.into_iter().enumerate() {
        assert_eq!(*found, value(number + 7));
        regions.give(found);
    }
    assert_eq!(mapped(&regions), 1, "one that is empty is kept");
}

#[test]
fn the_lowest_region_fills_first_and_empty_ones_go() {
    let mut regions = Regions::default();
    let mut boxes: Vec<_> = (0..200 * PLACES)
        .map(|number| Some(regions.put(value(number))))
        .collect();
    let mut give = |regions: &mut Regions<Value>, region: usize, places: usize| {
        for taken in &mut boxes[region * PLACES..][..places] {
            regions.give(taken.take().expect("not given back yet"));
        }
    };
    // One place each in two of them: the lower is used again.
    give(&mut regions, 130, 1);
    give(&mut regions, 70, 1);
    let again = regions.put(value(1));
    assert!(
        regions.regions[70]
            .as_ref()
            .expect("mapped")
            .free
            .is_empty()
    );
    // Of two empty ones the lower stays, and is the next to be used.
    give(&mut regions, 199, PLACES);
    give(&mut regions, 5, PLACES);
    assert!(regions.regions.len() == 199 && mapped(&regions) == 199);
    assert_eq!(regions.spare, Some(5));
    give(&mut regions, 20, PLACES);
    assert!(regions.regions[20].is_none() && regions.regions[5].is_some());
    let next: Vec<_> = (0..PLACES + 1).map(|_| regions.put(value(2))).collect();
    assert_eq!(regions.spare, None);
    let last = regions.regions[130].as_ref().expect("mapped");
    assert!(
        last.free.is_empty(),
        "then the place that was left in another"
    );
    // Full: the next comes where a region was unmapped.
    let more = regions.put(value(3));
    assert!(regions.regions[20].is_some() && mapped(&regions) == 199);
    for taken in next.into_iter().chain([again, more]) {
        regions.give(taken);
    }
    for taken in boxes.into_iter().flatten() {
        regions.give(taken);
    }
    assert_eq!((mapped(&regions), regions.spare), (1, Some(0)));
}

/// A place of other regions is not handed out here, and a value stays where it
/// is when its regions are gone.
#[test]
fn values_outlive_what_they_came_from() {
    let (mut one, mut other) = (Regions::default(), Regions::default());
    let (kept, lost) = (one.put(value(1)), one.put(value(2)));
    let place = std::ptr::from_ref::<Value>(&lost).addr();
    let own = other.put(value(3));
    other.give(lost);
    assert!((0..PLACES).all(|_| {
        let next = other.put(value(4));
        std::ptr::from_ref::<Value>(&next).addr() != place
    }));
    drop(one);
    assert_eq!((*kept, *own), (value(1), value(3)));
}

/// What `/proc/self/smaps` says of the mapping at an address, if it tells flags.
fn asks_for_huge_pages(address: usize) -> Option<bool> {
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("/proc");
    let mut within = false;
    for line in maps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            if within {
                return Some(flags.split_whitespace().any(|flag| flag == "hg"));
            }
        } else if let Some((first, last)) = line.split(' ').next().and_then(|w| w.split_once('-')) {
            let bound = |text| usize::from_str_radix(text, 16).expect("an address");
            within = (bound(first)..bound(last)).contains(&address);
        }
    }
    None
}

#[test]
fn all_but_the_first_region_ask_for_huge_pages() {
    if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        println!("this kernel has no huge pages to ask for");
        return;
    }
    let mut regions = Regions::default();
    let boxes: Vec<_> = (0..2 * PLACES).map(|at| regions.put(value(at))).collect();
    let asked = |at: usize| asks_for_huge_pages(std::ptr::from_ref::<Value>(&boxes[at]).addr());
    assert_eq!((asked(0), asked(PLACES)), (Some(false), Some(true)));
}

#[test]
fn the_next_region_is_prepared_while_one_fills() {
    let mut regions = Regions::default();
    let half: Vec<_> = (0..PLACES / 2 - 1)
        .map(|at| regions.put(value(at)))
        .collect();
    assert!(regions.next.is_none());
    let middle = regions.put(value(7));
    let next = regions.next.take().expect("a thread");
    let mapping = next.recv().expect("a region");
    let start = mapping.start().addr().get();
    assert_eq!(start % REGION_BYTES, 0);
    if let Some(asked) = asks_for_huge_pages(start) {
        assert!(asked || !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists());
    }
    // It is used, once; without it there is another.
    let (sender, receiver) = bounded(1);
    sender.send(mapping).expect("room");
    regions.next = Some(receiver);
    let rest: Vec<_> = (0..3 * PLACES).map(|at| regions.put(value(at))).collect();
    let place = |value: &HugeBox<Value>| std::ptr::from_ref::<Value>(value).addr();
    let first = PLACES - PLACES / 2;
    assert_eq!(place(&rest[first]), start + ALIGNMENT);
    assert_ne!(
        place(&rest[first + PLACES]) / REGION_BYTES,
        start / REGION_BYTES
    );
    let boxes = half.into_iter().chain([middle]).chain(rest);
    boxes.for_each(|value| regions.give(value));
}

#[test]
fn without_a_thread_regions_are_mapped_all_the_same() {
    let mut regions = Regions::default();
    let (_, receiver) = bounded(1);
    regions.next = Some(receiver);
    let values: Vec<_> = (0..2 * PLACES).map(|at| regions.put(value(at))).collect();
    assert_eq!(mapped(&regions), 2);
    values.into_iter().for_each(|value| regions.give(value));
}
