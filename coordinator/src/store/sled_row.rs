//! How entries of the log lie in sled's rows.
//!
//! A row is one entry, or several short ones that were appended together: sled copies a whole leaf
//! for every few rows that are written, so a row for each entry would be written many times over.
//! The key is the index of its first entry and the number of the piece, big-endian. The first piece
//! begins with the length of the whole body; where [`PACKED`] is set in it, the body is entries,
//! each with its length before it, and the row has one piece. Otherwise the body is one entry, in
//! pieces of at most [`Limits::STORE_VALUE_BYTES`].

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use warren_common::Limits;

use super::{Record, StoreError};

/// Bytes of a length.
const LENGTH: usize = 4;
/// Pieces of one entry: the piece number is 16 bits.
const MAX_ENTRY: usize = (u16::MAX as usize) * Limits::STORE_VALUE_BYTES;
/// The bit of a body's length that says that it is entries; no body is so long.
const PACKED: u32 = 1 << 31;

/// Returns the key of one piece of the row that begins with entry `index`.
pub(super) fn key(index: u64, piece: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&piece.to_be_bytes());
    key
}

/// Returns the index and the piece that a key names; none where it is no key of the log.
pub(super) fn parse(key: &[u8]) -> Option<(u64, u16)> {
    let (index, piece) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*index), u16::from_be_bytes(piece.try_into().ok()?)))
}

/// Cuts records into the rows that hold them, in order; no row is empty.
pub(super) fn rows(records: &[Record]) -> impl Iterator<Item = &[Record]> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let (mut count, mut bytes) = (0, LENGTH);
        for (_, record) in rest {
            bytes += LENGTH + record.len();
            if count > 0 && bytes > Limits::STORE_VALUE_BYTES {
                break;
            }
            count += 1;
        }
        let (row, after) = rest.split_at_checked(count.max(1))?;
        rest = after;
        Some(row)
    })
}

/// Returns the pieces of one row, as [`rows`] cut it.
pub(super) fn pieces(row: &[Record]) -> Result<Vec<Bytes>, StoreError> {
    let [(_, record)] = row else {
        let bytes = row.iter().map(|(_, record)| LENGTH + record.len()).sum::<usize>();
        let mut value = BytesMut::with_capacity(LENGTH + bytes);
        value.put_u32(length(bytes)? | PACKED);
        for (_, record) in row {
            value.put_u32(length(record.len())?);
            value.put_slice(record);
        }
        return Ok(vec![value.freeze()]);
    };
    let mut rest = record.clone();
    let start = rest.split_to(rest.len().min(Limits::STORE_VALUE_BYTES - LENGTH));
    let mut first = BytesMut::with_capacity(LENGTH + start.len());
    first.put_u32(length(record.len())?);
    first.put_slice(&start);
    let mut pieces = vec![first.freeze()];
    while !rest.is_empty() {
        pieces.push(rest.split_to(rest.len().min(Limits::STORE_VALUE_BYTES)));
    }
    Ok(pieces)
}

/// Returns the entries of the row that begins with entry `index`, or what is wrong with it.
pub(super) fn entries(index: u64, pieces: Vec<Bytes>) -> Result<Vec<Record>, String> {
    let mut pieces = pieces.into_iter();
    let mut first = pieces.next().unwrap_or_default();
    let length = first.try_get_u32().map_err(|_| format!("entry {index} has no beginning"))?;
    let body = match pieces.len() {
        0 => first,
        _ => std::iter::once(first).chain(pieces).collect::<Vec<_>>().concat().into(),
    };
    let expected = (length & !PACKED) as usize;
    if body.len() != expected {
        return Err(format!("entry {index}: {} of {expected} bytes", body.len()));
    }
    if length & PACKED == 0 {
        return Ok(vec![(index, body)]);
    }
    let (mut rest, mut records) = (body, Vec::new());
    for index in index.. {
        if rest.is_empty() {
            break;
        }
        let length = rest.try_get_u32().map_err(|_| format!("entry {index} is cut off"))? as usize;
        if rest.len() < length {
            return Err(format!("entry {index}: {} of {length} bytes", rest.len()));
        }
        records.push((index, rest.split_to(length)));
    }
    Ok(records)
}

fn length(bytes: usize) -> Result<u32, StoreError> {
    if bytes + LENGTH > MAX_ENTRY {
        return Err(StoreError::TooLong { bytes, limit: MAX_ENTRY - LENGTH });
    }
    Ok(u32::try_from(bytes).expect("bounded by MAX_ENTRY"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(sizes: &[usize]) -> Vec<Record> {
        (7..)
            .zip(sizes)
            .map(|(index, size)| (index, Bytes::from(vec![index as u8; *size])))
            .collect()
    }

    #[test]
    fn short_entries_share_a_row_and_long_ones_have_their_own() {
        let limit = Limits::STORE_VALUE_BYTES;
        let all =
            records(&[0, 100, limit - 8 - 4 - 4 - 100, 1, 1, limit, limit - 4, 3 * limit, 5, 6]);
        let cut: Vec<usize> = rows(&all).map(<[Record]>::len).collect();
        assert_eq!(cut, [3, 2, 1, 1, 1, 2]);
        for row in rows(&all) {
            let pieces = pieces(row).expect("short enough");
            assert!(pieces.iter().all(|piece| piece.len() <= limit), "{}", row[0].0);
            assert!(row.len() == 1 || pieces.len() == 1);
            assert_eq!(entries(row[0].0, pieces).expect("whole"), row);
        }
        assert_eq!(rows(&[]).count(), 0);
    }

    #[test]
    fn a_row_of_one_entry_is_written_as_before_there_were_packs() {
        let one = pieces(&records(&[3])).expect("short");
        assert_eq!(one, [Bytes::from_static(&[0, 0, 0, 3, 7, 7, 7])]);
    }

    #[test]
    fn a_row_that_is_cut_or_longer_is_damage() {
        let [whole] = &pieces(&records(&[3, 4])).expect("short")[..] else { panic!("one piece") };
        for end in 0..whole.len() {
            assert!(entries(7, vec![whole.slice(..end)]).is_err(), "cut to {end}");
        }
        let longer = Bytes::from([&whole[..], &[0]].concat());
        assert!(entries(7, vec![longer]).is_err());
        let mut inner = whole.to_vec();
        inner[7] = 200;
        assert!(entries(7, vec![inner.into()]).is_err(), "a length beyond the end");
        assert!(entries(7, Vec::new()).is_err());
    }
}
