//! The layers over redb against a plain list, under random calls with a sync now and then.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Debug, Clone)]
enum Call {
    Append(u8),
    Truncate(u8),
    Purge(u8),
    Vote(u8),
    Sync,
    Reopen,
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => (1..6_u8).prop_map(Call::Append),
        2 => any::<u8>().prop_map(Call::Truncate),
        1 => any::<u8>().prop_map(Call::Purge),
        1 => any::<u8>().prop_map(Call::Vote),
        2 => Just(Call::Sync),
        1 => Just(Call::Reopen),
    ]
}

/// What a store should hold.
#[derive(Default)]
struct Plain {
    log: BTreeMap<u64, Bytes>,
    slots: BTreeMap<Slot, Bytes>,
    next: u64,
}

impl Plain {
    fn check(&self, store: &dyn LogStore, call: &Call) {
        let all: Vec<Record> = self.log.iter().map(|(at, one)| (*at, one.clone())).collect();
        assert_eq!(store.read_range(0, u64::MAX, usize::MAX).expect("read"), all, "{call:?}");
        let ends = all.first().zip(all.last()).map(|(first, last)| (first.0, last.0));
        assert_eq!(store.bounds().expect("read"), ends, "{call:?}");
        for slot in [Slot::Vote, Slot::Purged] {
            assert_eq!(store.get(slot).expect("read").as_ref(), self.slots.get(&slot));
        }
        if let Some((first, last)) = ends {
            let (from, to) = (first + (last - first) / 3, last - (last - first) / 3);
            let part: Vec<_> =
                all.iter().filter(|one| (from..to).contains(&one.0)).cloned().collect();
            assert_eq!(store.read_range(from, to, usize::MAX).expect("read"), part);
        }
    }
}

fn run(engine: Engine, calls: &[Call]) {
    let folder = folder();
    let mut store = opened(&folder, engine);
    let mut plain = Plain::default();
    for call in calls {
        let floor = plain.slots.get(&Slot::Purged).map_or(0, |at| u64::from(at[0]) + 1);
        match call {
            Call::Append(count) => {
                let last = plain.next + u64::from(*count);
                let records: Vec<_> = (plain.next..last).map(|at| entry(at, 5)).collect();
                store.append(&records).expect("appended");
                plain.log.extend(records);
                plain.next = last;
            }
            Call::Truncate(share) => {
                let from = floor + (plain.next - floor) * u64::from(*share) / 256;
                store.truncate_from(from).expect("cut");
                plain.log.split_off(&from);
                plain.next = plain.next.min(from);
            }
            // Also beyond the end, as a checkpoint of another replica does.
            Call::Purge(share) if plain.next < 200 => {
                let upto = floor + (plain.next + 3 - floor) * u64::from(*share) / 256;
                let value = [u8::try_from(upto).expect("small")];
                store.purge(upto, &value).expect("purged");
                plain.log = plain.log.split_off(&(upto + 1));
                plain.slots.insert(Slot::Purged, Bytes::copy_from_slice(&value));
                plain.next = plain.next.max(upto + 1);
            }
            Call::Purge(_) => {}
            Call::Vote(term) => {
                store.put(Slot::Vote, &[*term]).expect("put");
                plain.slots.insert(Slot::Vote, Bytes::copy_from_slice(&[*term]));
            }
            Call::Sync => store.sync().expect("synced"),
            Call::Reopen => store = reopen(&folder, engine, store.as_ref()),
        }
        plain.check(store.as_ref(), call);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn redb_holds_what_a_list_holds(calls in vec(call(), 1..40)) {
        run(Engine::Redb, &calls);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn sled_holds_what_a_list_holds(calls in vec(call(), 1..25)) {
        run(Engine::Sled, &calls);
    }
}
