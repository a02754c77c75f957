//! Values keep what they hold, regions come and go as they fill and drain.

use super::*;

/// A few hundred to a region.
type Value = [u64; 640];

const PLACES: usize = Regions::<Value>::PLACES;
const FIRST: usize = Regions::<Value>::FIRST_PLACES;
const FEW: usize = Regions::<Value>::FEW;

fn value(number: usize) -> Value {
    [number as u64; 640]
}

fn mapped(regions: &Regions<Value>) -> usize {
    regions.regions.iter().flatten().count()
}

#[test]
fn values_share_no_byte_and_begin_at_cache_lines() {
    let mut regions = Regions::default();
    let mut boxes: Vec<_> = (0..FIRST + 2 * PLACES + 1)
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
    let mut boxes: Vec<_> = (0..FIRST + 72 * PLACES)
        .map(|number| Some(regions.put(value(number))))
        .collect();
    assert_eq!(mapped(&regions), 73);
    // Of the second region or a later one.
    let mut give = |regions: &mut Regions<Value>, region: usize, places: usize| {
        for taken in &mut boxes[FIRST + (region - 1) * PLACES..][..places] {
            regions.give(taken.take().expect("not given back yet"));
        }
    };
    // One place each in two of them: the lower is used again.
    give(&mut regions, 70, 1);
    give(&mut regions, 66, 1);
    let again = regions.put(value(1));
    assert!(
        regions.regions[66]
            .as_ref()
            .expect("mapped")
            .free
            .is_empty()
    );
    // Of two empty ones the lower stays, and is the next to be used.
    give(&mut regions, 72, PLACES);
    give(&mut regions, 5, PLACES);
    assert!(regions.regions.len() == 72 && mapped(&regions) == 72);
    assert_eq!(regions.spare, Some(5));
    give(&mut regions, 20, PLACES);
    assert!(regions.regions[20].is_none() && regions.regions[5].is_some());
    let next: Vec<_> = (0..PLACES + 1).map(|_| regions.put(value(2))).collect();
    assert_eq!(regions.spare, None);
    let last = regions.regions[70].as_ref().expect("mapped");
    assert!(
        last.free.is_empty(),
        "then the place that was left in another"
    );
    // Full: the next comes where a region was unmapped.
    let more = regions.put(value(3));
    assert!(regions.regions[20].is_some() && mapped(&regions) == 72);
    assert_eq!(regions.room, room(&regions));
    for taken in next.into_iter().chain([again, more]) {
        regions.give(taken);
    }
    for taken in boxes.into_iter().flatten() {
        regions.give(taken);
    }
    assert_eq!((mapped(&regions), regions.spare), (1, Some(0)));
    assert_eq!(regions.room, FIRST);
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
    let boxes: Vec<_> = (0..FIRST + 1).map(|at| regions.put(value(at))).collect();
    let asked = |at: usize| asks_for_huge_pages(std::ptr::from_ref::<Value>(&boxes[at]).addr());
    assert_eq!((asked(0), asked(FIRST)), (Some(false), Some(true)));
}

/// Free places, counted one by one.
fn room(regions: &Regions<Value>) -> usize {
    let of = |region: &Region| usize::from(region.places - region.begun) + region.free.len();
    regions.regions.iter().flatten().map(of).sum()
}

#[test]
fn the_next_region_is_prepared_before_the_last_is_full() {
    let mut regions = Regions::default();
    let count = FIRST - FEW;
    let mut boxes: Vec<_> = (1..count).map(|at| regions.put(value(at))).collect();
    assert!(regions.next.is_none());
    boxes.push(regions.put(value(0)));
    let mapping = regions.next.take().expect("a thread").recv();
    let mapping = mapping.expect("a region");
    let start = mapping.start().addr().get();
    assert_eq!(start % REGION_BYTES, 0);
    if std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        assert_eq!(asks_for_huge_pages(start), Some(true));
    }
    // While it is not ready, others are mapped; then it is used, once.
    let (sender, receiver) = bounded(1);
    regions.next = Some(receiver);
    boxes.extend((0..PLACES).map(|at| regions.put(value(at))));
    assert_eq!((mapped(&regions), regions.room), (2, FEW));
    sender.send(mapping).expect("room");
    boxes.extend((0..2 * PLACES).map(|at| regions.put(value(at))));
    let place = |value: &HugeBox<Value>| std::ptr::from_ref::<Value>(value).addr();
    assert_eq!(place(&boxes[FIRST + PLACES]), start + ALIGNMENT);
    let later = place(&boxes[FIRST + 2 * PLACES]);
    assert_ne!(later / REGION_BYTES, start / REGION_BYTES);
    assert_eq!((regions.room, mapped(&regions)), (room(&regions), 4));
    // What is prepared goes with the first empty region that does.
    let (_sender, receiver) = bounded(1);
    regions.next = Some(receiver);
    for value in boxes.drain(FIRST..) {
        regions.give(value);
    }
    assert!(regions.next.is_none());
    assert_eq!((regions.room, mapped(&regions)), (PLACES, 2));
    // And again one is prepared, although no place is used for the first time.
    boxes.extend((0..PLACES - FEW).map(|at| regions.put(value(at))));
    assert!(regions.next.is_some());
    boxes.into_iter().for_each(|value| regions.give(value));
    assert_eq!((regions.room, mapped(&regions)), (FIRST, 1));
}

#[test]
fn without_a_thread_regions_are_mapped_all_the_same() {
    let mut regions = Regions::default();
    let (_, receiver) = bounded(1);
    regions.next = Some(receiver);
    let values: Vec<_> = (0..FIRST + 1).map(|at| regions.put(value(at))).collect();
    assert_eq!(mapped(&regions), 2);
    values.into_iter().for_each(|value| regions.give(value));
}
