//! A map by two keys: a map of maps, which holds each first key once.
//!
//! Keys come in ascending order where the second one is an id, and a persistent map is half empty
//! then: what it does not hold twice counts twice. On disk and in snapshots it is one flat map.

use std::{fmt, marker::PhantomData};

use imbl::OrdMap;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap as _,
};

/// A persistent map by `(A, B)`; cloning it is O(1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nested<A: Ord + Clone, B: Ord + Clone, V: Clone> {
    /// None of the inner ones is empty.
    maps: OrdMap<A, OrdMap<B, V>>,
    len: usize,
}

impl<A: Ord + Clone, B: Ord + Clone, V: Clone> Nested<A, B, V> {
    /// Returns the value of a key.
    pub fn get(&self, (a, b): &(A, B)) -> Option<&V> {
        self.maps.get(a)?.get(b)
    }

    /// Whether there is such a key.
    pub fn contains(&self, key: &(A, B)) -> bool {
        self.get(key).is_some()
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, (a, b): (A, B), value: V) {
        let added = self.maps.entry(a).or_default().insert(b, value).is_none();
        self.len += usize::from(added);
    }

    /// Removes a key and returns what it had.
    pub fn remove(&mut self, (a, b): &(A, B)) -> Option<V> {
        let map = self.maps.get_mut(a)?;
        let removed = map.remove(b);
        if map.is_empty() {
            self.maps.remove(a);
        }
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns everything under one first key, by the second.
    pub fn of<'s>(&'s self, a: &A) -> impl Iterator<Item = (&'s B, &'s V)> + use<'s, A, B, V> {
        self.maps.get(a).into_iter().flat_map(OrdMap::iter)
    }

    /// Returns all of it, in order.
    pub fn iter(&self) -> impl Iterator<Item = ((&A, &B), &V)> {
        self.maps.iter().flat_map(|(a, map)| map.iter().map(move |(b, value)| ((a, b), value)))
    }

    /// Whether the two are the same one; equal ones may not be.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        self.maps.ptr_eq(&other.maps)
    }
}

impl<A: Ord + Clone, B: Ord + Clone, V: Clone> Default for Nested<A, B, V> {
    fn default() -> Self {
        Self { maps: OrdMap::new(), len: 0 }
    }
}

impl<A: Ord + Clone, B: Ord + Clone, V: Clone> FromIterator<((A, B), V)> for Nested<A, B, V> {
    fn from_iter<I: IntoIterator<Item = ((A, B), V)>>(all: I) -> Self {
        let mut nested = Self::default();
        for (key, value) in all {
            nested.insert(key, value);
        }
        nested
    }
}

impl<A, B, V> Serialize for Nested<A, B, V>
where
    A: Ord + Clone + Serialize,
    B: Ord + Clone + Serialize,
    V: Clone + Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len))?;
        for (key, value) in self.iter() {
            map.serialize_entry(&key, value)?;
        }
        map.end()
    }
}

impl<'de, A, B, V> Deserialize<'de> for Nested<A, B, V>
where
    A: Ord + Clone + Deserialize<'de>,
    B: Ord + Clone + Deserialize<'de>,
    V: Clone + Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Flat(PhantomData))
    }
}

struct Flat<A, B, V>(PhantomData<(A, B, V)>);

impl<'de, A, B, V> Visitor<'de> for Flat<A, B, V>
where
    A: Ord + Clone + Deserialize<'de>,
    B: Ord + Clone + Deserialize<'de>,
    V: Clone + Deserialize<'de>,
{
    type Value = Nested<A, B, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map by pairs")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut all: M) -> Result<Self::Value, M::Error> {
        let mut nested = Nested::default();
        while let Some((key, value)) = all.next_entry()? {
            nested.insert(key, value);
        }
        Ok(nested)
    }
}

#[cfg(test)]
mod tests {
    use imbl::OrdSet;
    use proptest::prelude::*;

    use super::*;

    type Pairs = Nested<u8, u8, u16>;

    proptest! {
        #[test]
        fn it_does_what_a_flat_map_does(
            steps in prop::collection::vec((any::<bool>(), 0..4_u8, 0..8_u8, any::<u16>()), 0..80)
        ) {
            let (mut nested, mut flat) = (Pairs::default(), OrdMap::new());
            for (insert, a, b, value) in steps {
                if insert {
                    nested.insert((a, b), value);
                    flat.insert((a, b), value);
                } else {
                    prop_assert_eq!(nested.remove(&(a, b)), flat.remove(&(a, b)));
                }
                prop_assert_eq!(nested.get(&(a, b)), flat.get(&(a, b)));
                prop_assert_eq!((nested.len(), nested.is_empty()), (flat.len(), flat.is_empty()));
            }
            let own = |((a, b), value): ((&u8, &u8), &u16)| ((*a, *b), *value);
            let all: Vec<_> = nested.iter().map(own).collect();
            prop_assert_eq!(all, flat.clone().into_iter().collect::<Vec<_>>());
            for a in 0..4 {
                let under = nested.of(&a).map(|(b, value)| ((a, *b), *value));
                let wanted = flat.iter().filter(|((of, _), _)| *of == a).map(|(k, v)| (*k, *v));
                prop_assert!(under.eq(wanted));
            }
            let written = postcard::to_stdvec(&nested).expect("written");
            prop_assert_eq!(&written, &postcard::to_stdvec(&flat).expect("written"));
            prop_assert_eq!(postcard::from_bytes::<Pairs>(&written).expect("read"), nested);
        }
    }

    #[test]
    fn without_values_it_is_written_like_a_set() {
        let flat: OrdSet<(u8, u8)> = [(1, 2), (1, 3), (7, 0)].into_iter().collect();
        let nested: Nested<u8, u8, ()> = flat.iter().map(|pair| (*pair, ())).collect();
        let written = postcard::to_stdvec(&nested).expect("written");
        assert_eq!(written, postcard::to_stdvec(&flat).expect("written"));
    }
}
